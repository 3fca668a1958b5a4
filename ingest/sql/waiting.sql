-- name: overdue_clears
-- A page of the clears told before a moment for which no event was written, with the deliveries that told them.
-- The marks of a booking are sorted: a clear at or after the first one has its event.
SELECT b.invitee, o.uri AS organization, o.org, o.shard, o.external_id,
       d.id, d.subscription_id, d.received_at, d.signed_at, d.traceparent, d.body
FROM slotwire.bookings b
JOIN slotwire.organizations o ON o.org = b.org
CROSS JOIN LATERAL jsonb_to_recordset(b.clears) AS c (at timestamptz, delivery uuid, alone boolean)
JOIN slotwire.deliveries d ON d.id = c.delivery
WHERE b.waits_since <= $1 AND d.received_at <= $1 AND NOT c.alone
  AND (b.marks = '[]' OR c.at < date_trunc('second', (b.marks -> 0 ->> 'created_at')::timestamptz))
  AND (b.invitee, d.id) > ($2::text, $3::uuid)
ORDER BY b.invitee, d.id LIMIT $4

-- name: count_waiting
-- How many bookings have waited since before a moment for a clear's mark, and how many for the other half of a
-- reschedule.
SELECT count(*) FILTER (WHERE EXISTS (
           SELECT FROM jsonb_to_recordset(b.clears) AS c (at timestamptz, alone boolean)
           WHERE NOT c.alone
             AND (b.marks = '[]' OR c.at < date_trunc('second', (b.marks -> 0 ->> 'created_at')::timestamptz))
       )) AS clears,
       count(*) FILTER (WHERE EXISTS (
           SELECT FROM slotwire.bookings older
           WHERE older.invitee = ANY (b.old_invitees) AND (older.state = 'canceled') <> (b.state <> 'named')
       )) AS reschedules
FROM slotwire.bookings b WHERE b.waits_since <= $1
