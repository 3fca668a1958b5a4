-- Statements of `ingest/control/actions/`.

-- name: action_of_key
-- The action of a caller's key in an organization.
SELECT a.*, o.uri AS organization FROM slotwire.actions a JOIN slotwire.organizations o ON o.org = a.org
WHERE a.org = $1 AND a.caller = $2 AND a.key = $3

-- name: action
-- One action of an organization, or of any for null.
SELECT a.*, o.uri AS organization FROM slotwire.actions a JOIN slotwire.organizations o ON o.org = a.org
WHERE a.id = $1 AND ($2::text IS NULL OR a.org = $2)

-- name: own_mark
-- The no-show mark that a caller has set on an invitee, as its receipt says; the newest of several.
SELECT mark FROM slotwire.actions
WHERE org = $1 AND caller = $2 AND verb = 'mark_no_show' AND target = $3 AND state = 'done' AND mark IS NOT NULL
ORDER BY settled_at DESC LIMIT 1

-- name: actions_page
-- Actions of an organization, or of all for null, the newest first, before an id and in a state where one is given.
SELECT a.*, o.uri AS organization FROM slotwire.actions a JOIN slotwire.organizations o ON o.org = a.org
WHERE ($1::text IS NULL OR a.org = $1) AND ($2::uuid IS NULL OR a.id < $2) AND ($3::text IS NULL OR a.state = $3)
ORDER BY a.id DESC LIMIT $4

-- name: intend_action
-- Commit an intent, or find the action that has its key; its id.
SELECT slotwire.intend_action(p_org => $1, p_now => $2, p_due => $3, p_action => $4, p_move => $5)

-- name: claim_action
-- Claim the action that has been due for longest until $2; no row if none is due.
UPDATE slotwire.actions a SET epoch = a.epoch + 1, due_at = $2
FROM slotwire.organizations o
WHERE o.org = a.org AND a.id = (
    SELECT d.id FROM slotwire.actions d WHERE d.due_at <= $1 ORDER BY d.due_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING a.*, o.uri AS organization

-- name: keep_action
-- What is known of an action so far, and when it is looked at next; no row where another process has it by now.
UPDATE slotwire.actions
SET state = $3, reason = $4, calls = $5, reads = $6, read_at = $7, accepted = $8, due_at = $9, facts = $10::jsonb
WHERE id = $1 AND epoch = $2 RETURNING id

-- name: begin_step
-- Commit the intent of the next step, or of the same again, before its call; no row where another process has it by now.
UPDATE slotwire.actions a
SET state = 'open', reason = NULL, step = $3, called_at = $4, calls = $5,
    step_at = CASE WHEN $5 > 1 OR a.state = 'not_sent' THEN a.step_at ELSE $4 END, reads = 0, read_at = NULL, accepted = NULL,
    facts = a.facts || $6::jsonb, invitee = coalesce($7, a.invitee), scheduled_event = coalesce($8, a.scheduled_event),
    due_at = $9, settled_at = NULL, evidence = NULL, epoch = a.epoch + 1,
    head = CASE WHEN $5 > 1 THEN a.head ELSE (
        SELECT h.last_event FROM slotwire.heads h WHERE h.shard = o.shard ORDER BY h.version DESC LIMIT 1) END
FROM slotwire.organizations o
WHERE o.org = a.org AND a.id = $1 AND a.epoch = $2 RETURNING a.*, o.uri AS organization

-- name: settle_action
-- Settle an action with the event that says so; the event's position, null where another process has it by now.
SELECT slotwire.settle_action(p_id => $1, p_epoch => $2, p_now => $3, p_state => $4, p_reason => $5, p_evidence => $6,
                              p_uris => $7, p_decision => $8, p_event => $9)

-- name: seen_in_log
-- The events of an organization after a place of the log, of some types, whose data holds two texts; the first $6.
SELECT e.type, e.subject, e.data FROM slotwire.events e
WHERE e.org = $1 AND e.type = ANY ($2::text[]) AND e.position > $3
  AND position($4::bytea IN e.data) > 0 AND position($5::bytea IN e.data) > 0
ORDER BY e.position LIMIT $6

-- name: last_accepted_of
-- Up to where an organization's shard has accepted; null if nothing.
SELECT max(d.position) FROM slotwire.deliveries d
WHERE d.shard = (SELECT shard FROM slotwire.organizations WHERE org = $1)

-- name: written_of
-- Up to where what an organization's shard accepted is written.
SELECT h.position FROM slotwire.heads h
WHERE h.shard = (SELECT shard FROM slotwire.organizations WHERE org = $1) ORDER BY h.version DESC LIMIT 1

-- name: shard_of_action
-- The shard of an organization.
SELECT shard FROM slotwire.organizations WHERE org = $1

-- name: actions_remembered
-- Whether this is the server on which actions call without looking first.
SELECT slotwire.actions_remembered()

-- name: remember_actions
-- Let actions call without looking first on this server from now on; whether that is new.
SELECT slotwire.remember_actions($1)

-- name: prune_actions
-- Remove what was settled more than $2 days ago, at most $3; how many.
SELECT slotwire.prune_actions($1, $2, $3)

-- name: count_actions
-- How many actions are not settled or wait for a person, by state, and when the oldest was intended; `held` are those
-- that are not sent because a limit of Calendly's holds them back.
SELECT CASE WHEN state = 'not_sent' AND jsonb_typeof(facts -> 'held') = 'object' THEN 'held' ELSE state END AS state,
       count(*) AS actions, min(intended_at) AS oldest
FROM slotwire.actions WHERE state IN ('open', 'not_sent', 'person') GROUP BY 1

-- name: waiting_actions
-- The first of those that wait for a person, or are open since before $1; not those that a limit holds back.
SELECT id, state FROM slotwire.actions
WHERE state = 'person' OR (
    state IN ('open', 'not_sent') AND intended_at < $1
    AND NOT (state = 'not_sent' AND coalesce(jsonb_typeof(facts -> 'held') = 'object', false)))
ORDER BY intended_at LIMIT $2
