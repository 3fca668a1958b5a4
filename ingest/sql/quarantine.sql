-- Statements of the quarantine: what waits there, and what becomes of it.

-- name: quarantine_page
-- Quarantined deliveries in some states before a place, newest first: each state by itself, merged, as the
-- lists of operate.sql. Their ids are in the order of arrival.
SELECT q.* FROM unnest($4::text[]) AS wanted (state)
CROSS JOIN LATERAL (
    SELECT delivery_id, shard, org, reason, detail, state, created_at, settled_at, note, subscription_id, received_at,
           signed_at, outcome, event_id, octet_length(body) AS bytes
    FROM slotwire.quarantine
    WHERE state BETWEEN wanted.state AND wanted.state AND ($2::text IS NULL OR org = $2) AND ($3::text IS NULL OR reason = $3)
      AND ($1::uuid IS NULL OR delivery_id < $1)
    ORDER BY state DESC, delivery_id DESC LIMIT $5
) q
ORDER BY q.delivery_id DESC LIMIT $5

-- name: quarantined
-- One quarantined delivery with its body, of an organization or of any.
SELECT delivery_id, shard, org, reason, detail, state, created_at, settled_at, note, subscription_id, received_at,
       signed_at, outcome, event_id, octet_length(body) AS bytes, body
FROM slotwire.quarantine
WHERE delivery_id = $1 AND ($2::text IS NULL OR org = $2)

-- name: waiting_ids
-- Deliveries that wait in quarantine for one reason, in order of arrival, after a place.
SELECT delivery_id FROM slotwire.quarantine
WHERE state = 'waiting' AND reason = $1 AND ($2::text IS NULL OR org = $2) AND delivery_id > $3
ORDER BY delivery_id LIMIT $4

-- name: count_quarantined
-- How many deliveries wait in quarantine for one reason.
SELECT count(*) FROM slotwire.quarantine
WHERE state = 'waiting' AND reason = $1 AND ($2::text IS NULL OR org = $2)

-- name: discard
-- Settle one as not wanted; answers whether it did wait.
SELECT slotwire.discard(p_delivery => $1, p_at => $2, p_note => $3)
