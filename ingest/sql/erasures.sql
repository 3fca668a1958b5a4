-- Erasing a person's data.

-- name: begin_erasure
-- Begin, or go on with one of the same that did not end; what is to be settled first.
SELECT erasure, shard, accepted FROM slotwire.begin_erasure(
    p_id => $1, p_org => $2, p_address => $3, p_subjects => $4, p_by => $5, p_now => $6)

-- name: find_erased
-- Find what the person's data is about, in a page of events of one type; the last position of the page.
SELECT slotwire.find_erased(p_erasure => $1, p_address => $2, p_type => $3, p_after => $4, p_limit => $5)

-- name: erase_rows
-- End what agents and operators have of the person; how much of what.
SELECT slotwire.erase_rows(p_erasure => $1, p_address => $2, p_now => $3)

-- name: erase_events
-- Take the data out of a page of events of one type; the last position of the page, and how many lost data.
SELECT last, erased FROM slotwire.erase_events(
    p_erasure => $1, p_address => $2, p_type => $3, p_after => $4, p_limit => $5)

-- name: erase_deliveries
-- The same of the bodies of deliveries with one outcome.
SELECT last, erased FROM slotwire.erase_deliveries(
    p_erasure => $1, p_address => $2, p_outcome => $3, p_after => $4, p_limit => $5)

-- name: erased_invitees
-- The invitees of an erasure, with the keys of their chains.
SELECT invitee, chain_key FROM slotwire.erased_invitees(p_erasure => $1)

-- name: end_erasure
-- End it, with the events that tell of it; whether it was open.
SELECT slotwire.end_erasure(p_erasure => $1, p_report => $2, p_now => $3, p_rows => $4)

-- name: late_erasures
-- Erasures that ended after a time: what was at work then may have written since.
SELECT id FROM slotwire.erasures WHERE state = 'done' AND done_at > $1 ORDER BY done_at

-- name: organization_uri
-- The URI of an organization.
SELECT uri FROM slotwire.organizations WHERE org = $1

-- name: erasures_page
-- Erasures before one, newest first, of an organization or of any.
SELECT e.id, e.org, e.state, e.asked_at, e.asked_by, e.done_at, e.report,
       (SELECT count(*) FROM slotwire.erased_subjects s WHERE s.erasure = e.id) AS subjects
FROM slotwire.erasures e
WHERE ($1::uuid IS NULL OR e.id < $1) AND ($2::text IS NULL OR e.org = $2)
ORDER BY e.id DESC LIMIT $3

-- name: erasure
-- One of them.
SELECT e.id, e.org, e.state, e.asked_at, e.asked_by, e.done_at, e.report,
       (SELECT count(*) FROM slotwire.erased_subjects s WHERE s.erasure = e.id) AS subjects
FROM slotwire.erasures e WHERE e.id = $1 AND ($2::text IS NULL OR e.org = $2)
