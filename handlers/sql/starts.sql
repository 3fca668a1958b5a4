-- Where agents begin to read.

-- name: starts
-- Where an agent begins in the partitions of some topics, and whether it has.
SELECT topic, partition, start_offset, begun_at IS NOT NULL AS begun
FROM slotwire.agent_starts WHERE agent = $1 AND topic = ANY ($2::text[])

-- name: decide
-- Decide where an agent begins in partitions of a topic. What was decided before stays.
INSERT INTO slotwire.agent_starts (agent, topic, partition, start_offset, decided_at, begun_at)
SELECT $1, $2, d.partition, d.start_offset, $3::timestamptz, CASE WHEN d.begun THEN $3::timestamptz END
FROM unnest($4::integer[], $5::bigint[], $6::boolean[]) AS d (partition, start_offset, begun)
ORDER BY d.partition
ON CONFLICT (agent, topic, partition) DO NOTHING

-- name: begin
-- An agent's offsets of some partitions are committed: it has begun there. Answers where it had not before.
UPDATE slotwire.agent_starts SET begun_at = $4
WHERE agent = $1 AND begun_at IS NULL AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::integer[]))
RETURNING topic, partition
