-- Statements of `ingest/control/holes.py`.

-- name: note_hole
-- Note a hole, or that the open one of the same cause and subscription goes on; its id.
INSERT INTO slotwire.holes AS h (id, org, cause, subscription_id, since, noticed_at, last_noticed_at, due_at)
VALUES ($1, $2, $3, $4, $5, $6, $6, $6)
ON CONFLICT (org, cause, (coalesce(subscription_id, '00000000-0000-0000-0000-000000000000'::uuid))) WHERE state <> 'closed'
DO UPDATE SET since = least(h.since, excluded.since),
              last_noticed_at = greatest(h.last_noticed_at, excluded.last_noticed_at)
RETURNING h.id

-- name: note_unwatched
-- Note of each organization that is subscribed and has no usable credential that it goes unwatched; how many.
WITH unwatched AS (
    SELECT o.org, (SELECT max(c.changed_at) FROM slotwire.connections c WHERE c.org = o.org) AS changed_at
    FROM slotwire.organizations o
    WHERE o.ended_at IS NULL
      AND EXISTS (SELECT FROM slotwire.wanted_subscriptions w WHERE w.org = o.org)
      AND NOT EXISTS (SELECT FROM slotwire.connections c WHERE c.org = o.org AND c.state IN ('active', 'expiring'))
), noted AS (
    INSERT INTO slotwire.holes AS h (id, org, cause, since, noticed_at, last_noticed_at, due_at)
    SELECT gen_random_uuid(), org, 'unwatched', coalesce(changed_at, $1) - $2::interval, $1, $1, $1 FROM unwatched
    ON CONFLICT (org, cause, (coalesce(subscription_id, '00000000-0000-0000-0000-000000000000'::uuid)))
        WHERE state <> 'closed'
    DO UPDATE SET last_noticed_at = greatest(h.last_noticed_at, excluded.last_noticed_at)
    RETURNING h.org
)
SELECT count(*) FROM noted

-- name: claim_hole
-- Claim the hole that has been due for longest, of $3 or of any organization, until $2; no row if none is due. Only one
-- of an organization at a time; one whose fetch has begun before its others. The hole of a subscription that Calendly
-- ended waits for the one that replaces it, if one is to come; every hole for a usable credential.
UPDATE slotwire.holes h
SET state = 'fetching', epoch = h.epoch + 1, lease_until = $2,
    fetch_since = coalesce(h.fetch_since, due.since), fetch_began_at = coalesce(h.fetch_began_at, $1)
FROM (
    SELECT d.id, g.uri, g.shard, (SELECT min(o.since) FROM slotwire.holes o WHERE o.org = d.org AND o.state <> 'closed') AS since
    FROM slotwire.holes d
    JOIN slotwire.organizations g ON g.org = d.org AND g.ended_at IS NULL
    WHERE ($3::text IS NULL OR d.org = $3)
      AND (d.state = 'fetching' AND d.lease_until <= $1
           OR d.state = 'open' AND d.due_at <= $1
              AND NOT EXISTS (SELECT FROM slotwire.holes f WHERE f.org = d.org AND f.id <> d.id AND f.state <> 'closed'
                              AND (f.state = 'fetching' OR f.fetch_since IS NOT NULL)))
      AND EXISTS (SELECT FROM slotwire.connections c WHERE c.org = d.org AND c.state IN ('active', 'expiring'))
      AND (d.cause NOT IN ('subscription_disabled', 'subscription_gone') OR NOT EXISTS (
              SELECT FROM slotwire.subscriptions was
              JOIN slotwire.wanted_subscriptions w USING (org, scope, subject)
              WHERE was.id = d.subscription_id AND w.contested_at IS NULL AND NOT EXISTS (
                  SELECT FROM slotwire.subscriptions s
                  WHERE (s.org, s.scope, s.subject) = (was.org, was.scope, was.subject) AND s.state = 'active'
                    AND s.created_at > was.created_at) OFFSET 0)) -- of this one, instead of all being gathered first
    ORDER BY d.due_at, d.noticed_at, d.id LIMIT 1 FOR UPDATE OF d SKIP LOCKED
) AS due
WHERE h.id = due.id
RETURNING h.id, h.org, due.uri, due.shard, h.epoch, h.attempts, h.fetch_since, h.fetch_began_at, h.progress

-- name: keep_hole
-- Keep a claim until $3, with how far its fetch has come; no row if it is another's by now.
UPDATE slotwire.holes SET lease_until = $3, progress = $4
WHERE id = $1 AND epoch = $2 AND state = 'fetching' RETURNING id

-- name: release_hole
-- Give a claim back; the fetch goes on from $4 when it is due at $3, whoever makes it. $5 says why it ended, if it failed.
UPDATE slotwire.holes SET state = 'open', lease_until = NULL, due_at = $3, progress = $4, problem = $5,
                          attempts = CASE WHEN $5::text IS NULL THEN attempts ELSE attempts + 1 END
WHERE id = $1 AND epoch = $2 AND state = 'fetching' RETURNING id

-- name: finish_hole
-- A fetch has ended: close the holes of its organization that it covers and that were not noticed again since it began.
-- If its own was, that is due again at $5. The report stays with each; no row if the claim is another's by now.
WITH led AS (
    SELECT org, fetch_since, fetch_began_at FROM slotwire.holes
    WHERE id = $1 AND epoch = $2 AND state = 'fetching' FOR UPDATE
), covered AS (
    SELECT h.id, h.since >= l.fetch_since AND h.last_noticed_at <= l.fetch_began_at AS ended
    FROM slotwire.holes h JOIN led l ON l.org = h.org WHERE h.state <> 'closed'
)
UPDATE slotwire.holes h
SET state = CASE WHEN c.ended THEN 'closed' ELSE 'open' END, closed_at = CASE WHEN c.ended THEN $3::timestamptz END,
    report = $4, progress = '{}', lease_until = NULL, fetch_since = NULL, fetch_began_at = NULL, problem = NULL,
    due_at = CASE WHEN c.ended THEN h.due_at ELSE $5 END,
    attempts = CASE WHEN c.ended THEN h.attempts ELSE h.attempts + 1 END
