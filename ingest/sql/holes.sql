-- Statements of `ingest/control/holes.py`.

-- name: note_hole
-- Note a hole, or that the open one of the same cause and subscription goes on; its id.
INSERT INTO slotwire.holes AS h (id, org, cause, subscription_id, since, noticed_at, last_noticed_at, due_at)
VALUES ($1, $2, $3, $4, $5, $6, $6, $6)
ON CONFLICT (org, cause, (coalesce(subscription_id, '00000000-0000-0000-0000-000000000000'::uuid))) WHERE state <> 'closed'
DO UPDATE SET since = least(h.since, excluded.since),
              last_noticed_at = greatest(h.last_noticed_at, excluded.last_noticed_at)
RETURNING h.id
