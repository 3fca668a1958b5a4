-- slotwire: outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS slotwire.bookings_chain;
