-- Statements of OAuth connections: refreshes, links, pending connections, the app's signing keys.

-- name: refreshes_due
-- OAuth connections whose token is past half of its life, after a place. One whose grant is lost has nothing to refresh.
SELECT refresh_at, id FROM slotwire.connections
WHERE kind = 'oauth' AND state <> 'revoked' AND reason IS DISTINCT FROM 'grant_lost'
  AND refresh_at <= $1 AND (refresh_at, id) > ($2, $3)
ORDER BY refresh_at, id LIMIT $4

-- name: grants_of
-- OAuth connections of an organization whose grant may be good.
SELECT id FROM slotwire.connections WHERE org = $1 AND kind = 'oauth' AND state <> 'revoked' ORDER BY id

-- name: begin_refresh
-- Commits an attempt ($2, by $3 until $5) to refresh a connection that is due at $4, whose token ends before $6, or whose
-- credential ($7) Calendly refused. No row while another one is under way. `doubtful`: an attempt was left, so the refresh token may be spent.
WITH due AS (
    SELECT id, credential_id FROM slotwire.connections
    WHERE id = $1 AND kind = 'oauth' AND (refresh_at <= $4 OR access_expires_at <= $6 OR credential_id = $7)
      AND state <> 'revoked' AND reason IS DISTINCT FROM 'grant_lost'
), left_over AS (
    SELECT credential_id FROM slotwire.oauth_refreshes WHERE connection_id = $1
)
INSERT INTO slotwire.oauth_refreshes AS r (connection_id, credential_id, attempt, owner, deadline)
SELECT id, credential_id, $2, $3, $5 FROM due
ON CONFLICT (connection_id) DO UPDATE SET
    credential_id = excluded.credential_id, attempt = excluded.attempt, owner = excluded.owner,
    deadline = excluded.deadline
WHERE r.deadline <= $4
RETURNING r.credential_id, coalesce((SELECT l.credential_id = r.credential_id FROM left_over l), false) AS doubtful

-- name: end_refresh
-- The attempt is over, and what became of it is known.
DELETE FROM slotwire.oauth_refreshes WHERE connection_id = $1 AND attempt = $2

-- name: postpone_refresh
-- What became of the attempt is not known: look again then.
UPDATE slotwire.oauth_refreshes SET deadline = $3 WHERE connection_id = $1 AND attempt = $2

-- name: lock_app_keys
-- Whoever changes the list of the app's keys is alone with it, until the end of the transaction.
SELECT pg_advisory_xact_lock(1936487290)

-- name: share_app_keys
-- The list stays as it is until the end of the transaction.
SELECT pg_advisory_xact_lock_shared(1936487290)

-- name: app_keys
-- The app's keys that are valid, sealed.
SELECT id, sealed FROM slotwire.app_signing_keys ORDER BY created_at, id

-- name: insert_app_key
-- A key that is new in the list.
INSERT INTO slotwire.app_signing_keys (id, sealed, created_at) VALUES ($1, $2, $3)

-- name: delete_app_keys
-- Keys that are no longer in it.
DELETE FROM slotwire.app_signing_keys WHERE id = ANY ($1::uuid[])

-- name: app_signed
-- Subscriptions whose deliveries the app's keys sign; ended ones only if they ended after $1. One whose keys were all
-- revoked at once gets none again.
SELECT s.id, s.org FROM slotwire.subscriptions s
WHERE s.app_signed AND (s.state <> 'ended' OR s.ended_at > $1)
  AND EXISTS (SELECT FROM slotwire.signing_keys k WHERE k.subscription_id = s.id)

-- name: is_app_key
-- Whether a signing key is one of the app's.
SELECT app_key IS NOT NULL FROM slotwire.signing_keys WHERE id = $1

-- name: app_keys_of
-- Which keys of the app a subscription has.
SELECT app_key FROM slotwire.signing_keys WHERE subscription_id = $1 AND app_key IS NOT NULL

-- name: give_app_key
-- One key of the app, for one subscription.
INSERT INTO slotwire.signing_keys (id, subscription_id, sealed, created_at, app_key) VALUES ($1, $2, $3, $4, $5)

-- name: surplus_app_keys
-- Rows of keys that are no longer in the list.
SELECT k.id, k.subscription_id, s.org
FROM slotwire.signing_keys k JOIN slotwire.subscriptions s ON s.id = k.subscription_id
WHERE k.app_key IS NOT NULL AND NOT EXISTS (SELECT FROM slotwire.app_signing_keys a WHERE a.id = k.app_key)

-- name: revoke_app_key
-- Revokes one of them: nothing it signed is accepted any more.
SELECT id FROM slotwire.revoke_signing_keys(p_org => $1, p_subscription => $2, p_key => $3)