FROM covered c WHERE h.id = c.id AND (c.ended OR h.id = $1)
RETURNING h.id, h.state

-- name: hasten_holes
-- Let the holes of an organization that wait after a failure be due now.
UPDATE slotwire.holes SET due_at = $2 WHERE org = $1 AND state = 'open' AND due_at > $2

-- name: forget_holes
-- Delete the closed holes of an organization but the newest $2.
DELETE FROM slotwire.holes WHERE id = ANY (ARRAY(
    SELECT id FROM slotwire.holes WHERE org = $1 AND state = 'closed' ORDER BY noticed_at DESC, id OFFSET $2))

-- name: holes_page
-- Holes of one organization, or of all, the newest first, before a place; of one state, or of all.
SELECT h.id, h.org, h.cause, h.subscription_id, h.since, h.noticed_at, h.last_noticed_at, h.state, h.due_at, h.attempts,
       h.problem, h.fetch_began_at, h.progress, h.report, h.closed_at
FROM slotwire.holes h
WHERE ($1::text IS NULL OR h.org = $1)
  AND ($2::timestamptz IS NULL OR (h.noticed_at, h.id) < ($2, $3::uuid))
  AND ($4 OR h.state <> 'closed')
ORDER BY h.noticed_at DESC, h.id DESC LIMIT $5

-- name: hole
-- One hole of an organization, or of any.
SELECT h.id, h.org, h.cause, h.subscription_id, h.since, h.noticed_at, h.last_noticed_at, h.state, h.due_at, h.attempts,
       h.problem, h.fetch_began_at, h.progress, h.report, h.closed_at
FROM slotwire.holes h WHERE h.id = $1 AND ($2::text IS NULL OR h.org = $2)

-- name: bookings_ahead
-- What an organization's next bookings come to, at most $3 of them, those that are canceled too: by meetings that start
-- at $2 or later, and after $4.
SELECT n.scheduled_event, max(n.start_time) AS start_time, count(*) AS total,
       count(*) FILTER (WHERE n.state = 'active') AS active
FROM (
    (SELECT scheduled_event, state, start_time FROM slotwire.bookings
     WHERE org = $1 AND state = 'active' AND start_time >= $2 AND start_time > $4 ORDER BY start_time LIMIT $3)
    UNION ALL
    (SELECT scheduled_event, state, start_time FROM slotwire.bookings
     WHERE org = $1 AND state = 'canceled' AND start_time >= $2 AND start_time > $4 ORDER BY start_time LIMIT $3)
    ORDER BY start_time LIMIT $3
) AS n
GROUP BY n.scheduled_event

-- name: marks_known
-- The marks that the invitees of a meeting have: those that are set.
SELECT b.invitee, array(SELECT m ->> 'uri' FROM jsonb_array_elements(b.marks) AS m WHERE m ->> 'cleared_at' IS NULL) AS marks
FROM slotwire.bookings b
WHERE b.org = $1 AND b.invitee BETWEEN $2 || '/invitees/' AND $2 || '/invitees/' || repeat('z', 60) AND b.marks <> '[]'

-- name: marks_out_of_reach
-- Invitees of an organization with a mark that is set, whose meeting started before $2: the first $3, and how many.
SELECT invitee, count(*) OVER () AS found FROM slotwire.bookings
WHERE org = $1 AND start_time < $2 AND marks <> '[]' AND jsonb_path_exists(marks, '$[*] ? (@.cleared_at == null)')
ORDER BY start_time, invitee LIMIT $3

-- name: neighbours
-- Invitees of an organization that only a neighbour named since $2, and those that are active though they were replaced,
-- the newest first, without those of $4.
(SELECT b.invitee, b.changed_at FROM slotwire.bookings b
 WHERE b.org = $1 AND b.state = 'named' AND b.changed_at >= $2 AND b.invitee <> ALL ($4::text[]))
UNION ALL
(SELECT b.invitee, b.changed_at FROM slotwire.bookings b
 WHERE b.org = $1 AND b.state = 'active' AND b.new_invitee IS NOT NULL AND b.invitee <> ALL ($4::text[]))
ORDER BY changed_at DESC LIMIT $3

-- name: log_place
-- The position of a shard's newest event.
SELECT last_event FROM slotwire.heads WHERE shard = $1 ORDER BY version DESC LIMIT 1

-- name: recovered
-- What was written of an organization's reconciled deliveries beyond a position of the log, by type.
SELECT type, count(*) AS events FROM slotwire.events
WHERE org = $1 AND position > $2 AND origin = 'reconcile' GROUP BY type ORDER BY type

-- name: last_told
-- The newest event about each of some resources of an organization.
SELECT e.subject, e.type, e.data FROM unnest($2::text[]) AS asked (subject)
CROSS JOIN LATERAL (
    SELECT subject, type, data FROM slotwire.events
    WHERE subject = asked.subject AND org = $1 ORDER BY position DESC LIMIT 1
) AS e

-- name: resources_known
-- Resources of an organization of which events of types $2 are known and none of type $3, at most $4.
SELECT DISTINCT e.subject FROM slotwire.events e
WHERE e.org = $1 AND e.type = ANY ($2)
  AND NOT EXISTS (SELECT FROM slotwire.events d WHERE d.subject = e.subject AND d.org = e.org AND d.type = $3)
LIMIT $4
