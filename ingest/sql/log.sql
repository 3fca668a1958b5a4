-- The writer's statements: it alone calls them.

-- name: take_epoch
-- Become the writer of a shard.
SELECT * FROM slotwire.take_epoch(p_shard => $1, p_now => $2, p_outlived => $3)

-- name: leave_epoch
-- Leave a shard as one should.
SELECT slotwire.leave_epoch(p_shard => $1, p_epoch => $2, p_version => $3, p_now => $4)

-- name: adopt_server
-- Go on after a restore or a failover, beyond what was published.
SELECT slotwire.adopt_server(p_shard => $1, p_epoch => $2, p_version => $3, p_published => $4, p_now => $5) AS version

-- name: try_alone
-- Note that a delivery is about to be tried alone.
SELECT * FROM slotwire.try_alone(p_shard => $1, p_epoch => $2, p_version => $3, p_position => $4, p_now => $5)

-- name: append
-- Append what the writer made of some deliveries, and move the head.
SELECT * FROM slotwire.append(
    p_shard => $1, p_epoch => $2, p_version => $3, p_now => $4, p_position => $5, p_total => $6,
    p_results => $7, p_events => $8, p_bookings => $9, p_roots => $10)

-- name: append_moves
-- The same, with what was learnt of reschedules by actions.
SELECT * FROM slotwire.append_moves(
    p_shard => $1, p_epoch => $2, p_version => $3, p_now => $4, p_position => $5, p_total => $6,
    p_results => $7, p_events => $8, p_bookings => $9, p_roots => $10, p_moves => $11)

-- name: append_erased
-- The same, of deliveries some of which are about somebody who was erased, or have them as a guest.
SELECT * FROM slotwire.append_erased(
    p_shard => $1, p_epoch => $2, p_version => $3, p_now => $4, p_position => $5, p_total => $6,
    p_results => $7, p_events => $8, p_bookings => $9, p_roots => $10, p_moves => $11, p_erased => $12, p_subjects => $13,
    p_guests => $14)

-- name: erased_among
-- Which of these subjects, or of what was made with these addresses, were erased.
SELECT number, erasure, until FROM slotwire.erased_among(p_orgs => $1, p_subjects => $2, p_addresses => $3)

-- name: read_moves
-- The reschedules by actions of some organizations that still expect an invitee, or that concern one of these invitees or
-- tags.
SELECT action_id, org, old_invitee, tag, event_type, start_time, person, since, new_invitee, ended FROM slotwire.moves
WHERE org = ANY ($1::text[])
  AND ((new_invitee IS NULL AND NOT ended) OR old_invitee = ANY ($2::text[]) OR new_invitee = ANY ($2::text[])
       OR tag = ANY ($3::text[]))

-- name: settled_above
-- What is settled beyond the head: passed over it in the flood of another tenant.
SELECT position FROM slotwire.results WHERE shard = $1 AND position > $2 ORDER BY position

-- name: read_deliveries
-- The next deliveries after a position: at most $3 of them and about $4 bytes, at least one. A retry is read with the
-- body and the times of the delivery it points at.
SELECT d.position, d.total, d.id, d.org, o.uri, o.external_id, d.origin, d.form, d.stale, d.content_encoding,
       d.received_at, d.signed_at, d.traceparent, d.body
FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY position) - octet_length(body) AS bytes_before
    FROM (
        SELECT n.position, n.total, coalesce(q.delivery_id, n.id) AS id, n.org, n.origin, coalesce(q.origin, n.origin) AS form,
               n.stale, coalesce(q.content_encoding, n.content_encoding) AS content_encoding,
               coalesce(q.received_at, n.received_at) AS received_at, coalesce(q.signed_at, n.signed_at) AS signed_at,
               coalesce(q.traceparent, n.traceparent) AS traceparent, coalesce(q.body, n.body, '') AS body
        FROM (SELECT * FROM slotwire.deliveries WHERE shard = $1 AND position > $2 ORDER BY position LIMIT $3) AS n
        LEFT JOIN slotwire.quarantine q ON q.delivery_id = n.original AND q.org = n.org
    ) AS told
) AS d
JOIN slotwire.organizations o ON o.org = d.org
WHERE d.bytes_before < $4 ORDER BY d.position

-- name: scan_deliveries
-- Whose the next deliveries after a position are, and how large, without their bodies.
SELECT n.position, n.total, n.org, coalesce(octet_length(n.body), octet_length(q.body), 0) AS size
FROM (
    SELECT position, total, org, original, body FROM slotwire.deliveries
    WHERE shard = $1 AND position > $2 ORDER BY position LIMIT $3
) AS n
LEFT JOIN slotwire.quarantine q ON q.delivery_id = n.original AND q.org = n.org
ORDER BY n.position