-- name: insert_link
-- A link, of whose ticket only a hash is kept.
INSERT INTO slotwire.connect_links (id, ticket_hash, org, external_id, customer, return_url, backfill_from, created_at,
                                    expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: link_by_ticket
-- The link of a ticket.
SELECT l.id, l.org, coalesce(l.external_id, o.external_id) AS external_id, l.customer, l.return_url, l.backfill_from,
       l.created_at, l.expires_at, l.spent_at, l.connection_id
FROM slotwire.connect_links l LEFT JOIN slotwire.organizations o USING (org) WHERE l.ticket_hash = $1

-- name: link
-- A link, of one organization or of any.
SELECT l.id, l.org, coalesce(l.external_id, o.external_id) AS external_id, l.customer, l.return_url, l.backfill_from,
       l.created_at, l.expires_at, l.spent_at, l.connection_id
FROM slotwire.connect_links l LEFT JOIN slotwire.organizations o USING (org)
WHERE l.id = $1 AND ($2::text IS NULL OR l.org = $2)

-- name: links_page
-- Links of one organization, or all, oldest first, after a place.
SELECT l.id, l.org, coalesce(l.external_id, o.external_id) AS external_id, l.customer, l.return_url, l.backfill_from,
       l.created_at, l.expires_at, l.spent_at, l.connection_id
FROM slotwire.connect_links l LEFT JOIN slotwire.organizations o USING (org)
WHERE ($1::text IS NULL OR l.org = $1)
  AND ($2::timestamptz IS NULL OR (l.created_at, l.id) > ($2, $3::uuid))
ORDER BY l.created_at, l.id LIMIT $4

-- name: spend_link
-- The first callback that succeeds spends it; no row for any other.
UPDATE slotwire.connect_links SET spent_at = $2 WHERE id = $1 AND spent_at IS NULL AND expires_at > $2 RETURNING id

-- name: withdraw_link
-- Ends a link before its time.
UPDATE slotwire.connect_links SET expires_at = $2 WHERE id = $1 AND expires_at > $2 AND spent_at IS NULL RETURNING id

-- name: begin_grant
-- A grant is about to be asked for, under a mark of its flow's own; no row while another flow of the link is at it.
INSERT INTO slotwire.pending_connections (link_id, code_hash, sealed, created_at, expires_at)
VALUES ($1, $2, '', $3, $4) ON CONFLICT (link_id) DO NOTHING RETURNING link_id

-- name: keep_grant
-- What Calendly gave, sealed; no row where the flow has lost it.
UPDATE slotwire.pending_connections SET sealed = $3 WHERE link_id = $1 AND code_hash = $2 RETURNING link_id

-- name: hand_over_grant
-- Spends the link, and lets the grant wait for the code whose hash is $3; no row where the link or the grant is over.
WITH spent AS (
    UPDATE slotwire.connect_links l SET spent_at = $4
    WHERE l.id = $1 AND l.spent_at IS NULL AND l.expires_at > $4
      AND EXISTS (SELECT FROM slotwire.pending_connections p WHERE p.link_id = $1 AND p.code_hash = $2)
    RETURNING l.id
)
UPDATE slotwire.pending_connections p SET code_hash = $3, created_at = $4, expires_at = $5
FROM spent WHERE p.link_id = spent.id AND p.code_hash = $2 RETURNING p.link_id

-- name: take_grant
-- The code was presented in time: what waited for it is in the hand of one flow, under its mark $3.
UPDATE slotwire.pending_connections SET code_hash = $3, expires_at = $5
WHERE code_hash = $1 AND link_id = $2 AND expires_at > $4 RETURNING sealed

-- name: late_grant
-- One whose time is over, to be revoked under the mark $2, and again at $3 unless that is done.
UPDATE slotwire.pending_connections SET code_hash = $2, expires_at = $3 WHERE link_id = (
    SELECT link_id FROM slotwire.pending_connections WHERE expires_at <= $1 LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING link_id, sealed, created_at

-- name: drop_grant
-- There is nothing to revoke any more. A link that was spent for this grant alone is good again.
WITH gone AS (
    DELETE FROM slotwire.pending_connections WHERE link_id = $1 AND code_hash = $2 RETURNING link_id
)
UPDATE slotwire.connect_links l SET spent_at = NULL
FROM gone WHERE l.id = gone.link_id AND l.connection_id IS NULL AND l.return_url IS NULL

-- name: forget_links
-- Removes links that ended long ago.
DELETE FROM slotwire.connect_links WHERE id = ANY (ARRAY(
    SELECT id FROM slotwire.connect_links WHERE expires_at <= $1 AND connection_id IS NULL
    ORDER BY expires_at LIMIT $2))

-- name: name_taken
-- Whether another external id than $2 belongs to the organization $1, or another organization has $2.
SELECT EXISTS (SELECT FROM slotwire.organizations
               WHERE org = $1 AND external_id IS NOT NULL AND $2::text IS NOT NULL AND external_id <> $2)
    OR EXISTS (SELECT FROM slotwire.organizations WHERE org <> $1 AND external_id = $2) AS taken

-- name: subscriptions_through
-- Subscriptions that are not ended and were made through a connection.
SELECT id FROM slotwire.subscriptions WHERE connection_id = $1 AND state <> 'ended'

-- name: renew_through
-- Ask for another subscription in the place of each that was made through a connection.
UPDATE slotwire.subscriptions SET renew_at = coalesce(renew_at, $2) WHERE connection_id = $1 AND state = 'active'

-- name: another_administrator
-- Another connection of the organization that can act as owner or admin.
SELECT id FROM slotwire.connections
WHERE org = $1 AND id <> $2 AND state IN ('active', 'expiring') AND role IN ('owner', 'admin') ORDER BY created_at LIMIT 1
