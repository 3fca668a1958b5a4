-- The door: what comes in is committed by one function, and the writer is told.

-- name: accept
-- Commit what came in to a shard; the position of the last row, and which rows had a revoked key. See the function's own
-- words in the migrations.
SELECT last, revoked FROM slotwire.accept(p_shard => $1, p_now => $2, p_limit => $3, p_rows => $4)

-- name: notify
-- Tell the writer that the shard has grown. A hint: it polls too.
SELECT pg_notify('slotwire_log', $1)

-- name: is_settled
-- Whether the delivery at a position is settled. It may be before the head has reached it, and need not wait for what
-- another organization has before it.
SELECT EXISTS (SELECT FROM slotwire.results WHERE shard = $1 AND position = $2)
