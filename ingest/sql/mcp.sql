-- Statements of `ingest/mcp`: every one calls a function of the owner's, as `slotwire_mcp` may.

-- name: mcp_agent_of
-- The agent that has a secret.
SELECT agent, name FROM slotwire.mcp_agent_of($1, $2)

-- name: mcp_users_of
-- The connected users that an agent may act for, or one of them.
SELECT name, org, organization, user_uri, tools, event_types, profile FROM slotwire.mcp_users_of($1, $2, $3)

-- name: mcp_run_of
-- Whom the token of a handler's run acts for.
SELECT agent, name, organization, user_uri, tools, event_types, profile, chain, expires_at FROM slotwire.mcp_run_of($1, $2)

-- name: mcp_now
-- What agents have of users now, by the place of the question.
SELECT q.place, u.name, u.organization, u.user_uri, u.tools, u.event_types, u.profile
FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS q (agent, user_uri, place)
CROSS JOIN LATERAL slotwire.mcp_users_of(q.agent, q.user_uri, 1) AS u

-- name: grant_mcp_call
-- Grant an agent one call.
SELECT slotwire.grant_mcp_call($1, $2, $3, $4, $5, $6, $7)

-- name: note_mcp_use
-- Write a call of a tool into the audit.
SELECT slotwire.note_mcp_use($1, $2, $3, $4, $5, $6, $7, $8)

-- name: mcp_bookings
-- Bookings that a user hosts, among so many after an invitee's URI.
SELECT found, looked, last FROM slotwire.mcp_bookings($1, $2, $3, $4, $5, $6)

-- name: mcp_chain
-- The bookings of the chain that an invitee belongs to.
SELECT * FROM slotwire.mcp_chain($1, $2, $3, $4, $5)

-- name: mcp_events_of
-- The events of some invitees, the newest first.
SELECT event_id, type, time, subject, data FROM slotwire.mcp_events_of($1, $2, $3)

-- name: mcp_health
-- How an organization's subscriptions do, and what waits for a person.
SELECT slotwire.mcp_health($1, $2, $3)
