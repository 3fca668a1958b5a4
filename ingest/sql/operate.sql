-- Statements of `ingest/operate`: keys, the audit, idempotency, and what operators read.
--
-- A list over several values of a column (types, outcomes, states) reads a page of each and merges them. BETWEEN a value
-- and itself is no equality to the planner: so the order by that column and the next stays one that only the index with
-- both has, and it takes that index, however common it thinks the value is.

-- name: insert_key
-- Add a key of the management API: only its hash.
INSERT INTO slotwire.api_keys (id, hash, role, org, label, created_at) VALUES ($1, $2, $3, $4, $5, $6)

-- name: keys_by_hash
-- The keys with some hashes.
SELECT id, hash, role, org, revoked_at, last_used_at FROM slotwire.api_keys WHERE hash = ANY ($1::bytea[])

-- name: touch_keys
-- Record that keys were used.
UPDATE slotwire.api_keys SET last_used_at = $2 WHERE id = ANY ($1::uuid[])

-- name: keys_page
-- Keys of one organization, or all, oldest first, after a place.
SELECT id, role, org, label, created_at, revoked_at, last_used_at FROM slotwire.api_keys
WHERE ($1::text IS NULL OR org = $1)
  AND ($2::timestamptz IS NULL OR (created_at, id) > ($2, $3::uuid))
ORDER BY created_at, id LIMIT $4

-- name: revoke_key
-- Revoke a key; the time of the first revocation stays.
UPDATE slotwire.api_keys SET revoked_at = coalesce(revoked_at, $3)
WHERE id = $1 AND ($2::text IS NULL OR org = $2)
RETURNING id, role, org, label, created_at, revoked_at, last_used_at

-- name: insert_audit
-- Record the start of a change, or its end.
INSERT INTO slotwire.audit (id, begun, at, actor, role, org, action, target, result, code, times)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: audit_page
-- Changes, newest first, before an id; the start of one only while it has no end.
SELECT a.id, a.at, a.actor, a.role, a.org, a.action, a.target, a.result, a.code, a.times FROM slotwire.audit a
WHERE ($1::uuid IS NULL OR a.id < $1) AND ($2::text IS NULL OR a.org = $2)
  AND ($3::text IS NULL OR a.action = $3) AND ($4::text IS NULL OR a.actor = $4)
  AND (a.result <> 'started' OR NOT EXISTS (SELECT FROM slotwire.audit e WHERE e.begun = a.id))
ORDER BY a.id DESC LIMIT $5

-- name: uses_page
-- Uses of credentials, newest first, before an id and from another on; the beginning of one only while it has no end.
SELECT u.id, u.at, u.user_uri AS user, u.org, u.connection, u.action, u.target, u.people, u.actor, u.agent, u.event,
       u.result, u.status, u.code, u.times
FROM slotwire.uses u
WHERE ($1::uuid IS NULL OR u.id < $1) AND ($2::uuid IS NULL OR u.id >= $2) AND ($3::text IS NULL OR u.org = $3)
  AND ($4::text IS NULL OR u.user_uri = $4) AND ($5::text IS NULL OR u.action = $5)
  AND ($6::text IS NULL OR u.actor = $6) AND ($7::text IS NULL OR u.agent = $7)
  AND ($8::uuid IS NULL OR u.event = $8)
  AND ($9::text IS NULL OR (hashtextextended(u.target, 0) = hashtextextended($9, 0) AND u.target = $9))
  AND ($10::text[] IS NULL OR (u.people && $10 AND u.people <> '{}'))
  AND u.result <> 'ended'
  AND (u.result NOT IN ('leased', 'started') OR NOT EXISTS (SELECT FROM slotwire.uses e WHERE e.begun = u.id))
ORDER BY u.id DESC LIMIT $11

-- name: uses_growth
-- Rows and bytes of the uses of credentials, as the server estimates, rows from an id on, and the days that have a
-- partition of their own.
SELECT sum(greatest(c.reltuples, 0))::bigint AS rows, sum(pg_total_relation_size(c.oid))::bigint AS bytes,
       (SELECT count(*) FROM slotwire.uses WHERE id >= $1) AS day,
       (SELECT count(*)::integer FROM slotwire.use_days()) AS days
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'slotwire.uses'::regclass

-- name: wait_for_claims
-- A key's claims are counted one at a time.
SELECT pg_advisory_xact_lock(1936487295, ('x' || left(md5($1::uuid::text), 7))::bit(28)::integer)

