-- Statements of `ingest/control/changes/`.

-- name: add_sweeps
-- Begin to sweep the organizations that are new, and forget the due sweeps of those that were removed, with what they
-- know. The epochs of one that is added again are beyond those it had: they begin with the seconds since 1970.
WITH gone AS (
    DELETE FROM slotwire.change_sweeps s USING slotwire.organizations o
    WHERE s.due_at <= $1 AND o.org = s.org AND o.ended_at IS NOT NULL RETURNING s.org
), meetings AS (
    DELETE FROM slotwire.upcoming_meetings m USING gone g WHERE m.org = g.org
)
INSERT INTO slotwire.change_sweeps (org, epoch, due_at)
SELECT o.org, extract(epoch FROM $1::timestamptz)::bigint, $1 FROM slotwire.organizations o
WHERE o.ended_at IS NULL AND NOT EXISTS (SELECT FROM slotwire.change_sweeps s WHERE s.org = o.org)
ON CONFLICT (org) DO NOTHING

-- name: hasten_sweeps
-- Have sweeps be due now that would be later than any begins or goes on: they were more rarely, or the clock was ahead.
UPDATE slotwire.change_sweeps SET due_at = $1 WHERE due_at > $2

-- name: claim_sweep
-- Claim the sweep that has been due for longest until $2; one that begins goes up to $3. No row if none is due.
UPDATE slotwire.change_sweeps s SET
    epoch = s.epoch + 1, due_at = $2, began_at = coalesce(s.began_at, $1), reached = coalesce(s.reached, $1),
    until = coalesce(s.until, $3), meetings = CASE WHEN s.began_at IS NULL THEN 0 ELSE s.meetings END,
    calls = CASE WHEN s.began_at IS NULL THEN 0 ELSE s.calls END,
    changes = CASE WHEN s.began_at IS NULL THEN 0 ELSE s.changes END
FROM slotwire.organizations o
WHERE o.org = s.org AND s.org = (
    SELECT d.org FROM slotwire.change_sweeps d JOIN slotwire.organizations e ON e.org = d.org
    WHERE d.due_at <= $1 AND e.ended_at IS NULL ORDER BY d.due_at LIMIT 1 FOR UPDATE OF d SKIP LOCKED
)
RETURNING s.org, o.uri AS organization, o.shard, s.epoch, s.reached, s.until, s.attempts

-- name: release_sweep
-- Give a claim back: it goes on at $3, after a failure with what it was; nothing if it is another's by now.
UPDATE slotwire.change_sweeps SET due_at = $3, problem = $4, attempts = CASE WHEN $4::text IS NULL THEN 0 ELSE attempts + 1 END,
                                  epoch = epoch + 1
WHERE org = $1 AND epoch = $2

-- name: end_sweep
-- End a sweep: the next begins at $4, and what has started is forgotten; nothing if it is another's by now.
WITH ended AS (
    UPDATE slotwire.change_sweeps SET due_at = $4, ended_at = $3, began_at = NULL, reached = NULL, until = NULL, attempts = 0,
                                      problem = NULL, epoch = epoch + 1
    WHERE org = $1 AND epoch = $2 RETURNING org, meetings, calls, changes
), past AS (
    DELETE FROM slotwire.upcoming_meetings m USING ended e WHERE m.org = e.org AND m.start_time < $3
)
SELECT meetings, calls, changes FROM ended

-- name: forget_sweeps
-- Forget all that is known: nothing is swept.
WITH meetings AS (DELETE FROM slotwire.upcoming_meetings)
DELETE FROM slotwire.change_sweeps

-- name: known_meetings
-- What is known of some meetings of an organization.
SELECT scheduled_event, told, changes FROM slotwire.upcoming_meetings WHERE org = $1 AND scheduled_event = ANY ($2)

-- name: erased_guests
-- Which of these addresses of guests are of people who were erased, with until when what was made is.
SELECT number, until FROM slotwire.erased_among(
    p_orgs => array_fill($1::text, ARRAY[cardinality($2::text[])]), p_subjects => '{}', p_addresses => $2)

-- name: missing_meetings
-- Meetings of an organization that are known, start from $2 on and before $3, and were not listed; whether all their
-- bookings that we know are canceled. The first $5.
SELECT m.scheduled_event, b.bookings > 0 AND b.active = 0 AS canceled
FROM slotwire.upcoming_meetings m
CROSS JOIN LATERAL (
    SELECT count(*) AS bookings, count(*) FILTER (WHERE state = 'active') AS active FROM slotwire.bookings
    WHERE org = $1 AND invitee BETWEEN m.scheduled_event || '/invitees/' AND m.scheduled_event || '/invitees/' || repeat('z', 60)
      AND scheduled_event = m.scheduled_event
) AS b
WHERE m.org = $1 AND m.start_time >= $2 AND m.start_time < $3 AND m.scheduled_event <> ALL ($4)
ORDER BY m.start_time LIMIT $5

-- name: meetings_in_log
-- What the log last told of some meetings, with a booking of each: the newest of its events that has the meeting.
SELECT e.uri AS scheduled_event, t.data FROM unnest($2::text[]) AS e (uri)
CROSS JOIN LATERAL (
    SELECT invitee FROM slotwire.bookings
    WHERE org = $1 AND invitee BETWEEN e.uri || '/invitees/' AND e.uri || '/invitees/' || repeat('z', 60)
      AND scheduled_event = e.uri AND state = 'active' ORDER BY booked_at DESC NULLS LAST LIMIT 1
) AS b
CROSS JOIN LATERAL (
    SELECT data FROM slotwire.events WHERE subject = b.invitee AND org = $1 AND type = $3 ORDER BY position DESC LIMIT 1
) AS t

-- name: sweep_state
-- How the sweep of an organization is.
SELECT due_at, began_at, ended_at, meetings, calls, changes, attempts, problem FROM slotwire.change_sweeps WHERE org = $1

-- name: sweeps_state
-- How many organizations are swept, when the one that waits longest was last swept whole, and what the last sweeps took.
SELECT count(*) AS organizations, count(*) FILTER (WHERE s.ended_at IS NULL) AS never,
       min(coalesce(s.ended_at, s.began_at, s.due_at)) AS oldest, count(*) FILTER (WHERE s.problem IS NOT NULL) AS failing,
       min(s.org) FILTER (WHERE s.problem IS NOT NULL) AS named, coalesce(sum(s.meetings), 0)::bigint AS meetings,
       coalesce(sum(s.calls), 0)::bigint AS calls
FROM slotwire.change_sweeps s JOIN slotwire.organizations o ON o.org = s.org WHERE o.ended_at IS NULL

-- name: tell_changes
-- A sweep has come further: see the function. False where another process has it by now.
SELECT slotwire.tell_changes(p_org => $1, p_epoch => $2, p_now => $3, p_due => $4, p_reached => $5, p_meetings => $6::jsonb,
                             p_gone => $7, p_calls => $8, p_events => $9)
