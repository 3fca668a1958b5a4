-- slotwire: outside a transaction
-- By the first two of a chain's 32 digits: bookings that begin with the same ones share an entry.
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_of_chain ON slotwire.bookings (org, left(chain_key, 2));
