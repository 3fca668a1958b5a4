-- name: read_bookings
-- The rows a batch is joined with: those of the invitees named, and their neighbours.
SELECT * FROM slotwire.bookings
WHERE invitee = ANY ($1::text[] || ARRAY(
    SELECT unnest(own.old_invitees || own.new_invitees) FROM slotwire.bookings own WHERE own.invitee = ANY ($1::text[])))

-- name: append_batch
-- One batch into one shard of the log; see the function's own words in the migrations.
SELECT conflicts, duplicates, last_position FROM slotwire.append_batch(
    $1, $2, $3, $4, $5,
    $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
    $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)

-- name: notify
-- Tells the relay that the shard's log has grown. A hint: the relay polls too.
SELECT pg_notify('slotwire_log', $1)
