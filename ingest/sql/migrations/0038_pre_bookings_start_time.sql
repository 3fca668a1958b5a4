-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_start_time ON slotwire.bookings (start_time) WHERE state = 'active';
