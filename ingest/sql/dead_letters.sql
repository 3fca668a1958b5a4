-- Statements of dead letters, as operators see them: what agents gave up.

-- name: dead_letters_page
-- Dead letters in some states before a place, newest first: each state by itself, merged, as the lists of operate.sql.
SELECT d.* FROM unnest($4::text[]) AS wanted (state)
CROSS JOIN LATERAL (
    SELECT id, agent, topic, partition, record_offset, org, event_id, type, subject, sequence, at, times, reason, attempts,
           newer_sequence, edited_at, edited_by, state, changed_at, note, coalesce(octet_length(value), 0) AS bytes
    FROM slotwire.dead_letters
    WHERE state BETWEEN wanted.state AND wanted.state AND ($2::text IS NULL OR org = $2) AND ($3::text IS NULL OR agent = $3)
      AND ($1::uuid IS NULL OR id < $1)
    ORDER BY state DESC, id DESC LIMIT $5
) d
ORDER BY d.id DESC LIMIT $5

-- name: dead_letter
-- One dead letter with what it holds, of an organization or of any.
SELECT id, agent, topic, partition, record_offset, org, event_id, type, subject, sequence, at, times, reason, attempts,
       newer_sequence, edited_at, edited_by, state, changed_at, note, coalesce(octet_length(value), 0) AS bytes,
       trace, key, value, header_names, header_values, edited_value
FROM slotwire.dead_letters
WHERE id = $1 AND ($2::text IS NULL OR org = $2)

-- name: open_letters
-- The dead letters of an agent that may be driven again, of one organization or of all, with one reason or any.
SELECT id FROM slotwire.dead_letters
WHERE agent = $1 AND state = 'open' AND ($2::text IS NULL OR org = $2) AND ($3::text IS NULL OR reason = $3)
ORDER BY id LIMIT $4

-- name: redrive_letters
-- Drive dead letters again; which of them wait for their agents now.
SELECT slotwire.redrive_letters(p_now => $1, p_ids => $2, p_org => $3, p_older => $4, p_room => $5)

-- name: drop_journals
-- Forget what the runs of dead letters have done so far; how many had a journal.
SELECT slotwire.drop_journals(p_ids => $1, p_org => $2)

-- name: edit_letter
-- Give a dead letter other bytes; those of the record stay. Answers whether it could be edited.
UPDATE slotwire.dead_letters SET edited_value = $3, edited_at = $4, edited_by = $5
WHERE id = $1 AND ($2::text IS NULL OR org = $2) AND state IN ('open', 'discarded')
RETURNING true

-- name: discard_letters
-- Mark dead letters as not wanted, all or only those older than what their agents have done since; which ones.
UPDATE slotwire.dead_letters SET state = 'discarded', changed_at = $3, note = $4
WHERE id = ANY ($1::uuid[]) AND ($2::text IS NULL OR org = $2) AND state = 'open'
  AND (NOT $5::boolean OR newer_sequence IS NOT NULL)
RETURNING id

-- name: count_open_letters
-- How many dead letters of each agent nobody has driven again or discarded, and when the oldest was given up.
SELECT agent, count(*) AS letters, min(at) AS oldest FROM slotwire.dead_letters WHERE state = 'open' GROUP BY agent
