-- Statements of `ingest/control/observation.py`: what `slotwire control` reads for its metrics.

-- name: hold_observer
-- Take or keep the right to show what is read for all, until $3; no row while another process has it.
INSERT INTO slotwire.observer AS o (holder, until) VALUES ($1, $3)
ON CONFLICT (singleton) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE o.holder = $1 OR o.until <= $2
RETURNING holder

-- name: leave_observer
-- Give it back, so that another process need not wait for its end.
DELETE FROM slotwire.observer WHERE holder = $1

-- name: observed_shards
-- The shards of the log, none if there is no log yet; their places are made where they are missing.
WITH shards AS (SELECT generate_series(0, shards - 1)::smallint AS shard FROM slotwire.log),
made AS (
    INSERT INTO slotwire.activity_places (shard, position) SELECT shard, 0 FROM shards
    ON CONFLICT (shard) DO NOTHING
)
SELECT shard FROM shards ORDER BY shard

-- name: count_activity
-- Count the webhooks of the next deliveries of a shard, at most $2, by organization and hour; and note when the first and
-- the last came over each subscription. How many deliveries those were.
WITH place AS (
    SELECT position FROM slotwire.activity_places WHERE shard = $1 FOR UPDATE
), page AS (
    SELECT position, org, subscription_id, origin, received_at FROM slotwire.deliveries
    WHERE shard = $1 AND position > (SELECT position FROM place) ORDER BY position LIMIT $2
), counted AS (
    INSERT INTO slotwire.activity AS a (org, hour, deliveries, last_at)
    SELECT org, date_trunc('hour', received_at, 'UTC'), count(*), max(received_at) FROM page
    WHERE origin = 'webhook' GROUP BY 1, 2
    ON CONFLICT (org, hour) DO UPDATE SET
        deliveries = a.deliveries + excluded.deliveries, last_at = greatest(a.last_at, excluded.last_at)
), told AS (
    INSERT INTO slotwire.hook_activity AS h (subscription_id, org, first_at, last_at)
    SELECT subscription_id, min(org), min(received_at), max(received_at) FROM page
    WHERE origin = 'webhook' AND subscription_id IS NOT NULL GROUP BY 1
    ON CONFLICT (subscription_id) DO UPDATE SET
        first_at = least(h.first_at, excluded.first_at), last_at = greatest(h.last_at, excluded.last_at)
), moved AS (
    UPDATE slotwire.activity_places SET position = (SELECT max(position) FROM page)
    WHERE shard = $1 AND EXISTS (SELECT FROM page)
)
SELECT count(*) FROM page

-- name: forget_activity
-- Delete what is older than $1, but the newest hour of each organization.
DELETE FROM slotwire.activity a
WHERE hour < $1 AND EXISTS (SELECT FROM slotwire.activity newer WHERE newer.org = a.org AND newer.hour > a.hour)

-- name: last_deliveries
-- Of each organization with a subscription that is active: when its last webhook came, if one did, and since when it is
-- subscribed; the oldest organizations first.
SELECT o.org, since.at AS subscribed_at,
       (SELECT a.last_at FROM slotwire.activity a WHERE a.org = o.org ORDER BY a.hour DESC LIMIT 1) AS last_at
FROM slotwire.organizations o
JOIN LATERAL (
    SELECT min(created_at) AS at FROM slotwire.subscriptions s WHERE s.org = o.org AND s.state = 'active'
) AS since ON since.at IS NOT NULL
WHERE o.ended_at IS NULL
ORDER BY o.created_at, o.org LIMIT $1

-- name: active_hours
-- Of these organizations, in how many of the four weeks before its last webhook each hour of the week had one, unless
-- that is older than $1; and the first and the last hour that are known of each.
WITH ends AS (
    SELECT org, min(hour) AS first, max(hour) AS last FROM slotwire.activity WHERE org = ANY ($2) GROUP BY org
)
SELECT org, extract(isodow FROM hour AT TIME ZONE 'UTC')::int * 24 - 24 + extract(hour FROM hour AT TIME ZONE 'UTC')::int
           AS hour_of_week,
       count(*) AS weeks, min(first) AS first, min(last) AS last
FROM ends JOIN slotwire.activity USING (org)
WHERE last >= $1 AND hour > last - interval '28 days' GROUP BY 1, 2 ORDER BY 1, 2

-- name: count_quarantine
-- How many deliveries wait in quarantine, by reason, counted up to $1.
SELECT reason, count(*) AS deliveries
FROM (SELECT reason FROM slotwire.quarantine WHERE state = 'waiting' LIMIT $1) AS waiting GROUP BY reason

-- name: count_connections
-- How many connections are in each state.
SELECT state, count(*) AS connections FROM slotwire.connections GROUP BY state

-- name: observe
-- What fits in one row: parked events, erasures that are open, the first token to expire, ranges ahead, and the server's
-- connections.
SELECT (SELECT count(*) FROM slotwire.parked_events) AS parked,
       (SELECT count(*) FROM slotwire.erasures WHERE state = 'open') AS erasures_open,
       (SELECT min(asked_at) FROM slotwire.erasures WHERE state = 'open') AS erasure_oldest,
       (SELECT min(CASE reason WHEN 'refresh_fails' THEN access_expires_at ELSE expires_at END)
        FROM slotwire.connections WHERE state IN ('active', 'expiring')) AS token_expiry,
       (SELECT last_range - greatest(0, ($1::timestamptz AT TIME ZONE 'UTC')::date
                                        - (created_at AT TIME ZONE 'UTC')::date)
        FROM slotwire.log) AS ranges_ahead,
       (SELECT sum(numbackends) FROM pg_stat_database) AS connections,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0) AS connections_limit

-- name: count_holes
-- How many holes are open, by cause, and when the first of them was noticed.
SELECT h.cause, count(*) AS holes, min(h.noticed_at) AS noticed_at
FROM slotwire.holes h JOIN slotwire.organizations o ON o.org = h.org AND o.ended_at IS NULL
WHERE h.state <> 'closed' GROUP BY h.cause
