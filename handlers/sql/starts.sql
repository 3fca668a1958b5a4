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
-- A process works on some partitions of an agent, whose offsets are committed. Answers where the agent had not begun before,
-- and which process had not left before this one came.
WITH before AS (
    SELECT topic, partition, begun_at, process FROM slotwire.agent_starts
    WHERE agent = $1 AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::integer[]))
    ORDER BY topic, partition FOR UPDATE
)
UPDATE slotwire.agent_starts s SET begun_at = coalesce(s.begun_at, $4), process = $5
FROM before b WHERE s.agent = $1 AND s.topic = b.topic AND s.partition = b.partition
RETURNING s.topic, s.partition, b.begun_at IS NULL AS begins, b.process

-- name: leave
-- A process works on no partition of an agent any more. Those that have died before it on some are named in its place.
UPDATE slotwire.agent_starts s SET process = (
    SELECT d.process FROM unnest($3::text[], $4::integer[], $5::uuid[]) AS d (topic, partition, process)
    WHERE d.topic = s.topic AND d.partition = s.partition)
WHERE s.agent = $1 AND s.process = $2
