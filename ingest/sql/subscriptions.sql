-- Statements of the subscription manager. A change of state names the epoch of the claim it is made under.

-- name: live_subscriptions
-- An organization's subscriptions that are not ended, oldest first, with when deliveries came over them.
SELECT s.id, s.org, s.hook_id, s.provider_uri, s.scope, s.events, s.state, s.max_age_seconds, s.created_at, s.ended_at,
       s.subject, s.replaces, s.retrying_since, s.lost_at, s.lost_reason, s.deleting_at, s.renew_at,
       a.first_at AS first_delivery_at, a.last_at AS last_delivery_at
FROM slotwire.subscriptions s LEFT JOIN slotwire.hook_activity a ON a.subscription_id = s.id
WHERE s.org = $1 AND s.state <> 'ended' ORDER BY s.created_at, s.id

-- name: unrestored_subscriptions
-- An organization's subscriptions that were lost, and whose place was not seen served since, oldest first.
SELECT s.id, s.org, s.hook_id, s.provider_uri, s.scope, s.events, s.state, s.max_age_seconds, s.created_at, s.ended_at,
       s.subject, s.replaces, s.retrying_since, s.lost_at, s.lost_reason
FROM slotwire.subscriptions s
JOIN slotwire.wanted_subscriptions w ON (w.org, w.scope, w.subject) = (s.org, s.scope, s.subject)
WHERE s.org = $1 AND s.lost_at IS NOT NULL AND s.restored_by IS NULL ORDER BY s.lost_at, s.id LIMIT 100

-- name: dead_hooks
-- Hooks of an organization's ended subscriptions whose signing keys are all revoked, the newest, among the newest 1,000.
SELECT hook_id FROM (
    SELECT id, hook_id, ended_at FROM slotwire.subscriptions
    WHERE org = $1 AND state = 'ended' ORDER BY ended_at DESC LIMIT 1000
) AS s
WHERE NOT EXISTS (SELECT FROM slotwire.signing_keys k WHERE k.subscription_id = s.id)
ORDER BY ended_at DESC LIMIT 100

-- name: losses
-- An organization's subscriptions that were gone since a time, and whether deliveries to them had failed before.
SELECT scope, subject, lost_at, retrying_since IS NOT NULL AS failed
FROM slotwire.subscriptions
WHERE org = $1 AND lost_at > $2 AND lost_reason = 'gone' ORDER BY lost_at, id

-- name: place_states
-- What is known of the wanted places of an organization.
SELECT scope, subject, refused_for_plan, refused_for_scope, refused_at, contested_at, resumed_at
FROM slotwire.wanted_subscriptions WHERE org = $1

-- name: watch_organization
-- Give an organization its row, if it has none.
INSERT INTO slotwire.subscription_watch (org) VALUES ($1) ON CONFLICT (org) DO NOTHING

-- name: watch_organizations
-- Give their rows to all organizations with work that have none.
INSERT INTO slotwire.subscription_watch (org)
SELECT org FROM slotwire.organizations o
WHERE ended_at IS NULL
  AND NOT EXISTS (SELECT FROM slotwire.subscription_watch w WHERE w.org = o.org)
  AND (EXISTS (SELECT FROM slotwire.wanted_subscriptions w WHERE w.org = o.org)
       OR EXISTS (SELECT FROM slotwire.subscriptions s WHERE s.org = o.org AND s.state <> 'ended'))
ON CONFLICT (org) DO NOTHING

-- name: put_off_idle
-- Put the rounds off that are due and have nothing to do, at most $3 at once: those of organizations that are removed, or
-- that want nothing and have nothing. So whoever looks for a round that is due does not look through them each time.
UPDATE slotwire.subscription_watch w SET next_at = $2, silent = false, unserved = 0, findings = '{}'
WHERE w.org = ANY (ARRAY(
    SELECT d.org FROM slotwire.subscription_watch d
    WHERE d.next_at <= $1 AND d.until <= $1 AND NOT (
        EXISTS (SELECT FROM slotwire.organizations n WHERE n.org = d.org AND n.ended_at IS NULL)
        AND (EXISTS (SELECT FROM slotwire.wanted_subscriptions x WHERE x.org = d.org)
             OR EXISTS (SELECT FROM slotwire.subscriptions s WHERE s.org = d.org AND s.state <> 'ended')))
    ORDER BY d.next_at LIMIT $3 FOR UPDATE SKIP LOCKED))

-- name: claim_organization
-- Claim an organization until $3, if nobody has it at $2 or it is taken by force; the claim's epoch.
UPDATE slotwire.subscription_watch w SET epoch = epoch + 1, until = $3
FROM slotwire.organizations o
WHERE w.org = $1 AND o.org = w.org AND (w.until <= $2 OR $4)
RETURNING w.epoch, o.shard

