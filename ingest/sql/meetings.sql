-- Moments of scheduled events, told as events.

-- name: begin_meetings
-- Begin to tell a moment of scheduled events: what comes from now on.
INSERT INTO slotwire.meetings_told (kind, begun_at, reached, reached_key, looked_at) VALUES ($1, $2, $2, '', $2)
ON CONFLICT (kind) DO NOTHING

-- name: end_meetings
-- Tell none any more.
DELETE FROM slotwire.meetings_told

-- name: end_meeting
-- Forget how far a moment was told, unless somebody has moved it.
DELETE FROM slotwire.meetings_told WHERE kind = $1 AND reached = $2

-- name: meetings_told
-- Up to where a moment of scheduled events was told.
SELECT begun_at, reached, reached_key, looked_at FROM slotwire.meetings_told WHERE kind = $1

-- name: meetings_of_span
-- Some of the bookings whose scheduled events start, or end, in a span of time.
SELECT * FROM slotwire.meetings_of_span($1, $2, $3, $4, $5, $6, $7)

-- name: tell_meetings
-- Move a moment on, with the events that come in by the door; the shards that have grown, null where somebody has moved it.
SELECT slotwire.tell_meetings($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: known_events
-- Which of some events the log has.
SELECT event_id FROM slotwire.identities WHERE event_id = ANY ($1::uuid[])
