-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_chain ON slotwire.bookings (chain_key, org);
