-- Which runs may have ended processes.

-- name: drop_noted
-- Notes of events of some partitions that were done all the same, and those that are older than records are kept.
DELETE FROM slotwire.noted_runs r USING unnest($2::text[], $3::integer[]) AS mine (topic, partition)
WHERE r.agent = $1 AND r.topic = mine.topic AND r.partition = mine.partition
  AND (r.at < $4 OR EXISTS (SELECT FROM slotwire.inbox i WHERE i.agent = r.agent AND i.event_id = r.event_id))

-- name: conclude
-- Processes have died that worked on some partitions: with what they ran. It counts as a death of a run only where nothing
-- else that was suspected as much ran in that process: in any partition, of any agent.
UPDATE slotwire.noted_runs r
SET state = 'died', at = $5, seen = r.seen + 1,
    deaths = r.deaths + CASE WHEN EXISTS (
        SELECT FROM slotwire.noted_runs o
        WHERE o.process = r.process AND o.state <> 'ended'
          AND (o.agent, o.topic, o.partition, o.event_id) <> (r.agent, r.topic, r.partition, r.event_id)
          AND (r.seen = 0 OR o.seen > (o.state = 'died')::integer)
    ) THEN 0 ELSE 1 END
FROM unnest($2::text[], $3::integer[], $4::uuid[]) AS d (topic, partition, process)
WHERE r.agent = $1 AND r.topic = d.topic AND r.partition = d.partition AND r.process = d.process AND r.state = 'running'

-- name: suspects
-- The events of some partitions with which processes have died.
SELECT r.topic, r.partition, r.event_id, r.seen, r.deaths
FROM slotwire.noted_runs r JOIN unnest($2::text[], $3::integer[]) AS mine (topic, partition)
    ON r.topic = mine.topic AND r.partition = mine.partition
WHERE r.agent = $1 AND r.seen > 0

-- name: note_runs
-- Runs begin.
INSERT INTO slotwire.noted_runs (agent, topic, partition, event_id, process, state, at)
SELECT $1, w.topic, w.partition, w.event_id, $5::uuid, 'running', $6::timestamptz
FROM unnest($2::text[], $3::integer[], $4::uuid[]) AS w (topic, partition, event_id)
ORDER BY w.topic, w.partition, w.event_id
ON CONFLICT (agent, topic, partition, event_id) DO UPDATE
SET process = excluded.process, state = excluded.state, at = excluded.at

-- name: end_runs
-- Runs have ended, and their process has not. Of an event that is suspected the note stays until it is settled.
WITH ended AS (
    SELECT * FROM unnest($2::text[], $3::integer[], $4::uuid[]) AS w (topic, partition, event_id)
), gone AS (
    DELETE FROM slotwire.noted_runs r USING ended w
    WHERE r.agent = $1 AND r.topic = w.topic AND r.partition = w.partition AND r.event_id = w.event_id
      AND r.process = $5 AND r.seen = 0
)
UPDATE slotwire.noted_runs r SET state = 'ended', at = $6 FROM ended w
WHERE r.agent = $1 AND r.topic = w.topic AND r.partition = w.partition AND r.event_id = w.event_id
  AND r.process = $5 AND r.seen > 0

-- name: drop_note
-- An event that was suspected is settled.
DELETE FROM slotwire.noted_runs WHERE agent = $1 AND topic = $2 AND partition = $3 AND event_id = $4