-- name: claim_due
-- Claim the organization whose round is due for longest.
UPDATE slotwire.subscription_watch w SET epoch = epoch + 1, until = $2
FROM slotwire.organizations o
WHERE o.org = w.org AND w.org = (
    SELECT d.org FROM slotwire.subscription_watch d
    JOIN slotwire.organizations n ON n.org = d.org AND n.ended_at IS NULL
    WHERE d.next_at <= $1 AND d.until <= $1
      -- OFFSET: asked of this one, instead of all being gathered first.
      AND (EXISTS (SELECT FROM slotwire.wanted_subscriptions x WHERE x.org = d.org OFFSET 0)
           OR EXISTS (SELECT FROM slotwire.subscriptions s WHERE s.org = d.org AND s.state <> 'ended' OFFSET 0))
    ORDER BY d.next_at, d.org LIMIT 1 FOR UPDATE OF d SKIP LOCKED)
RETURNING w.org, w.epoch, o.shard, o.uri

-- name: keep_claim
-- Keep a claim until $3; no row if another has it.
UPDATE slotwire.subscription_watch SET until = $3 WHERE org = $1 AND epoch = $2 RETURNING org

-- name: leave_claim
-- Give a claim back.
UPDATE slotwire.subscription_watch SET until = '-infinity' WHERE org = $1 AND epoch = $2

-- name: watch_row
-- What the last round of an organization left for the next.
SELECT silent, listed_at, well_at, after_place, cycle_at, cycle_well, rate_limit, departed, creators_at, findings
FROM slotwire.subscription_watch WHERE org = $1

-- name: end_round
-- What a round found, and when the next is due. The claim is given back.
UPDATE slotwire.subscription_watch SET
    until = '-infinity', next_at = $3, listed_at = coalesce($4, listed_at), well_at = coalesce($5, well_at),
    after_place = $6, cycle_at = $7, cycle_well = $8, rate_limit = coalesce($9, rate_limit), departed = $10,
    creators_at = $11, unserved = $12, findings = $13
WHERE org = $1 AND epoch = $2
RETURNING org

-- name: hurry
-- Make an organization's next round due now.
UPDATE slotwire.subscription_watch SET next_at = '-infinity' WHERE org = $1

-- name: note_silence
-- Note whose silence is unusual; whoever fell silent is due at once.
UPDATE slotwire.subscription_watch SET silent = (org = ANY ($1)),
       next_at = CASE WHEN org = ANY ($1) THEN least(next_at, $2) ELSE next_at END
WHERE org = ANY (ARRAY(SELECT org FROM slotwire.subscription_watch WHERE silent) || $1::text[])
  AND silent <> (org = ANY ($1))

-- name: count_findings
-- How many findings of each kind the last rounds had, of organizations that are not removed.
SELECT split_part(finding, ' ', 1) AS kind, count(*) AS findings
FROM slotwire.subscription_watch w JOIN slotwire.organizations o USING (org), unnest(w.findings) AS finding
WHERE o.ended_at IS NULL AND w.findings <> '{}' GROUP BY 1

-- name: rounds_state
-- How many wanted subscriptions nothing serves, and when the organization that waits longest was listed.
SELECT coalesce(sum(w.unserved), 0) AS unserved, min(w.listed_at) AS listed_at
FROM slotwire.subscription_watch w JOIN slotwire.organizations o USING (org)
WHERE o.ended_at IS NULL
  AND (EXISTS (SELECT FROM slotwire.wanted_subscriptions x WHERE x.org = w.org)
       OR EXISTS (SELECT FROM slotwire.subscriptions s WHERE s.org = w.org AND s.state <> 'ended'))

-- name: insert_subscription
-- A subscription that is about to be created, with its sealed signing key; both before Calendly is asked. Without a key
-- it is the OAuth app that signs.
WITH claim AS (
    SELECT FROM slotwire.subscription_watch WHERE org = $2 AND epoch = $12 FOR SHARE
), made AS (
    INSERT INTO slotwire.subscriptions (id, org, hook_id, scope, subject, events, state, max_age_seconds, created_at,
                                        replaces, app_signed, connection_id)
    SELECT $1, $2, $3, $4, $5, $6, 'creating', $7, $8, $11, $10::bytea IS NULL, $13 FROM claim
    RETURNING id
), keyed AS (
    INSERT INTO slotwire.signing_keys (id, subscription_id, sealed, created_at)
    SELECT $9, id, $10, $8 FROM made WHERE $10::bytea IS NOT NULL
)
SELECT id FROM made

-- name: activate_subscription
-- Calendly has created it. No row if it was ended meanwhile, or the claim is another's.
WITH claim AS (
    SELECT w.org FROM slotwire.subscription_watch w JOIN slotwire.subscriptions s ON s.org = w.org
    WHERE s.id = $1 AND w.epoch = $3 FOR SHARE OF w
)
UPDATE slotwire.subscriptions SET state = 'active', provider_uri = $2
WHERE id = $1 AND state = 'creating' AND EXISTS (SELECT FROM claim)
RETURNING id, org, hook_id, provider_uri, scope, events, state, max_age_seconds, created_at, ended_at, subject, replaces