-- name: claim_idempotent
-- Claim a request: nobody has claimed it and the caller's key has fewer than $8 of them, its response is too old, or
-- its claim counts as dead.
INSERT INTO slotwire.idempotent_answers AS a (key_id, idempotency_key, claim, fingerprint, created_at)
SELECT $1, $2, $3, $4, $5
WHERE (SELECT count(*) FROM (SELECT FROM slotwire.idempotent_answers WHERE key_id = $1 LIMIT $8) AS kept) < $8
   OR EXISTS (SELECT FROM slotwire.idempotent_answers WHERE key_id = $1 AND idempotency_key = $2)
ON CONFLICT (key_id, idempotency_key) DO UPDATE
SET claim = excluded.claim, fingerprint = excluded.fingerprint, created_at = excluded.created_at,
    status = NULL, sealed = NULL
WHERE a.created_at <= $6 OR (a.status IS NULL AND a.created_at <= $7 AND a.fingerprint = excluded.fingerprint)
RETURNING claim

-- name: idempotent_answer
-- The request and the response stored under a key.
SELECT fingerprint, status, sealed FROM slotwire.idempotent_answers WHERE key_id = $1 AND idempotency_key = $2

-- name: has_idempotent
-- Whether a key of the API has so many requests stored.
SELECT count(*) >= $2 FROM (SELECT FROM slotwire.idempotent_answers WHERE key_id = $1 LIMIT $2) AS kept

-- name: store_idempotent
-- Store a response, unless the claim was taken over.
UPDATE slotwire.idempotent_answers SET status = $4, sealed = $5
WHERE key_id = $1 AND idempotency_key = $2 AND claim = $3

-- name: release_idempotent
-- Release the claim of a request that failed on our side, unless it was taken over.
DELETE FROM slotwire.idempotent_answers WHERE key_id = $1 AND idempotency_key = $2 AND claim = $3

-- name: remove_idempotent
-- Remove old responses, at most so many, and count them.
WITH gone AS (
    DELETE FROM slotwire.idempotent_answers WHERE (key_id, idempotency_key) IN (
        SELECT key_id, idempotency_key FROM slotwire.idempotent_answers WHERE created_at <= $1 LIMIT $2
    ) RETURNING 1
)
SELECT count(*) FROM gone

-- name: shards
-- The shards of the log; without a row it does not exist yet.
SELECT s.shard::smallint AS shard FROM slotwire.log, generate_series(0, shards - 1) AS s (shard)

-- name: log_ends
-- The last position of each shard.
SELECT s.shard::smallint AS shard,
       coalesce((SELECT max(e.position) FROM slotwire.events e WHERE e.shard = s.shard), 0) AS position
FROM slotwire.log, generate_series(0, shards - 1) AS s (shard)

-- name: events_after
-- The log of all organizations after a place: each shard by its own position, merged.
SELECT e.* FROM unnest($1::smallint[], $2::bigint[]) AS place (shard, position)
CROSS JOIN LATERAL (
    SELECT shard, position, event_id, type, org, subject, key, time, recorded_at, delivery_id, origin, inferred,
           traceparent, tenant
    FROM slotwire.events
    WHERE shard = place.shard AND position > place.position AND ($3::text IS NULL OR type = $3)
    ORDER BY position LIMIT $4
) e
ORDER BY e.position LIMIT $4

-- name: events_after_of_org
-- The log of one organization after a position, of some types, merged; an organization has one shard.
SELECT e.* FROM unnest($3::text[]) AS wanted (type)
CROSS JOIN LATERAL (
    SELECT shard, position, event_id, type, org, subject, key, time, recorded_at, delivery_id, origin, inferred,
           traceparent, tenant
    FROM slotwire.events
    WHERE org = $1 AND type BETWEEN wanted.type AND wanted.type AND position > $2
    ORDER BY type, position LIMIT $4
) e
ORDER BY e.position LIMIT $4

-- name: events_after_of_subject
-- The events of one invitee or resource after a position, within one organization or any.
SELECT shard, position, event_id, type, org, subject, key, time, recorded_at, delivery_id, origin, inferred,
           traceparent, tenant
FROM slotwire.events
WHERE subject = $1 AND position > $2 AND ($3::text IS NULL OR type = $3) AND ($5::text IS NULL OR org = $5)
ORDER BY position LIMIT $4

