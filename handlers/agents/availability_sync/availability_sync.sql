-- Statements of the agent availability-sync.

-- name: hold
-- Become an organization's writer; null where another one is.
SELECT slotwire.hold_availability($1, $2, $3, $4);

-- name: leave
-- Be it no longer.
SELECT slotwire.leave_availability($1, $2);

-- name: changed
-- Something may have changed when a user can be booked.
SELECT slotwire.availability_changed($1, $2, $3, $4);

-- name: listing
-- When an organization's event types were last listed, and whether they may be others by now.
SELECT listed_at, list_due_since FROM slotwire.availability_writers WHERE org = $1;

-- name: known
-- What the table has of an organization.
SELECT user_uri, event_type, ends, slots, busy, read_at, due_since, gone FROM slotwire.availability WHERE org = $1;

-- name: write
-- Write what was read; false where another writer has taken over.
SELECT slotwire.write_availability($1, $2, $3, $4, $5, $6);

-- name: unpublished
-- What the topic does not have yet; nothing where another writer has taken over.
SELECT user_uri, event_type, ends, slots, busy, read_at, gone, version
FROM slotwire.unpublished_availability($1, $2, $3);

-- name: published
-- Note what the topic has; false where another writer has taken over.
SELECT slotwire.published_availability($1, $2, $3);
