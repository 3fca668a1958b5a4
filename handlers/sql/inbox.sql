-- name: seen
-- Which of some events an agent has settled: they are skipped.
SELECT event_id FROM slotwire.inbox WHERE agent = $1 AND event_id = ANY($2::uuid[]);

-- name: mark
-- Mark events as done, after their handlers were.
INSERT INTO slotwire.inbox (agent, event_id, done_at)
SELECT $1, event_id, $3 FROM unnest($2::uuid[]) AS event_id
ON CONFLICT (agent, event_id) DO NOTHING;

-- name: claim
-- Mark an event as done, first in a transaction: a second owner of the event waits here until the first one
-- ends, and then inserts nothing if that one committed.
INSERT INTO slotwire.inbox (agent, event_id, done_at) VALUES ($1, $2, $3)
ON CONFLICT (agent, event_id) DO NOTHING

-- name: marked_here
-- Whether the transaction that is open wrote an event's mark.
SELECT EXISTS (SELECT FROM slotwire.inbox
               WHERE agent = $1 AND event_id = $2 AND xmin = pg_current_xact_id_if_assigned()::xid);

-- name: marked_at
-- Whether an event has the mark that was written with a certain time: that of one run.
SELECT EXISTS (SELECT FROM slotwire.inbox WHERE agent = $1 AND event_id = $2 AND done_at = $3);

-- name: data_of_event
-- The data of an event that was too large to travel with its record.
SELECT data FROM slotwire.event_of($1);

-- name: event
-- An event of the log with its context, for an author who tries it.
SELECT * FROM slotwire.event_of($1);

-- name: chain
-- A booking and the others of its chain, the oldest first.
SELECT * FROM slotwire.chain_of($1, $2, $3);

-- name: bookings_now
-- How some bookings are now.
SELECT * FROM slotwire.bookings_now($1, $2);

-- name: read_state
-- What an agent remembers of a chain.
SELECT value FROM slotwire.agent_state WHERE agent = $1 AND org = $2 AND key = $3;

-- name: write_state
-- An agent remembers something of a chain, in place of what it did.
INSERT INTO slotwire.agent_state (agent, org, key, value, changed_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (agent, org, key) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at;

-- name: say_first
-- An agent remembers what something is about and who says it; where it remembers the same, who said that first.
INSERT INTO slotwire.agent_state AS s (agent, org, key, value, changed_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (agent, org, key) DO UPDATE
SET value = CASE WHEN s.value::json ->> 'about' = excluded.value::json ->> 'about' THEN s.value ELSE excluded.value END,
    changed_at = excluded.changed_at
RETURNING value;

-- name: grant_calls
-- Have `slotwire control` make calls to Calendly for an event; whether the log has it.
SELECT slotwire.grant_calls($1, $2, $3, $4);

-- name: give_mcp_run
-- Give a run a token of the MCP server, with its grant: which agent of MCP it is for, and until when.
SELECT name, expires_at FROM slotwire.give_mcp_run($1, $2, $3, $4, $5);

-- name: keep_mcp_run
-- A run goes on: whether its tokens are still good.
SELECT slotwire.keep_mcp_run($1, $2);

-- name: end_mcp_run
-- End the tokens of a run.
SELECT slotwire.end_mcp_run($1);

-- name: settings_for
-- What a shipped agent does for an organization, as somebody set it.
SELECT org, version, document, sealed, disabled_at, disabled_why FROM slotwire.agent_settings_for($1, $2);

-- name: disable_settings
-- A shipped agent's receiver is gone: use what was set for it no more.
SELECT slotwire.disable_agent_settings($1, $2, $3, $4, $5);
