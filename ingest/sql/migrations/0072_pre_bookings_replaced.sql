-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_replaced ON slotwire.bookings (org, invitee)
WHERE state = 'active' AND new_invitee IS NOT NULL;