-- name: latest_events
-- The latest events of the log, newest first.
SELECT e.* FROM unnest($1::smallint[]) AS place (shard)
CROSS JOIN LATERAL (
    SELECT shard, position, event_id, type, org, subject, key, time, recorded_at, delivery_id, origin, inferred,
           traceparent, tenant
    FROM slotwire.events
    WHERE shard = place.shard AND ($2::text IS NULL OR type = $2)
    ORDER BY position DESC LIMIT $3
) e
ORDER BY e.position DESC LIMIT $3

-- name: latest_events_of_org
-- The latest events of one organization, of some types, newest first.
SELECT e.* FROM unnest($2::text[]) AS wanted (type)
CROSS JOIN LATERAL (
    SELECT shard, position, event_id, type, org, subject, key, time, recorded_at, delivery_id, origin, inferred,
           traceparent, tenant
    FROM slotwire.events
    WHERE org = $1 AND type BETWEEN wanted.type AND wanted.type
    ORDER BY type DESC, position DESC LIMIT $3
) e
ORDER BY e.position DESC LIMIT $3

-- name: latest_events_of_subject
-- The latest events of one invitee or resource, newest first.
SELECT shard, position, event_id, type, org, subject, key, time, recorded_at, delivery_id, origin, inferred,
           traceparent, tenant
FROM slotwire.events
WHERE subject = $1 AND ($2::text IS NULL OR type = $2) AND ($4::text IS NULL OR org = $4)
ORDER BY position DESC LIMIT $3

-- name: event
-- One event with its data.
SELECT e.shard, e.position, e.event_id, e.type, e.org, e.subject, e.key, e.time, e.recorded_at, e.delivery_id, e.origin,
       e.inferred, e.traceparent, e.tenant, e.data
FROM slotwire.identities i JOIN slotwire.events e ON e.shard = i.shard AND e.position = i.position
WHERE i.event_id = $1 AND ($2::text IS NULL OR e.org = $2)

-- name: deliveries_page
-- Of each shard the newest deliveries before a place.
SELECT d.* FROM unnest($1::smallint[], $2::bigint[]) AS place (shard, position)
CROSS JOIN LATERAL (
    SELECT d.id, d.shard, d.position, d.org, d.subscription_id, d.origin, d.received_at, d.signed_at,
           coalesce(r.outcome, 'accepted') AS outcome, r.event_id, r.event_name, coalesce(octet_length(d.body), 0) AS bytes
    FROM slotwire.deliveries d
    LEFT JOIN LATERAL (
        SELECT outcome, event_id, event_name FROM slotwire.results WHERE shard = d.shard AND position = d.position LIMIT 1
    ) AS r ON true
    WHERE d.shard = place.shard AND d.position < place.position ORDER BY d.position DESC LIMIT $3
) AS d

-- name: deliveries_with_outcome
-- The same, of those with one outcome.
SELECT d.*, r.outcome, r.event_id, r.event_name
FROM unnest($1::smallint[], $2::bigint[]) AS place (shard, position)
CROSS JOIN LATERAL (
    SELECT shard, position, outcome, event_id, event_name FROM slotwire.results
    WHERE shard = place.shard AND outcome BETWEEN $4 AND $4 AND position < place.position
    ORDER BY outcome DESC, position DESC LIMIT $3
) AS r
CROSS JOIN LATERAL (
    SELECT id, shard, position, org, subscription_id, origin, received_at, signed_at,
           coalesce(octet_length(body), 0) AS bytes
    FROM slotwire.deliveries WHERE shard = r.shard AND position = r.position LIMIT 1
) AS d

-- name: deliveries_of_org
-- Of each of some outcomes the newest written deliveries of one organization before a position.
SELECT d.*, r.outcome, r.event_id, r.event_name
FROM unnest($4::text[]) AS wanted (outcome)
CROSS JOIN LATERAL (
    SELECT shard, position, outcome, event_id, event_name FROM slotwire.results
    WHERE org = $1 AND outcome BETWEEN wanted.outcome AND wanted.outcome AND position < $2
    ORDER BY outcome DESC, position DESC LIMIT $3
) AS r
CROSS JOIN LATERAL (
    SELECT id, shard, position, org, subscription_id, origin, received_at, signed_at,
           coalesce(octet_length(body), 0) AS bytes
    FROM slotwire.deliveries WHERE shard = r.shard AND position = r.position LIMIT 1
) AS d

