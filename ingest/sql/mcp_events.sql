-- name: heads
-- How far each shard is published.
SELECT log_id, shard, position, complete FROM slotwire.mcp_heads()

-- name: kept
-- From which position on all events are kept.
SELECT position, since FROM slotwire.mcp_kept($1)

-- name: sights
-- What connected users see of an organization, by the place of the question.
SELECT q.place, s.shard, s.whole
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS q (org, user_uri, place)
CROSS JOIN LATERAL slotwire.mcp_sight(q.org, q.user_uri) AS s

-- name: published
-- What is published after a position: of everybody, or of one type of one organization.
SELECT position, event_id, type, org, subject, key, time, recorded_at, origin, data, booked, hosts
FROM slotwire.mcp_published(p_shard => $1, p_org => $2, p_type => $3, p_after => $4, p_upto => $5, p_limit => $6,
                            p_bytes => $7)

-- name: subscription
-- A webhook subscription.
SELECT * FROM slotwire.mcp_subscriptions WHERE id = $1

-- name: wait_for_subscription
-- Two requests for one subscription come one after the other, also where it is not there yet.
SELECT pg_advisory_xact_lock(1936487293, ('x' || left($1, 7))::bit(28)::integer)

-- name: lock_subscription
-- The same, to change it.
SELECT * FROM slotwire.mcp_subscriptions WHERE id = $1 FOR UPDATE

-- name: wait_for_room
-- New ones of an agent for a user are counted one at a time.
SELECT pg_advisory_xact_lock(1936487296, ('x' || left(md5($1::text || ' ' || $2::text), 7))::bit(28)::integer)

-- name: count_subscriptions
-- How many others than $4 an agent has for a user that have not ended.
SELECT count(*) FROM slotwire.mcp_subscriptions WHERE agent = $1 AND user_uri = $2 AND expires_at > $3 AND id <> $4

-- name: add_subscription
-- A new one, or one that had ended, begun anew.
INSERT INTO slotwire.mcp_subscriptions AS s (id, slot, agent, user_uri, org, shard, name, arguments, url, profile, secret,
    position, seen_at, version, created_at, changed_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $16)

-- name: refresh_subscription
-- One that goes on: another secret, if it was given one, signs beside the old one for a while.
UPDATE slotwire.mcp_subscriptions s SET
    profile = $2, secret = coalesce($3, s.secret),
    old_secret = CASE WHEN $3::bytea IS NULL THEN s.old_secret ELSE s.secret END,
    old_secret_until = CASE WHEN $3::bytea IS NULL THEN s.old_secret_until ELSE $4::timestamptz END,
    gap_from = $5, gap_told = $6, active = true, given_up = 0,
    tries = CASE WHEN s.active THEN s.tries ELSE 0 END,
    next_try_at = CASE WHEN s.active THEN s.next_try_at END,
    version = s.version + 1, changed_at = $7, expires_at = $8
WHERE id = $1

-- name: remove_subscription
-- It ends. Answers whether it was there.
DELETE FROM slotwire.mcp_subscriptions WHERE id = $1 RETURNING id

-- name: of_slots
-- Subscriptions of some slots that have not ended.
SELECT * FROM slotwire.mcp_subscriptions WHERE slot = ANY ($1) AND expires_at > $2

-- name: changed_of_slots
-- Which of them were made or refreshed since a time.
SELECT id, version FROM slotwire.mcp_subscriptions WHERE changed_at > $1 AND slot = ANY ($2) AND expires_at > $3

-- name: some_subscriptions
-- Some, by their ids.
SELECT * FROM slotwire.mcp_subscriptions WHERE id = ANY ($1)

-- name: versions
-- Whether subscriptions are still there and as they were, asked before something is sent to them.
SELECT id, version, active, expires_at FROM slotwire.mcp_subscriptions WHERE id = ANY ($1)

