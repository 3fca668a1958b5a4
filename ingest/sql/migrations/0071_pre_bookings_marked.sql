-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_marked ON slotwire.bookings (org, start_time)
WHERE marks <> '[]';