-- name: deliveries_unwritten
-- Of each shard the newest deliveries before a place that are accepted and not yet written, among the newest $5 of it.
SELECT d.*, 'accepted' AS outcome, NULL::uuid AS event_id, NULL AS event_name
FROM unnest($1::smallint[], $2::bigint[]) AS place (shard, position)
CROSS JOIN LATERAL (
    SELECT position FROM slotwire.heads WHERE shard = place.shard ORDER BY version DESC LIMIT 1
) AS h
CROSS JOIN LATERAL (
    SELECT d.* FROM (
        SELECT id, shard, position, org, subscription_id, origin, received_at, signed_at,
               coalesce(octet_length(body), 0) AS bytes
        FROM slotwire.deliveries
        WHERE shard = place.shard AND position > h.position AND position < place.position
        ORDER BY position DESC LIMIT $5
    ) AS d
    WHERE ($4::text IS NULL OR d.org = $4)
      AND NOT EXISTS (SELECT FROM slotwire.results r WHERE r.shard = d.shard AND r.position = d.position)
    ORDER BY d.position DESC LIMIT $3
) AS d

-- name: deliveries_of_event
-- The newest deliveries of one event before a position; an event has one shard.
SELECT d.id, d.shard, d.position, d.org, d.subscription_id, d.origin, d.received_at, d.signed_at, r.outcome, r.event_id,
       r.event_name, coalesce(octet_length(d.body), 0) AS bytes
FROM slotwire.results r JOIN slotwire.deliveries d ON d.shard = r.shard AND d.position = r.position
WHERE r.event_id = $1 AND r.position < $2 AND ($4::text IS NULL OR d.org = $4)
  AND ($5::text IS NULL OR r.outcome = $5)
ORDER BY d.position DESC LIMIT $3

-- name: bookings_page
-- Bookings in some states after an invitee URI and an organization, in their order: each state by itself, merged. If so
-- asked ($5), of those that wait for the mark of a clear or the other half of a reschedule.
SELECT b.* FROM unnest($3::text[]) AS wanted (state)
CROSS JOIN LATERAL (
    SELECT invitee, org, revision, state, provider_status, chain_key, chain_root, old_invitees, new_invitees, marks, clears,
           booked_at, scheduled_event, start_time, end_time, hosts, location_type, waits_since, changed_at
    FROM slotwire.bookings
    WHERE state BETWEEN wanted.state AND wanted.state AND (invitee, org) > ($1, $2)
      AND (NOT $5::boolean OR waits_since IS NOT NULL)
    ORDER BY state, invitee, org LIMIT $4
) b
ORDER BY b.invitee, b.org LIMIT $4

-- name: bookings_of_org
-- The same, of one organization.
SELECT b.* FROM unnest($3::text[]) AS wanted (state)
CROSS JOIN LATERAL (
    SELECT invitee, org, revision, state, provider_status, chain_key, chain_root, old_invitees, new_invitees, marks, clears,
           booked_at, scheduled_event, start_time, end_time, hosts, location_type, waits_since, changed_at
    FROM slotwire.bookings
    WHERE org = $2 AND state BETWEEN wanted.state AND wanted.state AND invitee > $1
      AND (NOT $5::boolean OR waits_since IS NOT NULL)
    ORDER BY state, invitee, org LIMIT $4
) b
ORDER BY b.invitee, b.org LIMIT $4

-- name: organizations_of_booking
-- The organizations that were told of an invitee: one, or any within reach.
SELECT org FROM slotwire.bookings WHERE invitee = $1 AND ($2::text IS NULL OR org = $2) ORDER BY org LIMIT $3

-- name: booking
-- One booking, of an organization or of any.
SELECT invitee, org, revision, state, provider_status, chain_key, chain_root, old_invitees, new_invitees, marks, clears,
       booked_at, scheduled_event, start_time, end_time, hosts, location_type, waits_since, changed_at
FROM slotwire.bookings WHERE invitee = $1 AND ($2::text IS NULL OR org = $2)

-- name: bookings_of_chain
-- The bookings of one chain of reschedules, oldest first.
SELECT invitee, org, revision, state, provider_status, chain_key, chain_root, old_invitees, new_invitees, marks, clears,
       booked_at, scheduled_event, start_time, end_time, hosts, location_type, waits_since, changed_at
FROM slotwire.bookings WHERE chain_root = $1 AND org = $2
ORDER BY booked_at NULLS LAST, invitee LIMIT $3