-- name: advance
-- What became of tries, for several subscriptions: each moves only if it is where it was read. A give-up leaves a gap in
-- the same commit, and what was sent gets into the audit with it. Losing the last of these commits in a crash repeats
-- deliveries, with the same event ids.
WITH unhurried AS (SELECT set_config('synchronous_commit', 'off', true) AS done),
moved AS (
    UPDATE slotwire.mcp_subscriptions s SET
        position = n.position, seen_at = n.seen_at, tries = n.tries, next_try_at = n.next_try_at, given_up = n.given_up,
        last_delivery_at = coalesce(n.delivered_at, s.last_delivery_at),
        last_error = n.last_error,
        failed_since = CASE WHEN n.last_error IS NOT NULL THEN coalesce(s.failed_since, $12) END,
        gap_from = CASE WHEN n.gap = 'told' THEN NULL WHEN n.gap = 'new' THEN coalesce(s.gap_from, n.was)
                        ELSE s.gap_from END,
        gap_told = CASE WHEN n.gap = '' THEN s.gap_told END,
        active = n.active
    FROM unhurried, unnest($1::text[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::smallint[],
                           $6::timestamptz[], $7::smallint[], $8::timestamptz[], $9::text[], $10::text[],
                           $11::boolean[])
        AS n (id, was, position, seen_at, tries, next_try_at, given_up, delivered_at, last_error, gap, active)
    WHERE s.id = n.id AND s.position = n.was
    RETURNING s.id, s.gap_from, s.version, s.active, s.expires_at
)
SELECT noted.rows, m.id, m.gap_from, m.version, m.active, m.expires_at
FROM (SELECT slotwire.note_mcp_deliveries($12, $13, $14, $15, $16) AS rows) AS noted LEFT JOIN moved m ON true

-- name: verified_endpoint
-- Whether an address has answered a challenge lately.
SELECT true FROM slotwire.mcp_endpoints WHERE agent = $1 AND user_uri = $2 AND url = $3 AND verified_at > $4

-- name: verify_endpoint
-- It has.
INSERT INTO slotwire.mcp_endpoints (agent, user_uri, url, verified_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (agent, user_uri, url) DO UPDATE SET verified_at = excluded.verified_at

-- name: wait_for_challenges
-- Challenges are counted one at a time.
SELECT pg_advisory_xact_lock(1936487294)

-- name: count_challenge
-- Note a challenge if there were not too many: of the agent for the user, and to the host. Answers whether it was noted.
INSERT INTO slotwire.mcp_challenges (agent, user_uri, host, at)
SELECT $1, $2, $3, $4
WHERE (SELECT count(*) FROM slotwire.mcp_challenges c WHERE c.agent = $1 AND c.user_uri = $2 AND c.at > $5) < $6
  AND (SELECT count(*) FROM slotwire.mcp_challenges c WHERE c.host = $3 AND c.at > $5) < $7
RETURNING true

-- name: sweep_subscriptions
-- Remove those that ended a while ago.
DELETE FROM slotwire.mcp_subscriptions WHERE id = ANY (ARRAY(
    SELECT id FROM slotwire.mcp_subscriptions WHERE expires_at < $1 ORDER BY expires_at LIMIT 1000))

-- name: sweep_endpoints
-- Forget which addresses answered long ago.
DELETE FROM slotwire.mcp_endpoints WHERE verified_at < $1

-- name: sweep_challenges
-- Forget challenges that no limit counts any more.
DELETE FROM slotwire.mcp_challenges WHERE at < $1

-- name: take_slots
-- Take slots that nobody has, at most so many: the locks last as long as this session.
SELECT s.slot::smallint AS slot
FROM unnest($1::integer[]) AS s (slot)
WHERE pg_try_advisory_lock(1936487291, s.slot)
LIMIT $2

-- name: leave_slots
-- Give slots to somebody else.
SELECT pg_advisory_unlock(1936487291, s.slot) FROM unnest($1::integer[]) AS s (slot)

-- name: join_replicas
-- Be counted among the processes that deliver, as long as this session lasts.
SELECT pg_advisory_lock_shared(1936487292, 0)

-- name: count_replicas
-- How many processes deliver.
SELECT count(*) FROM pg_catalog.pg_locks
WHERE locktype = 'advisory' AND classid = 1936487292 AND objid = 0 AND granted
  AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())

-- name: end_in_silence
-- A process that is frozen loses its session, and what it holds.
SELECT set_config('idle_session_timeout', $1, false)