-- name: read_chosen
-- Some deliveries, as read_deliveries gives them.
SELECT d.position, d.total, coalesce(q.delivery_id, d.id) AS id, d.org, o.uri, o.external_id, d.origin,
       coalesce(q.origin, d.origin) AS form, d.stale, coalesce(q.content_encoding, d.content_encoding) AS content_encoding,
       coalesce(q.received_at, d.received_at) AS received_at, coalesce(q.signed_at, d.signed_at) AS signed_at,
       coalesce(q.traceparent, d.traceparent) AS traceparent, coalesce(q.body, d.body, '') AS body
FROM slotwire.deliveries d
JOIN slotwire.organizations o ON o.org = d.org
LEFT JOIN slotwire.quarantine q ON q.delivery_id = d.original AND q.org = d.org
WHERE d.shard = $1 AND d.position = ANY ($2::bigint[]) ORDER BY d.position

-- name: read_bookings
-- The rows of some invitees, and of their neighbours within the same organization. `asked` is the organization that
-- was told: a row of another one is an alarm and nothing else.
WITH own AS (
    SELECT b.*, n.org AS asked FROM unnest($1::text[], $2::text[]) AS n (org, invitee)
    JOIN slotwire.bookings b ON b.invitee = n.invitee
)
SELECT * FROM own
UNION ALL
SELECT b.*, b.org FROM (
    SELECT DISTINCT o.org, link.invitee FROM own o, unnest(o.old_invitees || o.new_invitees) AS link (invitee)
    WHERE o.org = o.asked
      AND NOT EXISTS (SELECT FROM own p WHERE p.org = o.org AND p.asked = o.org AND p.invitee = link.invitee)
) AS near
JOIN slotwire.bookings b ON b.invitee = near.invitee AND b.org = near.org

-- name: overdue_clears
-- A page of the clears told before a moment for which no event was written, with the deliveries that told them: at most
-- $5 of them and about $6 bytes, at least one; of a retry the body and the times of the delivery it points at, as
-- read_deliveries gives them.
-- The marks of a booking are sorted: a clear at or after the first one has its event.
SELECT * FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY invitee, id) - octet_length(body) AS bytes_before
    FROM (
        SELECT b.invitee, d.position, d.total, c.delivery AS id, d.org, o.uri, o.external_id, d.origin,
               coalesce(q.origin, d.origin) AS form, false AS stale,
               coalesce(q.content_encoding, d.content_encoding) AS content_encoding,
               coalesce(q.received_at, d.received_at) AS received_at, coalesce(q.signed_at, d.signed_at) AS signed_at,
               coalesce(q.traceparent, d.traceparent) AS traceparent, coalesce(q.body, d.body, '') AS body
        FROM slotwire.bookings b
        JOIN slotwire.organizations o ON o.org = b.org AND o.shard = $1
        CROSS JOIN LATERAL jsonb_to_recordset(b.clears) AS c (at timestamptz, delivery uuid, position bigint, alone boolean)
        JOIN slotwire.deliveries d ON d.shard = $1 AND d.position = c.position
        LEFT JOIN slotwire.quarantine q ON q.delivery_id = d.original AND q.org = d.org
        WHERE b.waits_since <= $2 AND coalesce(q.received_at, d.received_at) <= $2 AND NOT c.alone
          AND (b.marks = '[]' OR c.at < date_trunc('second', (b.marks -> 0 ->> 'created_at')::timestamptz))
          AND (b.invitee, c.delivery) > ($3::text, $4::uuid)
        ORDER BY b.invitee, c.delivery LIMIT $5
    ) AS told
) AS page
WHERE bytes_before < $6 ORDER BY invitee, id

-- name: count_waiting
-- How many bookings have waited since before a moment for a clear's mark, and how many for the other half of a
-- reschedule.
SELECT count(*) FILTER (WHERE EXISTS (
           SELECT FROM jsonb_to_recordset(b.clears) AS c (at timestamptz, alone boolean)
           WHERE NOT c.alone
             AND (b.marks = '[]' OR c.at < date_trunc('second', (b.marks -> 0 ->> 'created_at')::timestamptz))
       )) AS clear,
       count(*) FILTER (WHERE EXISTS (
           SELECT FROM slotwire.bookings older
           WHERE older.org = b.org AND older.invitee = ANY (b.old_invitees)
             AND (older.state = 'canceled') <> (b.state <> 'named')
       )) AS reschedule
FROM slotwire.bookings b
JOIN slotwire.organizations o ON o.org = b.org AND o.shard = $2
WHERE b.waits_since <= $1
