-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_org_start_canceled ON slotwire.bookings (org, start_time)
WHERE state = 'canceled';
