-- name: seen
-- Whether an agent has settled an event: it is skipped then.
SELECT EXISTS (SELECT FROM slotwire.inbox WHERE agent = $1 AND event_id = $2);

-- name: claim
-- Mark an event as done. First in a transaction: a second owner of the event waits here until the first one
-- ends, and then gets no row if that one committed.
INSERT INTO slotwire.inbox (agent, event_id, done_at) VALUES ($1, $2, $3)
ON CONFLICT (agent, event_id) DO NOTHING
RETURNING true;

-- name: data_of_event
-- The data of an event that was too large to travel with its record.
SELECT data FROM slotwire.events WHERE event_id = $1;
