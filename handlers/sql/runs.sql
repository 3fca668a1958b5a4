-- name: runs_in_use
-- Whether an agent has runs with a journal.
SELECT EXISTS (SELECT FROM slotwire.runs WHERE agent = $1);

-- name: runs_of_keys
-- The runs that events of some keys may concern, in the order of the log, with what the open wait of each takes.
SELECT r.event_id, r.org, r.key, r.version, r.state, r.attempts, r.topic, r.partition, r.position, r.place, r.record,
       e.awaited
FROM unnest($2::text[], $3::text[]) AS wanted (org, key)
JOIN slotwire.runs r ON r.agent = $1 AND r.org = wanted.org AND r.key = wanted.key AND r.state <> 'given_up'
LEFT JOIN slotwire.run_entries e ON e.agent = r.agent AND e.event_id = r.event_id AND e.state = 'open'
ORDER BY r.position;

-- name: lock_run
-- A run, locked for whoever claims it, and whether a step of it has begun and not ended.
SELECT r.version, r.state, r.owner, r.epoch, r.until, r.attempts, r.position, r.place, r.record IS NOT NULL AS set_aside,
       EXISTS (SELECT FROM slotwire.run_entries e
               WHERE e.agent = r.agent AND e.event_id = r.event_id AND e.state = 'started') AS in_a_step
FROM slotwire.runs r WHERE r.agent = $1 AND r.event_id = $2 FOR UPDATE;

-- name: make_run
-- A run begins; nothing where another member has begun it at the same moment.
INSERT INTO slotwire.runs (agent, event_id, org, key, subject, type, version, state, owner, epoch, until,
                           topic, partition, position, place, began_at, changed_at, id)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'running', $8, 1, $9, $10, $11, $12, $13, $14, $14, $15)
ON CONFLICT (agent, event_id) DO NOTHING
RETURNING epoch;

-- name: claim_run
-- A member takes a run that it has locked.
UPDATE slotwire.runs
SET state = 'running', reason = '', owner = $3, epoch = epoch + 1, until = $4, changed_at = $5, version = $6,
    attempts = CASE WHEN state = 'given_up' THEN 0 ELSE attempts END,
    due_at = CASE WHEN record IS NULL THEN NULL ELSE $4::timestamptz END
WHERE agent = $1 AND event_id = $2
RETURNING epoch, attempts;

-- name: rename_entry
-- A declared migration gives an entry another name.
UPDATE slotwire.run_entries SET name = $4 WHERE agent = $1 AND event_id = $2 AND number = $3;

-- name: drop_entry
-- A declared migration drops an entry that its code has no more.
DELETE FROM slotwire.run_entries WHERE agent = $1 AND event_id = $2 AND number = $3;

-- name: entries
-- The journal of a run.
SELECT number, name, kind, state, result, awaited, deadline FROM slotwire.run_entries
WHERE agent = $1 AND event_id = $2 ORDER BY number;

-- name: start_step
-- A step begins: committed before its function is called, by the run's owner only.
WITH mine AS (
    SELECT FROM slotwire.runs WHERE agent = $1 AND event_id = $2 AND epoch = $3 AND state = 'running' FOR UPDATE
)
INSERT INTO slotwire.run_entries (agent, event_id, number, name, kind, state, began_at)
SELECT $1, $2, $4::integer, $5::text, 'step', 'started', $6::timestamptz FROM mine
ON CONFLICT (agent, event_id, number) DO UPDATE SET began_at = excluded.began_at
RETURNING number;

-- name: end_entry
-- What a step returned, or what ended a wait: one compare and set, by the run's owner only.
WITH mine AS (
    UPDATE slotwire.runs SET changed_at = $7, position = greatest(position, $8), place = greatest(place, $9)
    WHERE agent = $1 AND event_id = $2 AND epoch = $3 AND state = 'running'
    RETURNING 1
)
UPDATE slotwire.run_entries SET state = 'ended', result = $6, ended_at = $7 FROM mine
WHERE agent = $1 AND event_id = $2 AND number = $4 AND state = $5
RETURNING number;

-- name: undo_step
-- A step's function raised: it has not happened, and begins again with the next run.
WITH mine AS (
    SELECT FROM slotwire.runs WHERE agent = $1 AND event_id = $2 AND epoch = $3 AND state = 'running' FOR UPDATE
)
DELETE FROM slotwire.run_entries USING mine WHERE agent = $1 AND event_id = $2 AND number = $4 AND state = 'started';

