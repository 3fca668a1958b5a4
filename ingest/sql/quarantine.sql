-- Statements of `ingest/quarantine`: what waits there, and what becomes of it.

-- name: quarantine_page
-- Quarantined deliveries, newest first, before a place; their ids are in order of arrival.
SELECT q.delivery_id, q.org, q.reason, q.detail, q.state, q.created_at, q.settled_at, q.note, d.subscription_id,
       d.received_at, d.signed_at, d.outcome, d.event_id, octet_length(d.body) AS bytes
FROM slotwire.quarantine q JOIN slotwire.deliveries d ON d.id = q.delivery_id
WHERE ($1::uuid IS NULL OR q.delivery_id < $1) AND ($2::text IS NULL OR q.org = $2)
  AND ($3::text IS NULL OR q.reason = $3) AND ($4::text IS NULL OR q.state = $4)
ORDER BY q.delivery_id DESC LIMIT $5

-- name: quarantined
-- One quarantined delivery with its body and its tenant, of an organization or of any.
SELECT q.delivery_id, q.org, q.reason, q.detail, q.state, q.created_at, q.settled_at, q.note, d.subscription_id,
       d.received_at, d.signed_at, d.outcome, d.event_id, octet_length(d.body) AS bytes,
       d.body, d.traceparent, o.uri, o.shard, o.external_id
FROM slotwire.quarantine q
JOIN slotwire.deliveries d ON d.id = q.delivery_id
JOIN slotwire.organizations o ON o.org = q.org
WHERE q.delivery_id = $1 AND ($2::text IS NULL OR q.org = $2)

-- name: waiting_ids
-- Deliveries that wait in quarantine for one reason, in order of arrival, after a place.
SELECT delivery_id FROM slotwire.quarantine
WHERE state = 'waiting' AND reason = $1 AND ($2::text IS NULL OR org = $2) AND delivery_id > $3
ORDER BY delivery_id LIMIT $4

-- name: count_quarantined
-- How many deliveries wait in quarantine for one reason.
SELECT count(*) FROM slotwire.quarantine
WHERE state = 'waiting' AND reason = $1 AND ($2::text IS NULL OR org = $2)

-- name: settle_quarantine
-- Settle one, or note why it stays; answers whether it applied.
SELECT slotwire.settle_quarantine($1, $2, $3, $4, $5, $6, $7, $8)
