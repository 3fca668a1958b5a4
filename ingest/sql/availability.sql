-- Statements of availability, as operators see it. The agent availability-sync writes it.

-- name: availability_page
-- Availability behind a place, ordered by organization, user and event type.
SELECT a.org, a.user_uri, a.event_type, a.ends, a.slots, a.busy, a.read_at, a.due_since, a.gone,
       a.version = a.published AS is_published, w.writer
FROM slotwire.availability a JOIN slotwire.availability_writers w ON w.org = a.org
WHERE ($1::text IS NULL OR a.org = $1) AND ($2::text IS NULL OR a.user_uri = $2)
  AND ($3::text IS NULL OR a.event_type = $3) AND (a.org, a.user_uri, a.event_type) > ($4, $5, $6)
ORDER BY a.org, a.user_uri, a.event_type LIMIT $7

-- name: availability_late
-- When what was not read for longest was read, and how much the topic does not have.
SELECT (SELECT min(read_at) FROM slotwire.availability WHERE NOT gone) AS oldest,
       (SELECT count(*) FROM slotwire.availability WHERE version > published) AS unpublished

-- name: availability_age
-- How much is kept, when what was not read for longest was read, and how much the topic does not have.
SELECT count(*) AS offers, min(read_at) FILTER (WHERE NOT gone) AS oldest,
       count(*) FILTER (WHERE read_at IS NULL AND NOT gone) AS unread, count(*) FILTER (WHERE version > published) AS unpublished
FROM slotwire.availability
