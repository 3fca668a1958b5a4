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
