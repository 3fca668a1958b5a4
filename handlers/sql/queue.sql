-- What waits for an agent beside its topics, and what it gave up.

-- name: queue_heads
-- The first record of each lane that waits in some partitions and is due by a time; at most so many, or all for null.
SELECT h.topic, h.partition, h.lane FROM (
    SELECT DISTINCT ON (q.topic, q.partition, q.lane) q.topic, q.partition, q.lane, q.due_at
    FROM slotwire.agent_queue q JOIN unnest($2::text[], $3::integer[]) AS mine (topic, partition)
        ON q.topic = mine.topic AND q.partition = mine.partition
    WHERE q.agent = $1
    ORDER BY q.topic, q.partition, q.lane, q.record_offset
) h
WHERE h.due_at <= $4 LIMIT $5

-- name: queue_first
-- The first record of each of some lanes, with what its dead letter says where it is driven again.
SELECT w.topic, w.partition, w.lane, q.record_offset, q.key, q.value, q.header_names, q.header_values, q.published_at,
       q.attempts, q.due_at, q.letter, d.newer_sequence, d.edited_at IS NOT NULL AS edited
FROM unnest($2::text[], $3::integer[], $4::bytea[]) AS w (topic, partition, lane)
CROSS JOIN LATERAL (
    SELECT * FROM slotwire.agent_queue q
    WHERE q.agent = $1 AND q.topic = w.topic AND q.partition = w.partition AND q.lane = w.lane
    ORDER BY q.record_offset LIMIT 1
) q
LEFT JOIN slotwire.dead_letters d ON d.id = q.letter

-- name: queue_put
-- Put a record at the end of its lane, unless the lane or the agent has no room; answers whether it waits there now.
WITH room AS (
    SELECT (SELECT count(*) FROM slotwire.agent_queue WHERE agent = $1) < $14
       AND (SELECT count(*) FROM slotwire.agent_queue
            WHERE agent = $1 AND topic = $2 AND partition = $3 AND lane = $5) < $15
        OR EXISTS (SELECT FROM slotwire.agent_queue
                   WHERE agent = $1 AND topic = $2 AND partition = $3 AND record_offset = $4) AS free
), put AS (
    INSERT INTO slotwire.agent_queue (agent, topic, partition, record_offset, lane, event_id, key, value,
        header_names, header_values, published_at, attempts, due_at, queued_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $16 FROM room WHERE free
    ON CONFLICT (agent, topic, partition, record_offset) DO NOTHING
)
SELECT free FROM room

-- name: queue_postpone
-- A record at the head of its lane is tried again later.
UPDATE slotwire.agent_queue SET attempts = $5, due_at = $6
WHERE agent = $1 AND topic = $2 AND partition = $3 AND record_offset = $4

-- name: queue_settle
-- Records that waited are settled; so are their dead letters, unless they were given up again. One whose dead letter is
-- driven again meanwhile stays.
WITH gone AS (
    DELETE FROM slotwire.agent_queue q
    USING unnest($2::text[], $3::integer[], $4::bigint[], $6::uuid[]) AS w (topic, partition, record_offset, letter)
    WHERE q.agent = $1 AND q.topic = w.topic AND q.partition = w.partition AND q.record_offset = w.record_offset
      AND q.letter IS NOT DISTINCT FROM w.letter
    RETURNING q.letter
)
UPDATE slotwire.dead_letters SET state = 'settled', changed_at = $5
WHERE id IN (SELECT letter FROM gone) AND state = 'queued'

-- name: queue_length
-- How many records of some partitions wait.
SELECT count(*) FROM slotwire.agent_queue q JOIN unnest($2::text[], $3::integer[]) AS mine (topic, partition)
    ON q.topic = mine.topic AND q.partition = mine.partition
WHERE q.agent = $1

-- name: lettered_lanes
-- The lanes of some partitions that have dead letters which may be driven again.
SELECT DISTINCT d.topic, d.partition, d.lane
FROM slotwire.dead_letters d JOIN unnest($2::text[], $3::integer[]) AS mine (topic, partition)
    ON d.topic = mine.topic AND d.partition = mine.partition
WHERE d.agent = $1 AND d.state IN ('open', 'queued')

-- name: letters_passed
-- A newer event of a lane is settled: its dead letters are older than that.
UPDATE slotwire.dead_letters SET newer_sequence = greatest(newer_sequence, $6)
WHERE agent = $1 AND topic = $2 AND partition = $3 AND lane = $4 AND record_offset < $5 AND state IN ('open', 'queued')

-- name: letter_put
-- An agent gives a record up, for the first time or again.
INSERT INTO slotwire.dead_letters (id, agent, topic, partition, record_offset, lane, org, event_id, type, subject,
    sequence, key, value, header_names, header_values, published_at, at, reason, attempts, trace, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $17)
ON CONFLICT (agent, topic, partition, record_offset) DO UPDATE
SET at = EXCLUDED.at, reason = EXCLUDED.reason, attempts = EXCLUDED.attempts, trace = EXCLUDED.trace,
    state = 'open', changed_at = EXCLUDED.at, note = NULL, 
    times = slotwire.dead_letters.times + (slotwire.dead_letters.state <> 'open')::integer
