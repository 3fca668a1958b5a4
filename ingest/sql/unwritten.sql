-- What is accepted and not yet written: the writer and `doctor` ask.

-- name: unwritten
-- Of one shard, or of each: up to where everything is written, when the head last moved, and what is accepted beyond it.
SELECT s.shard, h.position, h.at, coalesce(newest.total - h.total, 0)::bigint AS bytes, oldest.received_at AS since
FROM slotwire.log
CROSS JOIN LATERAL generate_series(0, shards - 1) AS s (shard)
CROSS JOIN LATERAL (
    SELECT position, total, at FROM slotwire.heads WHERE shard = s.shard ORDER BY version DESC LIMIT 1
) AS h
LEFT JOIN LATERAL (
    SELECT total FROM slotwire.deliveries WHERE shard = s.shard AND position > h.position ORDER BY position DESC LIMIT 1
) AS newest ON true
LEFT JOIN LATERAL (
    SELECT received_at FROM slotwire.deliveries WHERE shard = s.shard AND position > h.position ORDER BY position LIMIT 1
) AS oldest ON true
WHERE $1::smallint IS NULL OR s.shard = $1
ORDER BY s.shard
