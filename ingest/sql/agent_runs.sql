-- Statements of agents' runs, as operators see them.

-- name: runs_page
-- Runs before a place, newest first.
SELECT r.id, r.agent, r.event_id, r.org, r.type, r.subject, r.version, r.state, r.reason, r.attempts, r.began_at,
       r.changed_at, r.due_at, e.name AS waits_for, r.decided_by, r.note
FROM slotwire.runs r
LEFT JOIN slotwire.run_entries e ON e.agent = r.agent AND e.event_id = r.event_id AND e.state = 'open'
WHERE ($1::text IS NULL OR r.org = $1) AND ($2::text IS NULL OR r.agent = $2) AND ($3::text IS NULL OR r.state = $3)
  AND ($4::timestamptz IS NULL OR (r.began_at, r.id) < ($4, $5::uuid))
ORDER BY r.began_at DESC, r.id DESC LIMIT $6

-- name: one_run
-- One run, of an organization or of any.
SELECT r.id, r.agent, r.event_id, r.org, r.type, r.subject, r.version, r.state, r.reason, r.attempts, r.began_at,
       r.changed_at, r.due_at, e.name AS waits_for, r.decided_by, r.note
FROM slotwire.runs r
LEFT JOIN slotwire.run_entries e ON e.agent = r.agent AND e.event_id = r.event_id AND e.state = 'open'
WHERE r.id = $1 AND ($2::text IS NULL OR r.org = $2)

-- name: run_journal
-- The journal of a run.
SELECT name, kind, state, CASE WHEN kind = 'step' THEN result END AS result, awaited, deadline, began_at, ended_at
FROM slotwire.run_entries WHERE agent = $1 AND event_id = $2 ORDER BY number

-- name: cancel_run
-- End a run; answers whether there was one.
SELECT slotwire.cancel_run($1, $2, $3)

-- name: decide_step
-- Say how the last step of a held run ended; answers whether it was that one, and not known.
SELECT slotwire.decide_step($1, $2, $3, $4, $5, $6, $7)

-- name: count_runs
-- How many runs are in each state, by agent, and since when the oldest is: `overdue` where one should have gone on. Those
-- that wait are the many: they are counted in an index of their own, which does not know since when one without an end waits.
SELECT agent, state, count(*) AS runs, min(since) AS oldest FROM (
    SELECT agent, CASE WHEN due_at < $1::timestamptz - interval '10 minutes' THEN 'overdue' ELSE 'waiting' END AS state,
           coalesce(due_at, began_at) AS since
    FROM slotwire.runs WHERE state = 'waiting'
    UNION ALL
    SELECT agent,
           CASE WHEN state IN ('running', 'ready') AND due_at < $1::timestamptz - interval '10 minutes' THEN 'overdue'
                ELSE state END,
           CASE WHEN state IN ('running', 'ready') THEN coalesce(due_at, changed_at) ELSE changed_at END
    FROM slotwire.runs WHERE state <> 'waiting'
) AS found GROUP BY agent, state

-- name: count_deaths
-- How many processes of each agent one and the same event has ended, where that still goes on.
SELECT agent, max(deaths) AS deaths FROM slotwire.noted_runs
WHERE deaths > 0 AND at > $1::timestamptz - interval '1 hour' GROUP BY agent ORDER BY agent

-- name: agent_schemas
-- The schemas of agents' own tables that a role may use.
SELECT n.nspname AS schema FROM pg_namespace n
WHERE n.nspname LIKE 'agent\_%' AND EXISTS (
    SELECT FROM aclexplode(n.nspacl) AS a JOIN pg_roles r ON r.oid = a.grantee
    WHERE r.rolname = $1 AND a.privilege_type = 'USAGE')
ORDER BY n.nspname
