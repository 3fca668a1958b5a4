-- What the owner runs after a restore, by `slotwire migrate --after-restore`.

-- name: pass_over_all
-- After a restore: let the log go on beyond what was published ($1), and beyond what it holds.
SELECT slotwire.pass_over_positions(greatest($1, (
    SELECT coalesce(max(e.position), 0) FROM slotwire.log CROSS JOIN LATERAL generate_series(0, shards - 1) AS s (shard)
    CROSS JOIN LATERAL (SELECT position FROM slotwire.events WHERE shard = s.shard ORDER BY position DESC LIMIT 1) AS e)))

-- name: resume_from
-- After a restore: the relay goes on from this place although the cursor in Kafka is beyond the log.
INSERT INTO slotwire.relay_mirror AS m (shard, log_id, position, event_id, published_at, resumes)
VALUES ($1, $2, $3, $4, $5, true)
ON CONFLICT (shard) DO UPDATE SET log_id = excluded.log_id, position = excluded.position, event_id = excluded.event_id,
    published_at = excluded.published_at, resumes = true

-- name: last_accepted
-- When the last delivery came that the database still has; null without any.
SELECT max(received_at) FROM (
    SELECT d.received_at FROM slotwire.log CROSS JOIN LATERAL generate_series(0, shards - 1) AS s (shard)
    CROSS JOIN LATERAL (
        SELECT received_at FROM slotwire.deliveries WHERE shard = s.shard ORDER BY position DESC LIMIT 1
    ) AS d
) AS latest

-- name: fetch_again
-- After a restore: have each organization's meetings that start at a time or later fetched again.
UPDATE slotwire.organizations SET backfill_from = least(backfill_from, $1) WHERE ended_at IS NULL RETURNING org