-- name: timeline_events
-- The events of one invitee, oldest first, each with its revision and the relay's progress on it.
SELECT e.shard, e.position, e.event_id, e.type, e.org, e.subject, e.key, e.time, e.recorded_at, e.delivery_id,
       e.origin, e.inferred, e.traceparent, e.tenant,
       (convert_from(e.data, 'UTF8')::json #>> '{booking,revision}')::integer AS revision,
       p.reason AS parked_reason, coalesce(m.position >= e.position, false) AS passed
FROM slotwire.events e
LEFT JOIN slotwire.parked_events p ON p.event_id = e.event_id
LEFT JOIN slotwire.relay_mirror m ON m.shard = e.shard AND m.log_id = (SELECT log_id FROM slotwire.log)
WHERE e.subject = $1 AND e.org = $2
ORDER BY e.position LIMIT $3

-- name: timeline_deliveries
-- The deliveries of some events, and some deliveries by id, in the order of arrival.
SELECT d.id, d.org, d.subscription_id, d.origin, d.received_at, d.signed_at, coalesce(r.outcome, 'accepted') AS outcome,
       r.event_id, r.event_name, coalesce(octet_length(d.body), 0) AS bytes
FROM (
    SELECT shard, position FROM slotwire.results WHERE event_id = ANY ($2::uuid[])
    UNION
    SELECT shard, position FROM slotwire.deliveries WHERE id = ANY ($3::uuid[])
) AS named
JOIN slotwire.deliveries d ON d.shard = named.shard AND d.position = named.position
LEFT JOIN slotwire.results r ON r.shard = d.shard AND r.position = d.position
WHERE d.org = $1
ORDER BY d.id LIMIT $4

-- name: handled
-- The agents that have handled an event. The inbox is ordered by agent, so that each one is asked for by itself.
WITH RECURSIVE agents AS (
    (SELECT agent FROM slotwire.inbox ORDER BY agent LIMIT 1)
    UNION ALL
    SELECT (SELECT i.agent FROM slotwire.inbox i WHERE i.agent > a.agent ORDER BY i.agent LIMIT 1)
    FROM agents a WHERE a.agent IS NOT NULL
)
SELECT i.agent, i.done_at FROM agents a JOIN slotwire.inbox i ON i.agent = a.agent AND i.event_id = $1
ORDER BY i.agent

-- name: parked_page
-- Events that Kafka refused, of one organization or of all, after a place.
SELECT p.event_id, p.shard, p.position, p.reason, p.parked_at, e.type, e.org, e.subject
FROM slotwire.parked_events p JOIN slotwire.events e ON e.shard = p.shard AND e.position = p.position
WHERE ($1::text IS NULL OR e.org = $1) AND ($2::uuid IS NULL OR p.event_id > $2)
ORDER BY p.event_id LIMIT $3

-- name: settle_parked
-- Forgets that an event is parked; the event stays in the log.
DELETE FROM slotwire.parked_events WHERE event_id = $1

-- name: server_connections
-- Who is connected to the server: a row a program, with how many all have, and how many ordinary roles may have.
SELECT coalesce(nullif(application_name, ''), 'unnamed') AS program, count(*) AS connections,
       sum(count(*)) OVER () AS all_connections,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0) AS connections_limit
FROM pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1

-- name: rights
-- Whose rights the connected role has, of the processes' roles ($1); which of them lack a function that they need
-- ($2 and $3, side by side); and what no process should be able to do.
SELECT current_user::text AS role,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       (SELECT pg_has_role(nspowner, 'MEMBER') FROM pg_namespace WHERE nspname = 'slotwire') AS owns,
       has_table_privilege('slotwire.events', 'INSERT, UPDATE, DELETE, TRUNCATE') AS writes,
       array(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1::text[]) AND pg_has_role(oid, 'MEMBER')
             ORDER BY array_position($1::text[], rolname::text)) AS roles,
       array(SELECT DISTINCT r.rolname::text
             FROM unnest($2::text[], $3::text[]) AS needed (role, function)
             JOIN pg_roles r ON r.rolname = needed.role AND pg_has_role(r.oid, 'MEMBER')
             LEFT JOIN pg_proc p ON p.pronamespace = 'slotwire'::regnamespace AND p.proname = needed.function
             WHERE p.oid IS NULL OR NOT has_function_privilege(r.oid, p.oid, 'EXECUTE')) AS lacking

