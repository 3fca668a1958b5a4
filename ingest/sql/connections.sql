-- Statements of connections: credentials at Calendly, sealed.

-- name: connection
-- One connection of an organization, or of any, with its sealed secret.
SELECT c.id, c.org, o.uri AS organization, o.shard, o.external_id, c.kind, c.user_uri, c.role, c.credential_id,
       c.scopes, c.expires_at, c.state, c.reason, c.checked_at, c.created_at, c.changed_at, c.changes,
       c.access_expires_at, c.sealed, c.refresh_sealed
FROM slotwire.connections c JOIN slotwire.organizations o USING (org)
WHERE c.id = $1 AND ($2::text IS NULL OR c.org = $2)

-- name: connections_page
-- Connections of one organization, or of all, oldest first, after a place.
SELECT c.id, c.org, o.uri AS organization, c.kind, c.user_uri, c.role, c.credential_id, c.scopes, c.expires_at,
       c.state, c.reason, c.checked_at, c.created_at, c.changed_at, c.changes, c.access_expires_at
FROM slotwire.connections c JOIN slotwire.organizations o USING (org)
WHERE ($1::text IS NULL OR c.org = $1)
  AND ($2::timestamptz IS NULL OR (c.created_at, c.id) > ($2, $3::uuid))
ORDER BY c.created_at, c.id LIMIT $4

-- name: best_connection
-- An organization's connection with the highest role that can act; one that cannot act only if none can.
SELECT c.id, c.org, o.uri AS organization, c.kind, c.user_uri, c.role, c.credential_id, c.scopes, c.expires_at,
       c.state, c.reason, c.checked_at, c.created_at, c.changed_at, c.changes, c.access_expires_at
FROM slotwire.connections c JOIN slotwire.organizations o USING (org)
WHERE c.org = $1
ORDER BY c.state NOT IN ('active', 'expiring'), array_position(ARRAY['owner', 'admin', 'user'], c.role) NULLS LAST,
         c.state, c.checked_at DESC, c.id
LIMIT 1

-- name: connection_of_user
-- The connection that acts as a user of an organization.
SELECT c.id, c.org, o.uri AS organization, c.kind, c.user_uri, c.role, c.credential_id, c.scopes, c.expires_at,
       c.state, c.reason, c.checked_at, c.created_at, c.changed_at, c.changes, c.access_expires_at
FROM slotwire.connections c JOIN slotwire.organizations o USING (org)
WHERE c.org = $1 AND c.user_uri = $2

-- name: user_in_organization
-- An organization that is known and not removed, with the connection that acts as one of its users, if there is one.
SELECT o.shard, o.uri AS organization, c.id, c.credential_id, c.changes, c.state, c.reason, c.created_at
FROM slotwire.organizations o LEFT JOIN slotwire.connections c ON c.org = o.org AND c.user_uri = $2
WHERE o.org = $1 AND o.ended_at IS NULL

-- name: store_connection
-- Stores a credential, new or in place of another, with its event. See the function's own words in the migrations. A
-- grant that a flow has in hand ($19, $20) is stored with it: then its link has brought this connection, and the backfill
-- that the link asked for is due.
WITH stored AS MATERIALIZED (
    SELECT slotwire.store_connection(
        p_connection => $1, p_was => $2, p_changes => $3, p_org => $4, p_kind => $5, p_user => $6, p_role => $7,
        p_credential => $8, p_sealed => $9, p_refresh_sealed => $10, p_access_expires_at => $11, p_refresh_at => $12,
        p_scopes => $13, p_expires_at => $14, p_state => $15, p_reason => $16, p_now => $17, p_event => $18) AS outcome
), settled AS (
    DELETE FROM slotwire.pending_connections p USING stored
    WHERE stored.outcome = 'stored' AND p.link_id = $19::uuid AND p.code_hash = $20::bytea RETURNING p.link_id
), brought AS (
    UPDATE slotwire.connect_links l SET connection_id = $1, org = $4 FROM settled WHERE l.id = settled.link_id
    RETURNING l.backfill_from
), requested AS (
    UPDATE slotwire.organizations o SET backfill_from = least(o.backfill_from, brought.backfill_from) FROM brought
    WHERE o.org = $4 AND brought.backfill_from IS NOT NULL AND $7 IN ('owner', 'admin')
)
SELECT outcome FROM stored

-- name: change_connection
-- Changes a connection's state, with its event; whether it was still as it was read.
SELECT slotwire.change_connection(
    p_connection => $1, p_credential => $2, p_changes => $3, p_state => $4, p_reason => $5, p_role => $6,
    p_checked => $7, p_now => $8, p_event => $9) AS changed

-- name: disconnect
-- Deletes an OAuth connection, with its event; whether it was there.
SELECT slotwire.disconnect(p_connection => $1, p_now => $2, p_event => $3) AS gone

-- name: record_observation
-- Records what was observed about a credential whose state stays; changes nothing if it was replaced or revoked
-- meanwhile.
UPDATE slotwire.connections SET role = coalesce($3, role), reason = $5, checked_at = CASE WHEN $4 THEN $6 ELSE checked_at END,
       changed_at = CASE WHEN reason IS DISTINCT FROM $5 THEN $6 ELSE changed_at END
WHERE id = $1 AND credential_id = $2 AND state = $7

-- name: revoke_connection
-- Calendly refused a credential: changes the state and accepts the event that says so, both or neither. The event's
-- position; null if the credential was replaced or revoked meanwhile.
SELECT slotwire.revoke_connection(
    p_connection => $1, p_credential => $2, p_reason => $3, p_now => $4, p_event => $5) AS position

-- name: delete_connection
-- Deletes a credential.
DELETE FROM slotwire.connections WHERE id = $1 AND ($2::text IS NULL OR org = $2)

-- name: connections_due
-- Connections that Calendly was not asked about since a time, after a place, those for the longest first.
SELECT checked_at, id FROM slotwire.connections
WHERE state <> 'revoked' AND checked_at <= $1 AND (checked_at, id) > ($2, $3) ORDER BY checked_at, id LIMIT $4

-- name: store_capabilities
-- Keep what a connection can do.
INSERT INTO slotwire.connection_capabilities AS c (connection, probed_at, plan, stage, capabilities)
VALUES ($1, $2, $3, $4, $5::jsonb)
ON CONFLICT (connection) DO UPDATE SET
    probed_at = excluded.probed_at, plan = excluded.plan, stage = excluded.stage, capabilities = excluded.capabilities

-- name: capabilities
-- What a connection can do, as it was last asked.
SELECT probed_at, plan, stage, capabilities FROM slotwire.connection_capabilities WHERE connection = $1
