-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_end_time ON slotwire.bookings (end_time) WHERE state = 'active';