-- name: function_faults
-- What is wrong with the owner's functions: of the schema's, and of those elsewhere that run with the owner's rights.
-- $1 and $2, side by side: which function which role may call.
WITH ours AS (
    SELECT p.oid, p.proname, p.proowner, p.prosecdef, p.proacl, p.proconfig, n.nspowner
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.nspname = 'slotwire'
        AND (p.pronamespace = n.oid OR (p.prosecdef AND p.proowner = n.nspowner))
), calls AS (
    SELECT o.oid, o.proname, CASE a.grantee WHEN 0 THEN 'everybody' ELSE a.grantee::regrole::text END AS role
    FROM ours o, pg_catalog.aclexplode(coalesce(o.proacl, pg_catalog.acldefault('f', o.proowner))) a
    WHERE a.grantee <> o.proowner
), expected AS (
    SELECT * FROM unnest($1::text[], $2::text[]) AS e (function, role)
)
SELECT format('%s belongs to %s', proname, proowner::regrole) AS fault FROM ours WHERE proowner <> nspowner
UNION ALL
SELECT format('%s looks names up in %s', proname, coalesce(
    (SELECT substr(c, 13) FROM unnest(proconfig) AS c WHERE c LIKE 'search_path=%'), 'the path of its caller'))
FROM ours WHERE NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(proconfig, '{}'))
UNION ALL
SELECT format('%s may be called by %s', proname, role) FROM calls
WHERE NOT EXISTS (SELECT FROM expected e WHERE e.function = proname AND quote_ident(e.role) = calls.role)
ORDER BY fault

-- name: role_faults
-- What the roles of the processes ($1) may do, own or inherit that no process needs.
WITH ours AS (SELECT * FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::text[]))
SELECT format('%s %s', rolname, said.what) AS fault
FROM ours, LATERAL (VALUES
    (rolsuper, 'is a superuser'),
    (rolcreatedb, 'may create databases'),
    (rolcreaterole, 'may create roles'),
    (rolreplication, 'may replicate'),
    (rolbypassrls, 'is exempt from row security'),
    (has_database_privilege(oid, current_database(), 'CREATE'), 'may create schemas'),
    (has_database_privilege(oid, current_database(), 'TEMPORARY'), 'may create temporary objects'),
    (has_parameter_privilege(oid, 'session_replication_role', 'SET'), 'may set session_replication_role')
) AS said (holds, what)
WHERE said.holds
UNION ALL
SELECT format('%s may create in the schema %s', rolname, nspname) FROM ours, pg_catalog.pg_namespace n
WHERE nspname !~ '^pg_(toast_)?temp_' AND has_schema_privilege(ours.oid, n.oid, 'CREATE')
UNION ALL
SELECT format('%s begins each session with %s', rolname, set)
FROM ours JOIN pg_catalog.pg_db_role_setting s ON s.setrole = ours.oid, unnest(s.setconfig) AS set
WHERE set ~ '^(search_path|role|session_replication_role|synchronous_commit)='
  AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
UNION ALL
SELECT format('%s is a member of %s', rolname, roleid::regrole)
FROM ours JOIN pg_catalog.pg_auth_members m ON m.member = ours.oid
UNION ALL
SELECT DISTINCT format('%s owns something: %s', rolname, pg_describe_object(classid, objid, objsubid))
FROM ours JOIN pg_catalog.pg_shdepend d ON d.refclassid = 'pg_authid'::regclass AND d.refobjid = ours.oid
    AND d.deptype = 'o' AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
ORDER BY fault

-- name: foreign_logins
-- Processes connected to this database whose login is not their role; $1 and $2, side by side: what a process calls
-- itself, and its role.
SELECT DISTINCT format('%s is connected as %s', s.application_name, s.usename) AS fault
FROM pg_catalog.pg_stat_activity s
JOIN unnest($1::text[], $2::text[]) AS e (application, role) ON e.application = s.application_name
WHERE s.datname = current_database() AND s.usename <> e.role
ORDER BY fault

-- name: ranges_ahead
-- For how many days after a time partitions are made.
SELECT last_range - greatest(0, ($1::timestamptz AT TIME ZONE 'UTC')::date - (created_at AT TIME ZONE 'UTC')::date)
FROM slotwire.log

-- name: connections_by_state
-- How many connections are in each state, and how many of them are not refreshed any more.
SELECT state, count(*) AS connections, count(*) FILTER (WHERE reason = 'refresh_fails') AS unrefreshed
FROM slotwire.connections GROUP BY state ORDER BY state

-- name: deliveries_failing
-- Active subscriptions to which Calendly retries deliveries, and over which nothing came since that began, at most $1 of
-- them, the longest first; with how many there are, and how many are active.
SELECT s.org, s.retrying_since, count(*) OVER () AS failing,
       (SELECT count(*) FROM slotwire.subscriptions WHERE state = 'active') AS active
