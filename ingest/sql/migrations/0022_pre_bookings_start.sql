-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_start ON slotwire.bookings (start_time, invitee, org)
WHERE state = 'active';
