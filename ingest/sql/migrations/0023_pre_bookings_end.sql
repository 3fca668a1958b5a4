-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_end ON slotwire.bookings (end_time, invitee, org)
WHERE state = 'active';