FROM slotwire.subscriptions s LEFT JOIN slotwire.hook_activity a ON a.subscription_id = s.id
WHERE s.state = 'active' AND s.retrying_since IS NOT NULL AND (a.last_at IS NULL OR a.last_at < s.retrying_since)
ORDER BY s.retrying_since, s.org LIMIT $1

-- name: organizations_without_connection
-- Organizations that are not removed and have or want subscriptions, but have no connection that can act.
SELECT o.org FROM slotwire.organizations o
WHERE o.ended_at IS NULL
  AND (EXISTS (SELECT FROM slotwire.subscriptions s WHERE s.org = o.org AND s.state <> 'ended')
       OR EXISTS (SELECT FROM slotwire.wanted_subscriptions w WHERE w.org = o.org))
  AND NOT EXISTS (SELECT FROM slotwire.connections c WHERE c.org = o.org AND c.state IN ('active', 'expiring'))
ORDER BY o.org LIMIT $1

-- name: organizations_at_work
-- How many organizations are active, how many subscriptions are wanted, how many backfills are not finished.
SELECT count(*) AS active, count(backfill_from) AS backfilling,
       (SELECT count(*) FROM slotwire.wanted_subscriptions) AS wanted
FROM slotwire.organizations WHERE ended_at IS NULL

-- name: organizations_contested
-- Organizations with wanted subscriptions that are not made any more, because something deletes them.
SELECT DISTINCT org FROM slotwire.wanted_subscriptions WHERE contested_at IS NOT NULL ORDER BY org

-- name: organizations_unserved
-- Organizations with wanted subscriptions that do not exist, as far as is known here; what Calendly refused is not missing.
SELECT w.org, count(*) AS wanted FROM slotwire.wanted_subscriptions w
WHERE NOT EXISTS (
    SELECT FROM slotwire.subscriptions s
    WHERE s.org = w.org AND s.scope = w.scope AND s.subject = w.subject AND s.state = 'active'
      AND s.max_age_seconds IS NOT DISTINCT FROM w.max_age_seconds
      AND s.events <@ w.events AND w.events <@ (s.events || w.refused_for_plan || w.refused_for_scope))
GROUP BY w.org ORDER BY w.org

-- name: sealed_keys
-- Signing keys of subscriptions that are not ended, newest first.
SELECT k.id, k.sealed, s.id AS subscription_id, s.org
FROM slotwire.signing_keys k JOIN slotwire.subscriptions s ON s.id = k.subscription_id
WHERE s.state <> 'ended' ORDER BY k.created_at DESC LIMIT $1

-- name: open_erasures
-- Erasures that were asked for before $1 and did not end.
SELECT org FROM slotwire.erasures WHERE state = 'open' AND asked_at < $1 ORDER BY id

-- name: open_holes
-- Holes that are not closed, of organizations that are not removed: how many, when the first was noticed, and which ones that was before $1, at most $2 of them.
WITH open AS (
    SELECT h.* FROM slotwire.holes h
    JOIN slotwire.organizations o ON o.org = h.org AND o.ended_at IS NULL
    WHERE h.state <> 'closed'
)
SELECT count(*) AS holes, min(noticed_at) AS oldest,
       array(SELECT org || ' (' || cause || coalesce(': ' || problem, '') || ')' FROM open
             WHERE noticed_at < $1 ORDER BY noticed_at, id LIMIT $2) AS late
FROM open

-- name: find_grant
-- What an agent may ask Calendly for: a grant that has not ended, and was not made in a time to come.
SELECT agent, event_id, org, user_uri, scheduled_event, event_type, invitee FROM slotwire.call_grants
WHERE hash = $1 AND expires_at > $2 AND made_at <= $3

-- name: remove_grants
-- Remove grants that have ended, some at a time.
DELETE FROM slotwire.call_grants
WHERE hash IN (SELECT hash FROM slotwire.call_grants WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)

-- name: insert_mcp_agent
-- Register an agent of MCP, if all of its organizations are known.
INSERT INTO slotwire.mcp_agents (id, name, hash, orgs, users, tools, event_types, profile, label, created_at, runs_of)
SELECT $1, $2, $3, $4::text[], $5, $6, $7, $8, $9, $10, $11
WHERE (SELECT count(*) FROM slotwire.organizations o WHERE o.org = ANY ($4::text[]) AND o.ended_at IS NULL)
      = cardinality($4::text[])
