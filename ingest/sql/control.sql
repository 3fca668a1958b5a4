-- Statements of `ingest/control`: organizations, subscriptions and their sealed signing keys.

-- name: load_hook
-- Everything a delivery to this hook is checked and filed with, in one round trip; the keys newest first.
SELECT s.id AS subscription_id, s.state, s.ended_at, s.max_age_seconds, o.uri, o.org, o.shard, o.external_id,
       array(SELECT k.id FROM slotwire.signing_keys k
             WHERE k.subscription_id = s.id ORDER BY k.created_at DESC, k.id) AS key_ids,
       array(SELECT k.sealed FROM slotwire.signing_keys k
             WHERE k.subscription_id = s.id ORDER BY k.created_at DESC, k.id) AS sealed_keys
FROM slotwire.subscriptions s
JOIN slotwire.organizations o USING (org)
WHERE s.hook_id = $1

-- name: log_shards
-- How many shards the log has; no row: it is not made yet.
SELECT shards FROM slotwire.log

-- name: keep_organization
-- Make the organization known, or keep it; a name of the user's own replaces the one before.
INSERT INTO slotwire.organizations AS o (org, uri, external_id, shard, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (org) DO UPDATE SET external_id = coalesce(excluded.external_id, o.external_id)
RETURNING o.org, o.uri, o.external_id, o.shard

-- name: lock_organization
-- Taken while a subscription is written, so that two creations see each other.
SELECT org FROM slotwire.organizations WHERE org = $1 FOR UPDATE

-- name: live_subscriptions
-- What of an organization is not ended, oldest first.
SELECT id, org, hook_id, provider_uri, scope, events, state, max_age_seconds, created_at, ended_at
FROM slotwire.subscriptions WHERE org = $1 AND state <> 'ended' ORDER BY created_at, id

-- name: subscriptions_page
-- Subscriptions of one organization, or of all, oldest first, after a place.
SELECT id, org, hook_id, provider_uri, scope, events, state, max_age_seconds, created_at, ended_at
FROM slotwire.subscriptions
WHERE ($1::text IS NULL OR org = $1)
  AND ($2::timestamptz IS NULL OR (created_at, id) > ($2, $3::uuid))
ORDER BY created_at, id LIMIT $4

-- name: subscription
-- One subscription of an organization, or of any.
SELECT id, org, hook_id, provider_uri, scope, events, state, max_age_seconds, created_at, ended_at
FROM slotwire.subscriptions WHERE id = $1 AND ($2::text IS NULL OR org = $2)

-- name: insert_subscription
-- A subscription that is about to be made, with its sealed signing key: both, before Calendly is asked.
WITH made AS (
    INSERT INTO slotwire.subscriptions (id, org, hook_id, scope, events, state, max_age_seconds, created_at)
    VALUES ($1, $2, $3, 'organization', $4, 'creating', $5, $6)
    RETURNING id
)
INSERT INTO slotwire.signing_keys (id, subscription_id, sealed, created_at)
SELECT $7, id, $8, $6 FROM made

-- name: activate_subscription
-- Calendly has it. No row: somebody ended it meanwhile.
UPDATE slotwire.subscriptions SET state = 'active', provider_uri = $2
WHERE id = $1 AND state = 'creating'
RETURNING id, org, hook_id, provider_uri, scope, events, state, max_age_seconds, created_at, ended_at

-- name: end_subscription
-- Calendly does not have it, or no longer. Only from the state that was seen; its hook stays valid for a while.
UPDATE slotwire.subscriptions SET state = 'ended', ended_at = $3
WHERE id = $1 AND state = $2
RETURNING id, org, hook_id, provider_uri, scope, events, state, max_age_seconds, created_at, ended_at
