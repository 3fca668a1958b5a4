-- Statements of `ingest/receive/hook_troubles.py`.

-- name: note_serving
-- Say that this `serve` has Postgres, and which hooks it had to answer other than 2xx, each with the first and the last
-- time; how many holes were noted.
SELECT slotwire.note_serving(p_now => $1, p_longest => $2, p_skew => $3, p_hooks => $4, p_first => $5, p_last => $6)
