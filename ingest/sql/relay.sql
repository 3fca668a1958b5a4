-- name: read_identity
-- Which log this is and how many shards it has.
SELECT log_id, shards FROM slotwire.log

-- name: take_lease
-- Lead a shard, if nobody else does. A session that is silent for longer than the lease is ended by the server,
-- and the lock with it: that is how a frozen leader loses its place while its connection looks alive.
SELECT set_config('idle_session_timeout', $2, false) IS NOT NULL AND pg_try_advisory_lock(1936487279, $1) AS taken

-- name: hand_over
-- Let go of a shard, and tell whoever stands by.
SELECT pg_advisory_unlock(1936487279, ($1::text)::integer), pg_notify('slotwire_lease', $1)

-- name: hold_lease
-- The leader's sign of life.
SELECT 1

-- name: read_event_id
-- Which event stands at a position: the cursor is only good if it is the one the cursor names.
SELECT event_id FROM slotwire.events WHERE shard = $1 AND position = $2

-- name: read_batch
-- The next events after a position: at most $3 of them and about $4 bytes of data, at least one.
-- Data longer than $5 bytes stays here; `bytes` tells.
SELECT position, event_id, type, org, subject, key, time, recorded_at, origin, inferred, traceparent, tenant, bytes,
       CASE WHEN bytes <= $5 THEN data END AS data
FROM (
    SELECT *, sum(bytes) OVER (ORDER BY position) - bytes AS bytes_before
    FROM (
        SELECT *, length(data) AS bytes FROM slotwire.events
        WHERE shard = $1 AND position > $2 ORDER BY position LIMIT $3
    ) AS next
) AS counted
WHERE bytes_before < $4 ORDER BY position

-- name: write_mirror
-- Copy the cursor, and tell those who serve what is published. It may lag behind, so its commit need not wait for the disk:
-- nothing resumes from it silently.
WITH unhurried AS (
    SELECT set_config('synchronous_commit', 'off', true) AS done, pg_notify('slotwire_mcp', 'published') AS told
)
INSERT INTO slotwire.relay_mirror AS m (shard, log_id, position, event_id, published_at)
SELECT $1, $2, $3, $4, $5 FROM unhurried
ON CONFLICT (shard) DO UPDATE SET
    log_id = excluded.log_id, position = excluded.position, event_id = excluded.event_id,
    published_at = excluded.published_at, resumes = false

-- name: read_mirror
-- The copy of the cursor: to notice that the cursor was lost, for lag, and for `--cursor-from mirror`.
SELECT log_id, position, event_id, resumes FROM slotwire.relay_mirror WHERE shard = $1

-- name: pass_over_positions
-- Before the cursor goes back: what was published keeps its positions for itself.
SELECT slotwire.pass_over_positions(p_published => $1)

-- name: park_event
-- Keep note of an event the broker refuses, durably, before the cursor passes it.
INSERT INTO slotwire.parked_events (event_id, shard, position, reason, parked_at)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (event_id) DO NOTHING

-- name: read_lag
-- How many events wait (counted up to $3) and since when the oldest does.
SELECT count(*) AS events, min(recorded_at) AS since
FROM (
    SELECT recorded_at FROM slotwire.events WHERE shard = $1 AND position > $2 ORDER BY position LIMIT $3
) AS waiting

-- name: count_unpublished
-- How many events after what was published stand at or before a position: they would be left out.
SELECT count(*) FROM slotwire.events WHERE shard = $1 AND position > $2 AND position <= $3

-- name: find_place
-- The last event at or before a position, for `--cursor-from POSITION`.
SELECT position, event_id FROM slotwire.events WHERE shard = $1 AND position <= $2 ORDER BY position DESC LIMIT 1

-- name: read_end
-- Where the log ends, over all shards: a position beyond it is a slip.
SELECT coalesce(max(e.position), 0) FROM slotwire.log CROSS JOIN LATERAL generate_series(0, shards - 1) AS s (shard)
CROSS JOIN LATERAL (SELECT position FROM slotwire.events WHERE shard = s.shard ORDER BY position DESC LIMIT 1) AS e
