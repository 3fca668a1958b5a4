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

-- name: make_approval_link
-- Make the link of an approval that is open, in place of an earlier one; its end.
INSERT INTO slotwire.approval_links (approval_id, id, made_at, made_by, expires_at)
SELECT id, $2, $3, $4, least(expires_at, $5::timestamptz) FROM slotwire.approvals
WHERE id = $1 AND state = 'open' AND expires_at > $3
ON CONFLICT (approval_id) DO UPDATE
SET id = excluded.id, made_at = excluded.made_at, made_by = excluded.made_by, expires_at = excluded.expires_at
RETURNING expires_at

-- name: approval_of_link
-- What a link is for.
SELECT l.id AS link_id, l.expires_at AS until, l.made_by, a.id AS approval_id, a.agent, a.org, a.name, a.person, a.what,
       a.digest, a.state
FROM slotwire.approval_links l JOIN slotwire.approvals a ON a.id = l.approval_id WHERE l.id = $1

-- name: decide_by_link
-- Decide with a link about what has this digest, once and in time; answers whether that was so.
SELECT slotwire.decide_approval(l.approval_id, $2, $3, $4, $5)
FROM slotwire.approval_links l WHERE l.id = $1 AND l.expires_at > $5
