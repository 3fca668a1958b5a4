-- Statements of connections: credentials at Calendly, sealed.

-- name: connection
-- One connection of an organization, or of any, with its sealed secret.
SELECT c.id, c.org, o.uri AS organization, o.shard, o.external_id, c.kind, c.user_uri, c.role, c.credential_id,
       c.scopes, c.expires_at, c.state, c.reason, c.checked_at, c.created_at, c.changed_at, c.sealed
FROM slotwire.connections c JOIN slotwire.organizations o USING (org)
WHERE c.id = $1 AND ($2::text IS NULL OR c.org = $2)

-- name: connections_page
-- Connections of one organization, or of all, oldest first, after a place.
SELECT c.id, c.org, o.uri AS organization, c.kind, c.user_uri, c.role, c.credential_id, c.scopes, c.expires_at,
       c.state, c.reason, c.checked_at, c.created_at, c.changed_at
FROM slotwire.connections c JOIN slotwire.organizations o USING (org)
WHERE ($1::text IS NULL OR c.org = $1)
  AND ($2::timestamptz IS NULL OR (c.created_at, c.id) > ($2, $3::uuid))
ORDER BY c.created_at, c.id LIMIT $4

-- name: best_connection
-- An organization's connection with the highest role that can act; one that cannot act only if none can.
SELECT c.id, c.org, o.uri AS organization, c.kind, c.user_uri, c.role, c.credential_id, c.scopes, c.expires_at,
       c.state, c.reason, c.checked_at, c.created_at, c.changed_at
FROM slotwire.connections c JOIN slotwire.organizations o USING (org)
WHERE c.org = $1
ORDER BY c.state NOT IN ('active', 'expiring'), array_position(ARRAY['owner', 'admin', 'user'], c.role) NULLS LAST,
         c.state, c.checked_at DESC, c.id
LIMIT 1

-- name: lock_current_organization
-- Locks an organization while a credential is written, so that two writers for one user take turns; no row if the
-- organization is not known or was removed.
SELECT org FROM slotwire.organizations WHERE org = $1 AND ended_at IS NULL FOR UPDATE

-- name: connection_of_user
-- The connection that acts as a user, if there is one.
SELECT id, state, reason FROM slotwire.connections WHERE org = $1 AND user_uri = $2

-- name: insert_connection
-- A user's first credential.
INSERT INTO slotwire.connections (id, org, kind, user_uri, role, credential_id, sealed, scopes, expires_at, state,
                                  reason, checked_at, created_at, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $12)

-- name: replace_credential
-- Replaces a credential.
UPDATE slotwire.connections SET kind = $2, role = $3, credential_id = $4, sealed = $5, scopes = $6, expires_at = $7,
       state = $8, reason = $9, checked_at = $10, changed_at = $10
WHERE id = $1

-- name: record_observation
-- Records what was observed about a credential; changes nothing if it was replaced or revoked meanwhile.
UPDATE slotwire.connections SET state = $3, reason = $4, role = coalesce($5, role),
       checked_at = CASE WHEN $6 THEN $7 ELSE checked_at END,
       changed_at = CASE WHEN (state, reason) IS DISTINCT FROM ($3, $4) THEN $7 ELSE changed_at END
WHERE id = $1 AND credential_id = $2 AND state <> 'revoked'

-- name: revoke_connection
-- Calendly refused a credential: changes the state and accepts the event that says so, both or neither. The event's
-- position; null if the credential was replaced or revoked meanwhile.
SELECT slotwire.revoke_connection(
    p_connection => $1, p_credential => $2, p_reason => $3, p_now => $4, p_event => $5) AS position

-- name: delete_connection
-- Deletes a credential.
DELETE FROM slotwire.connections WHERE id = $1 AND ($2::text IS NULL OR org = $2)

-- name: connections_due
-- Connections that Calendly was not asked about since a time, after a place.
SELECT id FROM slotwire.connections
WHERE state <> 'revoked' AND checked_at <= $1 AND id > $2 ORDER BY id LIMIT $3
