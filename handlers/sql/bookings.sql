-- name: last_event
-- The place of an organization's newest event.
SELECT slotwire.last_event_of($1);

-- name: bookings
-- The active bookings whose meetings start in a stretch of time, by their start.
SELECT * FROM slotwire.bookings_between($1, $2, $3, $4, $5);

-- name: changes
-- What happened to bookings between two places in the log, in its order.
SELECT * FROM slotwire.booking_changes($1, $2, $3, $4, $5, $6);

-- name: created
-- What an invitee told when they booked.
SELECT slotwire.booked_with($1, $2);

-- name: attention
-- What of an organization waits for a person.
SELECT * FROM slotwire.attention_of($1, $2);