-- name: end_subscription
-- Calendly does not have it, or no longer has it. Only from the state that was read; its hook stays valid for a while.
WITH claim AS (
    SELECT w.org FROM slotwire.subscription_watch w JOIN slotwire.subscriptions s ON s.org = w.org
    WHERE s.id = $1 AND w.epoch = $4 FOR SHARE OF w
)
UPDATE slotwire.subscriptions SET state = 'ended', ended_at = $3
WHERE id = $1 AND state = $2 AND EXISTS (SELECT FROM claim)
RETURNING id, org, hook_id, provider_uri, scope, events, state, max_age_seconds, created_at, ended_at, subject, replaces

-- name: begin_deletion
-- It is about to be deleted at Calendly: if it is missing there afterwards, it was us. The claim is kept until $4.
WITH claim AS (
    UPDATE slotwire.subscription_watch w SET until = $4 FROM slotwire.subscriptions s
    WHERE s.id = $1 AND w.org = s.org AND w.epoch = $2 RETURNING w.org
)
UPDATE slotwire.subscriptions SET deleting_at = coalesce(deleting_at, $3)
WHERE id = $1 AND EXISTS (SELECT FROM claim) RETURNING id

-- name: note_retrying
-- Since when Calendly retries to it; null if it does not.
WITH claim AS (
    SELECT w.org FROM slotwire.subscription_watch w JOIN slotwire.subscriptions s ON s.org = w.org
    WHERE s.id = $1 AND w.epoch = $3 FOR SHARE OF w
)
UPDATE slotwire.subscriptions SET retrying_since = $2 WHERE id = $1 AND EXISTS (SELECT FROM claim) RETURNING id

-- name: contest_place
-- Nothing is made in this place any more.
WITH claim AS (SELECT FROM slotwire.subscription_watch WHERE org = $1 AND epoch = $5 FOR SHARE)
UPDATE slotwire.wanted_subscriptions SET contested_at = $4
WHERE org = $1 AND scope = $2 AND subject = $3 AND contested_at IS NULL AND EXISTS (SELECT FROM claim)
RETURNING org

-- name: resume_places
-- Let subscriptions of an organization be made again.
UPDATE slotwire.wanted_subscriptions SET contested_at = NULL, resumed_at = $2
WHERE org = $1 AND contested_at IS NOT NULL RETURNING scope, subject

-- name: note_refusals
-- Which events of a place Calendly refused, for the plan and for the token's scopes.
WITH claim AS (SELECT FROM slotwire.subscription_watch WHERE org = $1 AND epoch = $7 FOR SHARE)
UPDATE slotwire.wanted_subscriptions SET refused_for_plan = $4, refused_for_scope = $5, refused_at = $6
WHERE org = $1 AND scope = $2 AND subject = $3 AND EXISTS (SELECT FROM claim)
RETURNING org

-- name: renew_keys
-- Ask for another signing key for the subscriptions of one organization, or of all, that are not being renewed already.
-- Keys of the OAuth app are a list of their own.
UPDATE slotwire.subscriptions s SET renew_at = $2
WHERE ($1::text IS NULL OR s.org = $1) AND s.state = 'active' AND s.renew_at IS NULL AND NOT s.app_signed
  AND NOT EXISTS (SELECT FROM slotwire.subscriptions n WHERE n.replaces = s.id AND n.state <> 'ended')
  AND EXISTS (SELECT FROM slotwire.wanted_subscriptions w WHERE (w.org, w.scope, w.subject) = (s.org, s.scope, s.subject))
RETURNING s.id, s.org

-- name: lose_subscription
-- It was found disabled or gone: noted, with its event, both or neither. The event's position; 0 if the claim is
-- another's; null if it was noted before.
SELECT slotwire.lose_subscription(
    p_subscription => $1, p_epoch => $2, p_reason => $3, p_now => $4, p_event => $5) AS position

-- name: restore_subscription
-- Its place is served again: noted, with its event. The answer as above.
SELECT slotwire.restore_subscription(
    p_lost => $1, p_by => $2, p_epoch => $3, p_now => $4, p_event => $5) AS position

-- name: deletions_confirmed
-- Whether deletions at Calendly are carried out on this server, and not only proposed.
SELECT slotwire.deletions_confirmed()

-- name: confirm_deletions
-- Carry deletions out on this server from now on; whether they were only proposed before.
SELECT slotwire.confirm_deletions(p_now => $1)

-- name: has_claim
-- Whether a claim is still held.
SELECT org FROM slotwire.subscription_watch WHERE org = $1 AND epoch = $2