RETURNING id

-- name: mcp_agents_page
-- Agents of MCP of one organization alone, or all, oldest first, after a place.
SELECT id, name, orgs, users, tools, event_types, profile, label, created_at, runs_of, revoked_at, last_used_at
FROM slotwire.mcp_agents
WHERE ($1::text IS NULL OR org = $1)
  AND ($2::timestamptz IS NULL OR (created_at, id) > ($2, $3::uuid))
ORDER BY created_at, id LIMIT $4

-- name: mcp_agent
-- One agent of MCP, of an organization alone or of any.
SELECT id, name, orgs, users, tools, event_types, profile, label, created_at, runs_of, revoked_at, last_used_at
FROM slotwire.mcp_agents
WHERE id = $1 AND ($2::text IS NULL OR org = $2)

-- name: mcp_agent_named
-- The agent of MCP with a name.
SELECT id, name, orgs, users, tools, event_types, profile, label, created_at, runs_of, revoked_at, last_used_at
FROM slotwire.mcp_agents
WHERE name = $1

-- name: revoke_mcp_agent
-- Revoke an agent of MCP; the time of the first revocation stays.
UPDATE slotwire.mcp_agents SET revoked_at = coalesce(revoked_at, $3)
WHERE id = $1 AND ($2::text IS NULL OR org = $2)
RETURNING id, name, orgs, users, tools, event_types, profile, label, created_at, runs_of, revoked_at, last_used_at

-- name: mcp_subscriptions_seen
-- Webhook subscriptions of agents of MCP, oldest first, after a place: one, or of an organization, an agent, a state.
SELECT id, agent, agent_name, org AS organization, user_uri AS "user", event_type, arguments, host, profile, state,
       position AS watermark, waiting_since, gap, tries, next_try_at, last_delivery_at, last_error, failed_since,
       created_at, expires_at
FROM slotwire.mcp_subscriptions_seen($1, $2, $3, $4, $5, $6, $7, $8)

-- name: end_mcp_subscription
-- End a webhook subscription of an agent of MCP, and tell the process that delivers it.
SELECT org FROM slotwire.end_mcp_subscription($1, $2)

-- name: mcp_subscriptions_stuck
-- Webhook subscriptions of agents of MCP that do not come on, those that have been so the longest first.
SELECT id, org, agent_name, host, why, since, stuck FROM slotwire.mcp_subscriptions_stuck($1, $2, $3)

-- name: mcp_users_of_agent
-- The connected users that an agent of MCP may act for, or one of them.
SELECT name, org, organization, user_uri FROM slotwire.mcp_users_of($1, $2, $3)

-- name: find_mcp_grant
-- What an agent of MCP may have done at Calendly: a grant that has not ended, for what the agent has now.
SELECT a.id AS agent, a.name, g.org, g.user_uri, g.tool, g.chain, g.call
FROM slotwire.mcp_grants g
JOIN slotwire.mcp_agents a ON a.id = g.agent
CROSS JOIN LATERAL slotwire.mcp_users_of(g.agent, g.user_uri, 1) AS u
WHERE g.hash = $1 AND g.expires_at > $2 AND g.made_at <= $3 AND u.org = g.org AND g.tool = ANY (u.tools)

-- name: remove_mcp_grants
-- Remove grants of agents of MCP that have ended, some at a time.
DELETE FROM slotwire.mcp_grants
WHERE hash IN (SELECT hash FROM slotwire.mcp_grants WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)

-- name: mcp_in_chain
-- Whether an invitee or a meeting belongs to a chain of bookings that a user hosts.
SELECT slotwire.mcp_in_chain($1, $2, $3, $4)

-- name: event_type_in_chain
-- Whether a booking of a chain that a user hosts is of an event type ($4, the last segment of its URI), as its last $5
-- events tell.
SELECT EXISTS (
    SELECT FROM slotwire.bookings b
    CROSS JOIN LATERAL (
        SELECT convert_from(e.data, 'UTF8')::json -> 'scheduled_event' ->> 'event_type' AS event_type
        FROM slotwire.events e WHERE e.subject = b.invitee AND e.org = b.org ORDER BY e.position DESC LIMIT $5
    ) AS told
    WHERE b.org = $1 AND left(b.chain_key, 2) = left($3, 2) AND b.chain_key = $3 AND $2 = ANY (b.hosts)
      AND right(told.event_type, length($4) + 1) = '/' || $4)
