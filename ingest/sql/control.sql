-- Statements of `ingest/control`: organizations, subscriptions and their sealed signing keys.

-- name: load_hook
-- Everything needed to verify and file a delivery to this hook, in one round trip; the keys newest first.
SELECT s.id AS subscription_id, s.state, s.ended_at, s.max_age_seconds, o.uri, o.org, o.shard, o.external_id,
       array(SELECT k.id FROM slotwire.signing_keys k
             WHERE k.subscription_id = s.id ORDER BY k.created_at DESC, k.id) AS key_ids,
       array(SELECT k.sealed FROM slotwire.signing_keys k
             WHERE k.subscription_id = s.id ORDER BY k.created_at DESC, k.id) AS sealed_keys
FROM slotwire.subscriptions s
JOIN slotwire.organizations o USING (org)
WHERE s.hook_id = $1

-- name: log_shards
-- How many shards the log has; no row if there is no log yet.
SELECT shards FROM slotwire.log

-- name: upsert_organization
-- Adds an organization, or adds it again after it was removed. An external id that is set stays: no row, and no change,
-- if another one is given.
INSERT INTO slotwire.organizations AS o (org, uri, external_id, shard, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (org) DO UPDATE SET external_id = coalesce(o.external_id, excluded.external_id), ended_at = NULL
WHERE excluded.external_id IS NULL OR o.external_id IS NULL OR o.external_id = excluded.external_id
RETURNING o.org, o.uri, o.external_id, o.shard

-- name: rename_organization
-- Gives an organization another external id, or none.
UPDATE slotwire.organizations SET external_id = $2 WHERE org = $1 RETURNING org

-- name: lock_organization
-- Locks an organization while a subscription is written, so that two creations see each other.
SELECT org FROM slotwire.organizations WHERE org = $1 FOR UPDATE

-- name: subscriptions_page
-- Subscriptions of one organization, or of all, oldest first, after a place.
SELECT id, org, hook_id, provider_uri, scope, events, state, max_age_seconds, created_at, ended_at, subject
FROM slotwire.subscriptions
WHERE ($1::text IS NULL OR org = $1)
  AND ($2::timestamptz IS NULL OR (created_at, id) > ($2, $3::uuid))
ORDER BY created_at, id LIMIT $4

-- name: subscription
-- One subscription of an organization, or of any.
SELECT id, org, hook_id, provider_uri, scope, events, state, max_age_seconds, created_at, ended_at, subject
FROM slotwire.subscriptions WHERE id = $1 AND ($2::text IS NULL OR org = $2)

-- name: signing_keys_page
-- Signing keys, oldest first, after a place; never what is sealed.
SELECT k.id, s.org, k.subscription_id, s.state AS subscription_state, k.created_at
FROM slotwire.signing_keys k JOIN slotwire.subscriptions s ON s.id = k.subscription_id
WHERE $1::timestamptz IS NULL OR (k.created_at, k.id) > ($1, $2::uuid)
ORDER BY k.created_at, k.id LIMIT $3

-- name: signing_keys_of_org
-- The same, of one organization: all of its keys are gathered, and those of no other.
WITH theirs AS MATERIALIZED (
    SELECT k.id, s.org, k.subscription_id, s.state AS subscription_state, k.created_at
    FROM slotwire.subscriptions s JOIN slotwire.signing_keys k ON k.subscription_id = s.id WHERE s.org = $4
)
SELECT * FROM theirs WHERE $1::timestamptz IS NULL OR (created_at, id) > ($1, $2::uuid)
ORDER BY created_at, id LIMIT $3

-- name: signing_key
-- One signing key of an organization, or of any; never what is sealed.
SELECT k.id, s.org, k.subscription_id, s.state AS subscription_state, k.created_at
FROM slotwire.signing_keys k JOIN slotwire.subscriptions s ON s.id = k.subscription_id
WHERE k.id = $1 AND ($2::text IS NULL OR s.org = $2)

-- name: revoke_signing_keys
-- Revokes signing keys of an organization: all, those of one subscription, or a single one. From the commit on, nothing
-- they signed is accepted.
SELECT id FROM slotwire.revoke_signing_keys(p_org => $1, p_subscription => $2, p_key => $3)

-- name: end_without_keys
-- Ends a subscription that has no signing key left, so that another one takes its place.
UPDATE slotwire.subscriptions s SET state = 'ended', ended_at = $2
WHERE id = $1 AND state <> 'ended' AND NOT EXISTS (SELECT FROM slotwire.signing_keys k WHERE k.subscription_id = s.id)
RETURNING id

-- name: want
-- One wanted subscription per scope and subject; it replaces the earlier one.
WITH roused AS ( -- its rounds are put off while there is nothing to do
    UPDATE slotwire.subscription_watch SET next_at = $6::timestamptz + interval '1 minute'
    WHERE org = $1 AND next_at > $6::timestamptz + interval '1 minute'
)
INSERT INTO slotwire.wanted_subscriptions (org, scope, subject, events, max_age_seconds, changed_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (org, scope, subject) DO UPDATE SET
    events = excluded.events, max_age_seconds = excluded.max_age_seconds, changed_at = excluded.changed_at,
    refused_at = NULL -- Calendly is asked again for what it refused

-- name: unwant
-- Removes the wanted subscription of one scope and subject or, without a scope, all of an organization.
DELETE FROM slotwire.wanted_subscriptions
WHERE org = $1 AND ($2::text IS NULL OR (scope = $2 AND subject = $3))

-- name: is_wanted
-- Whether a wanted subscription is still as it was read.
SELECT EXISTS (
    SELECT FROM slotwire.wanted_subscriptions
    WHERE org = $1 AND scope = $2 AND subject = $3 AND events = $4 AND max_age_seconds IS NOT DISTINCT FROM $5)

-- name: wanted
-- The wanted subscriptions of one organization.
SELECT scope, subject, events, max_age_seconds FROM slotwire.wanted_subscriptions WHERE org = $1 ORDER BY scope, subject

-- name: hook_is_live
-- Whether a hook belongs to a subscription of ours that is not ended.
SELECT EXISTS (SELECT FROM slotwire.subscriptions WHERE hook_id = $1 AND state <> 'ended')

-- name: organizations_with_work
-- Organizations, not removed, with wanted subscriptions or subscriptions that are not ended.
SELECT org, uri FROM slotwire.organizations o
WHERE ended_at IS NULL
  AND (EXISTS (SELECT FROM slotwire.wanted_subscriptions w WHERE w.org = o.org)
       OR EXISTS (SELECT FROM slotwire.subscriptions s WHERE s.org = o.org AND s.state <> 'ended'))
ORDER BY org

-- name: organizations_to_backfill
-- Organizations, not removed, of which meetings are still to be fetched.
SELECT org FROM slotwire.organizations WHERE backfill_from IS NOT NULL AND ended_at IS NULL ORDER BY org

-- name: request_backfill
-- Notes that a backfill is due; an earlier start that is noted already stays.
UPDATE slotwire.organizations SET backfill_from = least(backfill_from, $2) WHERE org = $1

-- name: due_backfill
-- The backfill that is due for one organization, and what its events need; no row if none is.
SELECT uri, shard, external_id, backfill_from FROM slotwire.organizations
WHERE org = $1 AND backfill_from IS NOT NULL AND ended_at IS NULL

-- name: finish_backfill
-- The backfill from this time on is done; an earlier start that was requested meanwhile stays due.
UPDATE slotwire.organizations SET backfill_from = NULL WHERE org = $1 AND backfill_from = $2

-- name: organizations_page
-- Organizations by identifier, after a place, with their subscriptions counted and their connections' states.
SELECT o.org, o.uri, o.external_id, o.created_at, o.ended_at, o.backfill_from,
       (SELECT count(*) FROM slotwire.subscriptions s WHERE s.org = o.org AND s.state <> 'ended') AS subscriptions,
       array(SELECT c.state FROM slotwire.connections c WHERE c.org = o.org ORDER BY c.created_at, c.id) AS connections
FROM slotwire.organizations o
WHERE ($1::text IS NULL OR o.org > $1) AND ($2::text IS NULL OR o.org = $2)
  AND ($3 OR o.ended_at IS NULL)
ORDER BY o.org LIMIT $4

-- name: end_organization
-- Marks an organization as removed; its history stays.
UPDATE slotwire.organizations SET ended_at = coalesce(ended_at, $2), backfill_from = NULL WHERE org = $1

-- name: forget_open_holes_of
-- Deletes the holes of an organization that are not filled: nobody can fetch what they hide any more.
DELETE FROM slotwire.holes WHERE org = $1 AND state <> 'closed'

-- name: delete_connections_of
-- Deletes the credentials of an organization.
DELETE FROM slotwire.connections WHERE org = $1 RETURNING id

-- name: end_runs_of
-- Ends the runs of an organization's events that wait, in all agents.
SELECT slotwire.end_runs($1, NULL, $2)

-- name: forget_chains_of
-- Forgets what agents remember of an organization's chains.
SELECT slotwire.forget_chains($1, NULL)

-- name: revoke_keys_of
-- Revokes the management API keys that reach this organization only.
UPDATE slotwire.api_keys SET revoked_at = $2 WHERE org = $1 AND revoked_at IS NULL RETURNING id

-- name: unwritten_fetched
-- How many fetched deliveries of a shard are accepted and not yet written, counted up to $2.
SELECT count(*) FROM (
    SELECT FROM slotwire.deliveries d
    WHERE shard = $1 AND origin IN ('backfill', 'reconcile')
      AND position > (SELECT position FROM slotwire.heads WHERE shard = $1 ORDER BY version DESC LIMIT 1)
      AND NOT EXISTS (SELECT FROM slotwire.results r WHERE r.shard = d.shard AND r.position = d.position)
    LIMIT $2
) AS unwritten

-- name: outcomes
-- What became of the deliveries after one position and up to another, by outcome.
SELECT outcome, count(*) AS deliveries FROM slotwire.results
WHERE shard = $1 AND position > $2 AND position <= $3 GROUP BY outcome

-- name: drop_range
-- Drop the oldest range of a table of the log that is old enough and not needed; which one it was.
SELECT slotwire.drop_range(p_now => $1, p_table => $2, p_days => $3)

-- name: prune
-- Remove what was settled long ago, at most so much at once; how many rows that were.
SELECT slotwire.prune(p_now => $1, p_table => $2, p_days => $3, p_limit => $4)

-- name: prune_audit
-- The same, of the audit.
SELECT slotwire.prune_audit(p_now => $1, p_days => $2, p_limit => $3)

-- name: drop_use_day
-- Drop the oldest day of the uses of credentials that ended more than $2 days ago; null where none may go.
SELECT slotwire.drop_use_day(p_now => $1, p_days => $2)

-- name: prune_uses
-- Remove the uses of credentials of so many days ago that are in no partition of a day, at most so many; how many.
SELECT slotwire.prune_uses(p_now => $1, p_days => $2, p_limit => $3)

-- name: retained
-- Of each kind that is kept for a time: for how many days it goes back. Of the inbox the server estimates.
SELECT (SELECT days FROM slotwire.ranges_of('deliveries', $1) ORDER BY range LIMIT 1) AS bodies,
       (SELECT days FROM slotwire.ranges_of('results', $1) ORDER BY range LIMIT 1) AS results,
       (SELECT days FROM slotwire.ranges_of('events', $1) ORDER BY range LIMIT 1) AS events,
       (SELECT extract(day FROM $1 - min(settled_at))::integer FROM slotwire.quarantine WHERE state <> 'waiting')
           AS quarantine,
       (SELECT extract(day FROM $1 - at)::integer FROM slotwire.audit ORDER BY id LIMIT 1) AS audit,
       (SELECT extract(day FROM $1 - at)::integer FROM slotwire.uses ORDER BY id LIMIT 1) AS uses

-- name: held_ranges
-- The ranges of a table that are older than so many days and still kept, and what they are needed for.
SELECT range, slotwire.needed_for($2, range) AS needed_for
FROM slotwire.ranges_of($2, $1) WHERE days >= $3 ORDER BY range

-- name: make_ranges
-- Make the partitions of the coming days; how many days are ahead then.
SELECT slotwire.make_ranges(p_now => $1, p_ahead => $2)

-- name: make_use_days
-- Make the partitions of the uses of credentials of the coming days; how many were made.
SELECT slotwire.make_use_days(p_now => $1, p_ahead => $2)
