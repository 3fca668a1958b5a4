-- Statements of what agents ask people to approve.

-- name: approvals_page
-- Approvals before a place, newest first.
SELECT id, agent, event_id, name, org, person, what, digest, state, asked_at, expires_at, decided_at, decided_by
FROM slotwire.approvals
WHERE ($1::text IS NULL OR org = $1) AND ($2::text IS NULL OR agent = $2) AND ($3::text IS NULL OR state = $3)
  AND ($4::timestamptz IS NULL OR (asked_at, id) < ($4, $5::uuid))
ORDER BY asked_at DESC, id DESC LIMIT $6

-- name: one_approval
-- One approval, of an organization or of any.
SELECT id, agent, event_id, name, org, person, what, digest, state, asked_at, expires_at, decided_at, decided_by
FROM slotwire.approvals WHERE id = $1 AND ($2::text IS NULL OR org = $2)

-- name: decide_approval
-- Decide about what has this digest, once and in time; answers whether that was so.
SELECT slotwire.decide_approval($1, $2, $3, $4, $5)