-- name: open_wait
-- A wait begins, and the run is set aside with its event, whole, until then.
WITH mine AS (
    UPDATE slotwire.runs
    SET state = 'waiting', record = coalesce(record, $8), due_at = $9::timestamptz, changed_at = $10::timestamptz
    WHERE agent = $1 AND event_id = $2 AND epoch = $3 AND state = 'running'
    RETURNING 1
)
INSERT INTO slotwire.run_entries (agent, event_id, number, name, kind, state, awaited, deadline, began_at)
SELECT $1, $2, $4::integer, $5::text, $6::text, 'open', $7::text[], $9::timestamptz, $10::timestamptz FROM mine
RETURNING number;

-- name: set_aside
-- A run is set aside with its event, whole: again for its open wait, or held.
UPDATE slotwire.runs
SET state = $4, reason = $5, record = coalesce(record, $6), due_at = $7, until = $8, changed_at = $8
WHERE agent = $1 AND event_id = $2 AND epoch = $3 AND state = 'running'
RETURNING epoch;

-- name: count_attempt
-- A run failed, and counts.
UPDATE slotwire.runs SET attempts = attempts + 1, changed_at = $4
WHERE agent = $1 AND event_id = $2 AND epoch = $3 AND state = 'running';

-- name: release_run
-- Whoever worked on a run stops: the next one need not wait until the claim ends.
UPDATE slotwire.runs SET until = $4, due_at = CASE WHEN record IS NULL THEN NULL ELSE $4::timestamptz END
WHERE agent = $1 AND event_id = $2 AND epoch = $3 AND state = 'running';

-- name: renew_runs
-- A member still works on these runs.
UPDATE slotwire.runs SET until = $4, due_at = CASE WHEN record IS NULL THEN NULL ELSE $4::timestamptz END
WHERE agent = $1 AND owner = $2 AND event_id = ANY ($3::uuid[]) AND state = 'running';

-- name: finish_run
-- The event is done: its journal is needed no more.
DELETE FROM slotwire.runs WHERE agent = $1 AND event_id = $2;

-- name: give_up_run
-- The event is a dead letter; its journal stays for when it is driven again.
UPDATE slotwire.runs SET state = 'given_up', reason = $3, record = NULL, due_at = NULL, changed_at = $4
WHERE agent = $1 AND event_id = $2;

-- name: due_runs
-- Runs of some partitions that are to go on without an event: due, and of a version that this process finishes.
SELECT r.event_id, r.state, r.topic, r.partition, r.place, r.record, r.version
FROM unnest($2::text[], $3::integer[]) AS mine (topic, partition)
JOIN slotwire.runs r ON r.agent = $1 AND r.topic = mine.topic AND r.partition = mine.partition
WHERE r.due_at <= $4 AND r.record IS NOT NULL AND r.version = ANY ($5::text[])
  AND r.state IN ('running', 'waiting', 'ready', 'parked') AND r.event_id <> ALL ($6::uuid[])
ORDER BY r.due_at LIMIT $7;

-- name: forget_runs
-- Journals of dead letters that nobody has driven again for long.
DELETE FROM slotwire.runs WHERE agent = $1 AND state = 'given_up' AND changed_at < $2;

-- name: ask_approval
-- A run asks for an approval, and is set aside with its event, whole, until somebody decides.
WITH mine AS (
    UPDATE slotwire.runs
    SET state = 'waiting', record = coalesce(record, $6), due_at = $7::timestamptz, changed_at = $8::timestamptz
    WHERE agent = $1 AND event_id = $2 AND epoch = $3 AND state = 'running'
    RETURNING org
), asked AS (
    INSERT INTO slotwire.approvals (id, agent, event_id, name, org, person, what, digest, asked_at, expires_at)
    SELECT $9::uuid, $1, $2, $5::text, org, $10::text, $11::text, sha256(convert_to($11::text, 'UTF8')), $8, $7 FROM mine
)
INSERT INTO slotwire.run_entries (agent, event_id, number, name, kind, state, deadline, began_at)
SELECT $1, $2, $4::integer, $5, 'approval', 'open', $7, $8 FROM mine
RETURNING number;

-- name: approval
-- What became of an approval, and what it is for.
SELECT what, state, decided_by, decided_at FROM slotwire.approvals WHERE id = $1;

-- name: expire_approval
-- The time of an approval is over, unless somebody has decided.
SELECT slotwire.expire_approval($1, $2);
