-- The log, what it is made from, and who may write it.
--
-- `slotwire migrate` runs this as the owner, in one transaction. {serve}, {relay}, {agents}, {mcp} and {control} are the
-- roles of the processes. What comes in, and the log, is written through functions only.

CREATE SCHEMA IF NOT EXISTS slotwire;

-- One row: the log's identity, made with it. A relay cursor that names another log is refused.
CREATE TABLE slotwire.log (
    singleton boolean PRIMARY KEY DEFAULT true CONSTRAINT log_is_one CHECK (singleton),
    log_id uuid NOT NULL,
    shards smallint NOT NULL CONSTRAINT log_shards_positive CHECK (shards BETWEEN 1 AND 64),
    last_range integer NOT NULL DEFAULT 0, -- partitions are there up to this range of positions
    created_at timestamptz NOT NULL
);

-- The tenants. `org` is the last segment of Calendly's organization URI.
CREATE TABLE slotwire.organizations (
    org text PRIMARY KEY CONSTRAINT organizations_org_form CHECK (org ~ '^[A-Za-z0-9_-]{1,200}$'),
    uri text NOT NULL UNIQUE,
    external_id text UNIQUE,
    shard smallint NOT NULL,
    created_at timestamptz NOT NULL
);

-- Webhook subscriptions at Calendly. The hook's address is derived from `hook_id` and a server key, so that
-- a copy of this table opens no door. States: docs/reference/states.md.
CREATE TABLE slotwire.subscriptions (
    id uuid PRIMARY KEY,
    org text NOT NULL REFERENCES slotwire.organizations (org),
    hook_id text NOT NULL UNIQUE,
    provider_uri text UNIQUE,
    scope text NOT NULL CONSTRAINT subscriptions_scope CHECK (scope IN ('organization', 'user', 'group')),
    events text[] NOT NULL CONSTRAINT subscriptions_some_events CHECK (cardinality(events) > 0),
    state text NOT NULL CONSTRAINT subscriptions_state CHECK (state IN ('creating', 'active', 'ended')),
    max_age_seconds integer CONSTRAINT subscriptions_max_age CHECK (max_age_seconds > 0),
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    CONSTRAINT subscriptions_end CHECK ((state = 'ended') = (ended_at IS NOT NULL))
);
CREATE INDEX subscriptions_created ON slotwire.subscriptions (created_at, id);
CREATE INDEX subscriptions_org ON slotwire.subscriptions (org, created_at, id);

-- Signing keys, sealed by the vault; the newest signs, older ones stay valid while they are listed.
CREATE TABLE slotwire.signing_keys (
    id uuid PRIMARY KEY,
    subscription_id uuid NOT NULL REFERENCES slotwire.subscriptions (id) ON DELETE CASCADE,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX signing_keys_subscription ON slotwire.signing_keys (subscription_id);

-- What came in by the door: webhooks as received, what was fetched, retries, events of our own. Append-only.
-- `position` is the order of commits within a shard; a day begins a new range of positions, and a range is a
-- partition, so that retention drops whole ones.
CREATE TABLE slotwire.deliveries (
    shard smallint NOT NULL,
    position bigint NOT NULL,
    total bigint NOT NULL, -- bytes of the shard up to and with this row: what is unwritten is a difference
    id uuid NOT NULL,
    org text NOT NULL,
    subscription_id uuid, -- null where no hook told it
    origin text NOT NULL
        CONSTRAINT deliveries_origin CHECK (origin IN ('webhook', 'backfill', 'reconcile', 'retry', 'own')),
    received_at timestamptz NOT NULL,
    signed_at timestamptz NOT NULL,
    stale boolean NOT NULL, -- older than its subscription's max_age when it came
    content_encoding text NOT NULL,
    traceparent text,
    original uuid, -- of a retry: the quarantined delivery it points at
    body bytea,
    PRIMARY KEY (shard, position),
    CONSTRAINT deliveries_body CHECK ((origin = 'retry') = (body IS NULL) AND (origin = 'retry') = (original IS NOT NULL))
) PARTITION BY RANGE (position);
CREATE INDEX deliveries_id ON slotwire.deliveries (id);
-- For the limit on fetched rows that wait to be written; webhooks are not in it.
CREATE INDEX deliveries_fetched ON slotwire.deliveries (shard, position) WHERE origin IN ('backfill', 'reconcile');

-- What became of each delivery: one row, written with the events it made.
CREATE TABLE slotwire.results (
    shard smallint NOT NULL,
    position bigint NOT NULL, -- of the delivery
    org text NOT NULL, -- of the delivery: lists of an organization's go by it, and accept pays for no index of theirs
    outcome text NOT NULL CONSTRAINT results_outcome CHECK (outcome IN ('stored', 'duplicate', 'quarantined')),
    event_id uuid, -- the event it stands for
    event_name text, -- Calendly's name for it
    subject text,
    settled_at timestamptz NOT NULL,
    PRIMARY KEY (shard, position)
) PARTITION BY RANGE (position);
CREATE INDEX results_event ON slotwire.results (event_id);
CREATE INDEX results_outcome ON slotwire.results (shard, outcome, position);
CREATE INDEX results_org ON slotwire.results (org, outcome, position);

-- The writer's place in a shard. Insert-only: the newest version counts, and to insert it is to compare and set.
-- (Updated in place, one row would be followed through every version that an old snapshot still holds.)
CREATE TABLE slotwire.heads (
    shard smallint NOT NULL,
    version bigint NOT NULL, -- grows with every append and every take-over
    epoch bigint NOT NULL, -- grows with every take-over
    position bigint NOT NULL, -- every delivery up to here is settled
    total bigint NOT NULL, -- its total
    last_event bigint NOT NULL, -- the position of the last event
    server text NOT NULL, -- system identifier and timeline the log was last written on
    attempts smallint NOT NULL, -- leaders that what comes next may have ended, and the one that leads
    attempts_at bigint NOT NULL, -- the head they count for
    trying bigint, -- a delivery that is tried alone
    tries smallint NOT NULL DEFAULT 0,
    at timestamptz NOT NULL,
    PRIMARY KEY (shard, version)
);

-- The log, and the outbox: append-only, read by position. Position is commit order within a shard.
CREATE SEQUENCE slotwire.positions AS bigint;
CREATE TABLE slotwire.events (
    shard smallint NOT NULL,
    position bigint NOT NULL,
    event_id uuid NOT NULL,
    type text NOT NULL CONSTRAINT events_type_short CHECK (length(type) <= 200),
    org text NOT NULL,
    subject text NOT NULL CONSTRAINT events_subject_short CHECK (length(subject) <= 2000),
    key text NOT NULL CONSTRAINT events_key_short CHECK (length(key) <= 2000),
    time timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL, -- when its delivery arrived, or when what had waited was written
    delivery_id uuid,
    origin text NOT NULL,
    inferred boolean NOT NULL,
    traceparent text,
    tenant text,
    data bytea NOT NULL,
    PRIMARY KEY (shard, position)
) PARTITION BY RANGE (position);
CREATE INDEX events_subject ON slotwire.events (subject, position);
-- Lists of one organization over all types merge its types, so that they need no index of their own.
CREATE INDEX events_type ON slotwire.events (shard, type, position);
CREATE INDEX events_org ON slotwire.events (org, type, position);

-- Every id that was ever written, and where: it outlives the partitions of the log, so that a late copy of an
-- old fact is still a copy.
CREATE TABLE slotwire.identities (
    event_id uuid PRIMARY KEY,
    shard smallint NOT NULL,
    position bigint NOT NULL
);

-- One row an organization and invitee; `named` is one we only know from a neighbour in its chain. Never revived
-- after canceled. Keyed by both, so that nothing one organization is told can touch another's.
CREATE TABLE slotwire.bookings (
    invitee text NOT NULL CONSTRAINT bookings_invitee_short CHECK (length(invitee) <= 2000),
    org text NOT NULL,
    revision integer NOT NULL CONSTRAINT bookings_revision CHECK (revision > 0),
    state text NOT NULL CONSTRAINT bookings_state CHECK (state IN ('named', 'active', 'canceled')),
    provider_status text,
    chain_key text NOT NULL,
    chain_root text NOT NULL,
    -- Whom it replaced and who replaced it: one each, more only where payloads contradict each other.
    old_invitees text[] NOT NULL,
    new_invitees text[] NOT NULL,
    old_invitee text GENERATED ALWAYS AS (old_invitees[1]) STORED,
    new_invitee text GENERATED ALWAYS AS (new_invitees[1]) STORED,
    marks jsonb NOT NULL, -- [{uri, created_at, cleared_at}] by time
    clears jsonb NOT NULL, -- [{at, delivery, position, alone}] by time; alone: published before its mark was known
    told_at timestamptz,
    booked_at timestamptz,
    scheduled_event text,
    event_told_at timestamptz,
    start_time timestamptz,
    end_time timestamptz,
    hosts text[] NOT NULL,
    location_type text,
    waits_since timestamptz, -- for the mark of a clear, or, as the newer half of a reschedule, for the other
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (invitee, org)
);
CREATE INDEX bookings_chain_root ON slotwire.bookings (chain_root, org);
-- Lists over all states merge the states.
CREATE INDEX bookings_state ON slotwire.bookings (state, invitee, org);
CREATE INDEX bookings_org ON slotwire.bookings (org, state, invitee);
CREATE INDEX bookings_waiting ON slotwire.bookings (waits_since) WHERE waits_since IS NOT NULL;
CREATE INDEX bookings_waiting_state ON slotwire.bookings (state, invitee, org) WHERE waits_since IS NOT NULL;
CREATE INDEX bookings_waiting_org ON slotwire.bookings (org, state, invitee) WHERE waits_since IS NOT NULL;

-- Authentic deliveries that this version could not turn into events, with a copy of what came: it stays whatever
-- becomes of the row, and of the partition the delivery is in.
CREATE TABLE slotwire.quarantine (
    delivery_id uuid PRIMARY KEY,
    shard smallint NOT NULL,
    position bigint NOT NULL,
    org text NOT NULL,
    subscription_id uuid,
    origin text NOT NULL,
    received_at timestamptz NOT NULL,
    signed_at timestamptz NOT NULL,
    content_encoding text NOT NULL,
    traceparent text,
    body bytea NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    created_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'waiting'
        CONSTRAINT quarantine_state CHECK (state IN ('waiting', 'retried', 'discarded')),
    settled_at timestamptz,
    event_id uuid, -- of a retried one: the event it stands for
    outcome text NOT NULL DEFAULT 'quarantined',
    note text CONSTRAINT quarantine_note_short CHECK (length(note) <= 1000),
    CONSTRAINT quarantine_settled CHECK ((state = 'waiting') = (settled_at IS NULL)),
    CONSTRAINT quarantine_discarded_why CHECK (state <> 'discarded' OR note <> '')
);
-- Lists over all states merge the states.
CREATE INDEX quarantine_state_id ON slotwire.quarantine (state, delivery_id);
CREATE INDEX quarantine_settled ON slotwire.quarantine (settled_at) WHERE state <> 'waiting';
CREATE INDEX quarantine_org ON slotwire.quarantine (org, state, delivery_id);
CREATE INDEX quarantine_reason ON slotwire.quarantine (reason, state, delivery_id);
CREATE INDEX quarantine_org_reason ON slotwire.quarantine (org, reason, state, delivery_id);

-- A copy of the relay's cursor, written after each commit at the broker: for pruning, dashboards and lag,
-- never a silent place to resume from.
CREATE TABLE slotwire.relay_mirror (
    shard smallint PRIMARY KEY,
    log_id uuid NOT NULL,
    position bigint NOT NULL,
    event_id uuid,
    published_at timestamptz NOT NULL,
    resumes boolean NOT NULL DEFAULT false -- after a restore: the relay goes on from here, once
);

-- Events the broker refused even alone. The cursor passed them only after this row was committed.
CREATE TABLE slotwire.parked_events (
    event_id uuid PRIMARY KEY,
    shard smallint NOT NULL,
    position bigint NOT NULL,
    reason text NOT NULL,
    parked_at timestamptz NOT NULL
);

-- What each agent has settled: an effect happens once.
CREATE TABLE slotwire.inbox (
    agent text NOT NULL,
    event_id uuid NOT NULL,
    done_at timestamptz NOT NULL,
    PRIMARY KEY (agent, event_id)
);
-- To prune by time; next to nothing to write.
CREATE INDEX inbox_done ON slotwire.inbox USING brin (done_at);

-- Keys of the management API; only a hash is kept. `org` is null for all organizations.
CREATE TABLE slotwire.api_keys (
    id uuid PRIMARY KEY,
    hash bytea NOT NULL UNIQUE,
    role text NOT NULL CONSTRAINT api_keys_role CHECK (role IN ('reader', 'operator', 'admin')),
    org text REFERENCES slotwire.organizations (org),
    label text NOT NULL CONSTRAINT api_keys_label_short CHECK (length(label) <= 200),
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_keys_created ON slotwire.api_keys (created_at, id);
CREATE INDEX api_keys_org ON slotwire.api_keys (org, created_at, id);

-- Ranges of positions: 1,000,000,000 a day since the log was made, for deliveries, results and events alike.
-- Made ahead by this function of the owner's, which `slotwire control` calls; answers how many days are ahead.
-- LIKE and ATTACH, because CREATE … PARTITION OF would lock out every reader and writer of the table.
CREATE FUNCTION slotwire.make_ranges(p_now timestamptz, p_ahead integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_width CONSTANT bigint := 1000000000;
    v_day integer;
    v_last integer;
    v_table text;
    v_name text;
BEGIN
    PERFORM pg_advisory_xact_lock(1936487281);
    SELECT greatest(0, (p_now AT TIME ZONE 'UTC')::date - (created_at AT TIME ZONE 'UTC')::date), last_range
    INTO v_day, v_last FROM slotwire.log;
    IF v_day IS NULL THEN
        RETURN 0;
    END IF;
    -- Of the past only yesterday, for a process whose clock is behind: earlier rows are in the last range there was.
    FOR v_range IN greatest(0, v_day - 1) .. v_day + p_ahead LOOP
        FOREACH v_table IN ARRAY ARRAY['results', 'events', 'deliveries'] LOOP
            v_name := v_table || '_' || v_range;
            CONTINUE WHEN to_regclass('slotwire.' || v_name) IS NOT NULL;
            EXECUTE format('CREATE TABLE slotwire.%I (LIKE slotwire.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS'
                           ' INCLUDING STORAGE)', v_name, v_table);
            -- Bodies and data near 2 kB stay in their rows, uncompressed; larger ones move out of line.
            IF v_table = 'deliveries' THEN
                EXECUTE format('ALTER TABLE slotwire.%I ALTER COLUMN body SET STORAGE EXTERNAL', v_name);
            ELSIF v_table = 'events' THEN
                EXECUTE format('ALTER TABLE slotwire.%I ALTER COLUMN data SET STORAGE EXTERNAL', v_name);
            END IF;
            EXECUTE format('ALTER TABLE slotwire.%I SET (toast_tuple_target = 8160)', v_name);
            EXECUTE format('ALTER TABLE slotwire.%I ATTACH PARTITION slotwire.%I FOR VALUES FROM (%s) TO (%s)',
                           v_table, v_name, v_range * v_width, (v_range + 1) * v_width);
        END LOOP;
    END LOOP;
    UPDATE slotwire.log SET last_range = v_day + p_ahead WHERE last_range < v_day + p_ahead;
    SELECT last_range INTO v_last FROM slotwire.log;
    RETURN v_last - v_day;
END
$$;
REVOKE ALL ON FUNCTION slotwire.make_ranges FROM PUBLIC;

-- What a range of a table is still needed for; null: nothing. Of deliveries: what is not written, and what a clear waits
-- for with its body. Of results: their deliveries, which would look unwritten without them. Of events: what is not
-- published, or parked.
CREATE FUNCTION slotwire.needed_for(p_table text, p_range integer) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_first CONSTANT bigint := p_range::bigint * 1000000000;
    v_end CONSTANT bigint := v_first + 1000000000;
BEGIN
    IF p_table = 'deliveries' AND EXISTS (
        SELECT FROM slotwire.log, generate_series(0, shards - 1) AS s (shard)
        JOIN slotwire.deliveries d ON d.shard = s.shard AND d.position >= v_first AND d.position < v_end
        WHERE d.position > (SELECT h.position FROM slotwire.heads h WHERE h.shard = s.shard ORDER BY h.version DESC LIMIT 1)
    ) THEN
        RETURN 'writing';
    ELSIF p_table = 'deliveries' AND EXISTS (
        SELECT FROM slotwire.bookings b
        CROSS JOIN LATERAL jsonb_to_recordset(b.clears) AS c (at timestamptz, position bigint, alone boolean)
        WHERE b.waits_since IS NOT NULL AND NOT c.alone AND c.position >= v_first AND c.position < v_end
          AND (b.marks = '[]' OR c.at < date_trunc('second', (b.marks -> 0 ->> 'created_at')::timestamptz))
    ) THEN
        RETURN 'waiting';
    ELSIF p_table = 'results' AND to_regclass('slotwire.deliveries_' || p_range) IS NOT NULL THEN
        RETURN 'bodies';
    ELSIF p_table = 'events' AND EXISTS (
        SELECT FROM slotwire.log, generate_series(0, shards - 1) AS s (shard)
        JOIN slotwire.events e ON e.shard = s.shard AND e.position >= v_first AND e.position < v_end
        WHERE e.position > coalesce((SELECT m.position FROM slotwire.relay_mirror m WHERE m.shard = s.shard), 0)
    ) THEN
        RETURN 'publishing';
    ELSIF p_table = 'events' AND EXISTS (
        SELECT FROM slotwire.parked_events p WHERE p.position >= v_first AND p.position < v_end
    ) THEN
        RETURN 'parked';
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION slotwire.needed_for FROM PUBLIC;

-- The ranges of deliveries, results or events, oldest first, with how many days ago each began.
CREATE FUNCTION slotwire.ranges_of(p_table text, p_now timestamptz) RETURNS TABLE (range integer, days integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.number, greatest(0, (p_now AT TIME ZONE 'UTC')::date - (l.created_at AT TIME ZONE 'UTC')::date) - r.number
    FROM slotwire.log l
    CROSS JOIN (
        SELECT substring(c.relname FROM '_(\d+)$')::integer AS number
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass('slotwire.' || quote_ident(p_table))
    ) AS r
    ORDER BY r.number
$$;
REVOKE ALL ON FUNCTION slotwire.ranges_of FROM PUBLIC;

-- Drop the oldest range of deliveries, results or events that is older than so many days and not needed: whole
-- partitions at a time, so that nothing is left to vacuum. Answers the range, or null where none may go. Waits for a
-- lock for a moment only, because everybody else would queue behind it. Identities and bookings stay.
CREATE FUNCTION slotwire.drop_range(p_now timestamptz, p_table text, p_days integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    v_range integer;
BEGIN
    IF p_days < 7 THEN -- a delivery may be retried for a day, and a hook is valid for two days after its end
        RAISE EXCEPTION 'a range is kept for 7 days at least, not %', p_days USING ERRCODE = 'invalid_parameter_value';
    ELSIF p_table NOT IN ('deliveries', 'results', 'events') THEN
        RAISE EXCEPTION 'there are no ranges of %', p_table USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR v_range IN SELECT r.range FROM slotwire.ranges_of(p_table, p_now) AS r WHERE r.days >= p_days LOOP
        CONTINUE WHEN slotwire.needed_for(p_table, v_range) IS NOT NULL;
        EXECUTE format('DROP TABLE slotwire.%I', p_table || '_' || v_range);
        RETURN v_range;
    END LOOP;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION slotwire.drop_range FROM PUBLIC;

-- Remove rows that were settled more than so many days ago, at most so many at once, and count them: what agents have
-- settled, and what of the quarantine was retried or discarded.
CREATE FUNCTION slotwire.prune(p_now timestamptz, p_table text, p_days integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before CONSTANT timestamptz := p_now - make_interval(days => p_days);
    v_rows bigint;
BEGIN
    IF p_days < 7 THEN
        RAISE EXCEPTION 'rows are kept for 7 days at least, not %', p_days USING ERRCODE = 'invalid_parameter_value';
    ELSIF p_table = 'inbox' THEN
        DELETE FROM slotwire.inbox WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM slotwire.inbox WHERE done_at < v_before LIMIT p_limit));
    ELSIF p_table = 'quarantine' THEN
        DELETE FROM slotwire.quarantine WHERE delivery_id = ANY (ARRAY(
            SELECT delivery_id FROM slotwire.quarantine WHERE state <> 'waiting' AND settled_at < v_before LIMIT p_limit));
    ELSE
        RAISE EXCEPTION '% is not pruned', p_table USING ERRCODE = 'invalid_parameter_value';
    END IF;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;
REVOKE ALL ON FUNCTION slotwire.prune FROM PUBLIC;

-- Make what a new log needs: per shard a counter of positions, one of bytes, a head; the first ranges.
CREATE FUNCTION slotwire.make_log(p_log uuid, p_shards smallint, p_now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO slotwire.log (log_id, shards, created_at) VALUES (p_log, p_shards, p_now) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR v_shard IN 0 .. p_shards - 1 LOOP
        EXECUTE format('CREATE SEQUENCE slotwire.accepted_%s AS bigint', v_shard);
        EXECUTE format('CREATE SEQUENCE slotwire.accepted_bytes_%s AS bigint MINVALUE 0', v_shard);
        PERFORM setval(format('slotwire.accepted_bytes_%s', v_shard)::regclass, 0);
        INSERT INTO slotwire.heads (shard, version, epoch, position, total, last_event, server, attempts, attempts_at, at)
        VALUES (v_shard, 0, 0, 0, 0, 0, slotwire.server_identity(), 0, 0, p_now);
    END LOOP;
    PERFORM slotwire.make_ranges(p_now, 7);
END
$$;
REVOKE ALL ON FUNCTION slotwire.make_log FROM PUBLIC;

-- Which server this is: a restore into another cluster, or a failover, has another answer.
CREATE FUNCTION slotwire.server_identity() RETURNS text
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (SELECT system_identifier FROM pg_control_system())
           -- That of the next write: pg_control_checkpoint() tells the old one until the first checkpoint has ended.
           || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
$$;
REVOKE ALL ON FUNCTION slotwire.server_identity FROM PUBLIC;

-- One thing that comes in by the door.
CREATE TYPE slotwire.accepting AS (
    id uuid,
    org text,
    subscription_id uuid,
    origin text,
    received_at timestamptz,
    signed_at timestamptz,
    stale boolean,
    content_encoding text,
    traceparent text,
    original uuid,
    body bytea,
    signing_key uuid -- of a webhook: the key that its signature was verified with
);

-- The door: commit what came in to a shard, in one autocommit call. The shard's lock is held to the end of this
-- transaction, so positions are in the order of commits, over any number of processes, and a reader that goes
-- `position > head` misses nothing.
--
-- A row whose signing key was revoked since it was verified is not taken. `revoke_signing_keys` waits for the same lock,
-- so once it has committed nothing that the key signed is accepted, whatever a process still has in memory.
--
-- Raises SW001 when what is accepted and not yet written would pass p_limit bytes.
CREATE FUNCTION slotwire.accept(
    p_shard smallint,
    p_now timestamptz,
    p_limit bigint, -- null: no limit
    p_rows slotwire.accepting[],
    OUT last bigint, -- the position of the last row; null where none was taken
    OUT revoked uuid[] -- ids of the rows that were not taken; null where all were
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_row_bytes CONSTANT integer := 256; -- what a row costs beside its body
    v_positions CONSTANT regclass := ('slotwire.accepted_' || p_shard)::regclass;
    v_bytes CONSTANT regclass := ('slotwire.accepted_bytes_' || p_shard)::regclass;
    v_range bigint;
    v_first bigint;
    v_total bigint;
    v_size bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(1936487278, p_shard);
    SELECT sum(coalesce(octet_length(r.body), 0) + v_row_bytes),
           array_agg(r.id) FILTER (WHERE r.signing_key IS NOT NULL AND NOT EXISTS (
               SELECT FROM slotwire.signing_keys k
               WHERE k.id = r.signing_key AND k.subscription_id = r.subscription_id))
    INTO v_size, revoked FROM unnest(p_rows) AS r;
    IF revoked IS NOT NULL THEN
        p_rows := array(SELECT r::slotwire.accepting FROM unnest(p_rows) AS r WHERE r.id <> ALL (revoked));
        IF cardinality(p_rows) = 0 THEN
            RETURN;
        END IF;
        SELECT sum(coalesce(octet_length(r.body), 0) + v_row_bytes) INTO v_size FROM unnest(p_rows) AS r;
    END IF;
    SELECT 1000000000::bigint * least(last_range, greatest(0,
               (p_now AT TIME ZONE 'UTC')::date - (created_at AT TIME ZONE 'UTC')::date))
    INTO v_range FROM slotwire.log;
    v_first := nextval(v_positions);
    IF v_first <= v_range THEN -- the first of a new day
        v_first := v_range + 1;
    END IF;
    v_total := pg_sequence_last_value(v_bytes);
    IF v_total + v_size - (SELECT total FROM slotwire.heads WHERE shard = p_shard ORDER BY version DESC LIMIT 1) > p_limit
    THEN
        RAISE EXCEPTION 'what is accepted and not yet written has reached its limit' USING ERRCODE = 'SW001';
    END IF;
    INSERT INTO slotwire.deliveries (shard, position, total, id, org, subscription_id, origin, received_at, signed_at,
                                     stale, content_encoding, traceparent, original, body)
    SELECT p_shard, v_first + r.number - 1,
           v_total + sum(coalesce(octet_length(r.body), 0) + v_row_bytes) OVER (ORDER BY r.number),
           r.id, r.org, r.subscription_id, r.origin, r.received_at, r.signed_at, r.stale, r.content_encoding,
           r.traceparent, r.original, r.body
    FROM unnest(p_rows) WITH ORDINALITY AS r (id, org, subscription_id, origin, received_at, signed_at, stale,
                                              content_encoding, traceparent, original, body, signing_key, number);
    last := v_first + cardinality(p_rows) - 1;
    PERFORM setval(v_positions, last), setval(v_bytes, v_total + v_size);
END
$$;
REVOKE ALL ON FUNCTION slotwire.accept FROM PUBLIC;

-- Revoke signing keys: of an organization, of one subscription of it, or a single one; null stands for every one.
-- Waits for what is being accepted, see there: that stays. Answers which keys were there.
CREATE FUNCTION slotwire.revoke_signing_keys(p_org text, p_subscription uuid, p_key uuid)
RETURNS TABLE (id uuid, subscription_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1936487278, o.shard) FROM slotwire.organizations o WHERE o.org = p_org;
    RETURN QUERY
    DELETE FROM slotwire.signing_keys k USING slotwire.subscriptions s
    WHERE s.id = k.subscription_id AND s.org = p_org
      AND (p_subscription IS NULL OR s.id = p_subscription) AND (p_key IS NULL OR k.id = p_key)
    RETURNING k.id, k.subscription_id;
END
$$;
REVOKE ALL ON FUNCTION slotwire.revoke_signing_keys FROM PUBLIC;

-- Become the writer of a shard: a new epoch, after which no append of an earlier one goes in. Waits for what is
-- in flight. Answers the head as it is then, and whether the server is the one the log was written on.
CREATE FUNCTION slotwire.take_epoch(
    p_shard smallint,
    p_now timestamptz,
    p_outlived bigint -- null, or a delivery that this process tried alone: it failed, and did not end the process
)
RETURNS TABLE (epoch bigint, version bigint, "position" bigint, total bigint, last_event bigint, attempts smallint,
               trying bigint, tries smallint, same_server boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h slotwire.heads;
BEGIN
    LOOP
        SELECT * INTO STRICT h FROM slotwire.heads WHERE shard = p_shard ORDER BY heads.version DESC LIMIT 1;
        -- While nothing waits nobody was ended by it.
        h.attempts := CASE WHEN h.attempts_at = h.position AND EXISTS (
                                SELECT FROM slotwire.deliveries d WHERE d.shard = p_shard AND d.position > h.position)
                           THEN least(h.attempts + 1, 1000) ELSE 1 END;
        h.attempts_at := h.position;
        IF h.trying = p_outlived THEN
            h.trying := NULL;
            h.tries := 0;
        END IF;
        h.epoch := h.epoch + 1;
        h.version := h.version + 1;
        h.at := p_now;
        INSERT INTO slotwire.heads SELECT (h).* ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
    END LOOP;
    RETURN QUERY SELECT h.epoch, h.version, h.position, h.total, h.last_event, h.attempts, h.trying, h.tries,
                        h.server = slotwire.server_identity();
END
$$;
REVOKE ALL ON FUNCTION slotwire.take_epoch FROM PUBLIC;

-- The leader stops as it should: what comes next at this head is not to blame for its end.
CREATE FUNCTION slotwire.leave_epoch(p_shard smallint, p_epoch bigint, p_version bigint, p_now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h slotwire.heads;
BEGIN
    SELECT * INTO STRICT h FROM slotwire.heads WHERE shard = p_shard ORDER BY heads.version DESC LIMIT 1;
    IF (h.epoch, h.version) = (p_epoch, p_version) THEN
        h.version := h.version + 1;
        h.attempts := 0;
        h.attempts_at := h.position;
        h.trying := NULL;
        h.tries := 0;
        h.at := p_now;
        INSERT INTO slotwire.heads SELECT (h).* ON CONFLICT DO NOTHING;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION slotwire.leave_epoch FROM PUBLIC;

-- Let no event have a position that was published already: the next one is beyond it.
CREATE FUNCTION slotwire.pass_over_positions(p_published bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    ALTER SEQUENCE slotwire.positions NO CYCLE; -- waits for appends, and no other shard takes a position meanwhile
    PERFORM setval('slotwire.positions', p_published) FROM slotwire.positions WHERE last_value < p_published;
END
$$;
REVOKE ALL ON FUNCTION slotwire.pass_over_positions FROM PUBLIC;

-- Go on after a restore or a failover: from here on the log is written on this server, and its positions go on
-- beyond everything that was ever published.
CREATE FUNCTION slotwire.adopt_server(p_shard smallint, p_epoch bigint, p_version bigint, p_published bigint, p_now timestamptz)
RETURNS bigint -- the new version; null: somebody else leads
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h slotwire.heads;
BEGIN
    SELECT * INTO STRICT h FROM slotwire.heads WHERE shard = p_shard ORDER BY heads.version DESC LIMIT 1;
    IF (h.epoch, h.version) <> (p_epoch, p_version) THEN
        RETURN NULL;
    END IF;
    h.version := h.version + 1;
    h.server := slotwire.server_identity();
    h.at := p_now;
    INSERT INTO slotwire.heads SELECT (h).* ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM slotwire.pass_over_positions(p_published);
    RETURN h.version;
END
$$;
REVOKE ALL ON FUNCTION slotwire.adopt_server FROM PUBLIC;

-- Note, before a delivery is tried alone, that it is: one that ends the process again and again is found by this.
-- Answers the new version and how often it was tried; no row: somebody else leads.
CREATE FUNCTION slotwire.try_alone(p_shard smallint, p_epoch bigint, p_version bigint, p_position bigint, p_now timestamptz)
RETURNS TABLE (version bigint, tries smallint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h slotwire.heads;
BEGIN
    SELECT * INTO STRICT h FROM slotwire.heads WHERE shard = p_shard ORDER BY heads.version DESC LIMIT 1;
    IF (h.epoch, h.version) <> (p_epoch, p_version) THEN
        RETURN;
    END IF;
    h.version := h.version + 1;
    h.tries := CASE WHEN h.trying = p_position THEN h.tries + 1 ELSE 1 END;
    h.trying := p_position;
    h.at := p_now;
    INSERT INTO slotwire.heads SELECT (h).* ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN QUERY SELECT h.version, h.tries;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION slotwire.try_alone FROM PUBLIC;

CREATE TYPE slotwire.new_event AS (
    id uuid,
    type text,
    org text,
    subject text,
    key text,
    time timestamptz,
    recorded_at timestamptz,
    delivery_id uuid,
    origin text,
    inferred boolean,
    traceparent text,
    tenant text,
    data bytea
);
CREATE TYPE slotwire.new_result AS (
    position bigint,
    org text,
    delivery_id uuid, -- of a retry: of the delivery it points at
    outcome text,
    event_id uuid,
    event_name text,
    subject text,
    original boolean, -- whether delivery_id is another delivery, which is settled by this one
    reason text, -- of a quarantined one
    detail text
);

-- The log's one door: everything the writer makes of some deliveries, in one transaction, if the head is still
-- the one it was computed from. Bookings are asserted at the revision that was read.
--
-- Answers which of the events are new, with their positions, in order; `applied` is false when the head has moved,
-- and `epoch` tells whether to another leader.
CREATE FUNCTION slotwire.append(
    p_shard smallint,
    p_epoch bigint,
    p_version bigint,
    p_now timestamptz,
    p_position bigint, -- the head from now on
    p_total bigint,
    p_results slotwire.new_result[],
    p_events slotwire.new_event[],
    p_bookings jsonb, -- [{was, ...columns of bookings}]: rows as they become; was: the revision that was read
    p_roots jsonb -- [{org, from, to}]: chains found to be older than known
) RETURNS TABLE (applied boolean, epoch bigint, version bigint, previous_event bigint, ids uuid[], positions bigint[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h slotwire.heads;
    v_all_new boolean;
    v_rows bigint;
    v_range bigint;
BEGIN
    SELECT * INTO STRICT h FROM slotwire.heads WHERE shard = p_shard ORDER BY heads.version DESC LIMIT 1;
    applied := (h.epoch, h.version) = (p_epoch, p_version);
    epoch := h.epoch;
    version := h.version;
    IF NOT applied THEN
        RETURN NEXT;
        RETURN;
    END IF;
    previous_event := h.last_event;

    -- The first event of a day begins a new range. Only one shard at a time moves the counter.
    IF cardinality(p_events) > 0 THEN
        SELECT 1000000000::bigint * least(last_range, greatest(0,
                   (p_now AT TIME ZONE 'UTC')::date - (created_at AT TIME ZONE 'UTC')::date))
        INTO v_range FROM slotwire.log;
        IF (SELECT last_value FROM slotwire.positions) <= v_range THEN
            PERFORM pg_advisory_xact_lock(1936487282);
            IF (SELECT last_value FROM slotwire.positions) <= v_range THEN
                PERFORM setval('slotwire.positions', v_range, v_range > 0);
            END IF;
        END IF;
    END IF;

    WITH fresh AS (
        INSERT INTO slotwire.identities AS i (event_id, shard, position)
        SELECT e.id, p_shard, nextval('slotwire.positions') FROM unnest(p_events) AS e
        ON CONFLICT (event_id) DO NOTHING
        RETURNING i.event_id, i.position
    )
    SELECT coalesce(array_agg(f.event_id ORDER BY f.position), '{}'), coalesce(array_agg(f.position ORDER BY f.position), '{}')
    INTO ids, positions FROM fresh f;
    -- Nearly always all of them are new: then their places in the arrays are the same, and nothing is searched.
    v_all_new := cardinality(ids) = cardinality(p_events);
    INSERT INTO slotwire.events (shard, position, event_id, type, org, subject, key, time, recorded_at, delivery_id,
                                 origin, inferred, traceparent, tenant, data)
    SELECT p_shard, positions[CASE WHEN v_all_new THEN e.number ELSE array_position(ids, e.id) END],
           e.id, e.type, e.org, e.subject, e.key, e.time, e.recorded_at, e.delivery_id,
           e.origin, e.inferred, e.traceparent, e.tenant, e.data
    FROM unnest(p_events) WITH ORDINALITY AS e (id, type, org, subject, key, time, recorded_at, delivery_id, origin,
                                                inferred, traceparent, tenant, data, number)
    WHERE v_all_new OR e.id = ANY (ids);

    INSERT INTO slotwire.results (shard, position, org, outcome, event_id, event_name, subject, settled_at)
    SELECT p_shard, r.position, r.org,
           CASE WHEN NOT v_all_new AND r.outcome = 'stored' AND r.event_id IS NOT NULL AND r.event_id <> ALL (ids)
                THEN 'duplicate' ELSE r.outcome END,
           r.event_id, r.event_name, r.subject, p_now
    FROM unnest(p_results) AS r;

    INSERT INTO slotwire.quarantine (delivery_id, shard, position, org, subscription_id, origin, received_at, signed_at,
                                     content_encoding, traceparent, body, reason, detail, created_at)
    SELECT r.delivery_id, p_shard, r.position, d.org, d.subscription_id, d.origin, d.received_at, d.signed_at,
           d.content_encoding, d.traceparent, d.body, r.reason, r.detail, p_now
    FROM unnest(p_results) AS r
    JOIN slotwire.deliveries d ON d.shard = p_shard AND d.position = r.position
    WHERE r.outcome = 'quarantined' AND NOT r.original;

    -- A retry settles what it points at, as if it had been understood when it came, or notes why it still is not.
    IF EXISTS (SELECT FROM unnest(p_results) AS r WHERE r.original) THEN
        UPDATE slotwire.quarantine q SET
            state = CASE WHEN r.outcome = 'quarantined' THEN q.state ELSE 'retried' END,
            settled_at = CASE WHEN r.outcome = 'quarantined' THEN q.settled_at ELSE p_now END,
            reason = coalesce(r.reason, q.reason),
            detail = coalesce(r.detail, q.detail),
            event_id = r.event_id,
            outcome = CASE WHEN r.outcome = 'quarantined' THEN 'quarantined'
                           WHEN r.event_id IS NOT NULL AND r.event_id <> ALL (ids) THEN 'duplicate' ELSE r.outcome END
        FROM unnest(p_results) AS r
        WHERE r.original AND q.delivery_id = r.delivery_id AND q.state <> 'retried';
        UPDATE slotwire.results o SET outcome = q.outcome, event_id = q.event_id, event_name = r.event_name,
                                      subject = r.subject
        FROM unnest(p_results) AS r JOIN slotwire.quarantine q ON q.delivery_id = r.delivery_id
        WHERE r.original AND q.state = 'retried' AND o.shard = q.shard AND o.position = q.position;
    END IF;

    IF p_bookings <> '[]' THEN
        INSERT INTO slotwire.bookings AS b (invitee, org, revision, state, provider_status, chain_key, chain_root,
            old_invitees, new_invitees, marks, clears, told_at, booked_at, scheduled_event, event_told_at, start_time,
            end_time, hosts, location_type, waits_since, changed_at)
        SELECT r.invitee, r.org, r.revision, r.state, r.provider_status, r.chain_key, r.chain_root, r.old_invitees,
               r.new_invitees, r.marks, r.clears, r.told_at, r.booked_at, r.scheduled_event, r.event_told_at,
               r.start_time, r.end_time, r.hosts, r.location_type, r.waits_since, p_now
        FROM jsonb_to_recordset(p_bookings) AS r (
            invitee text, org text, revision integer, state text, provider_status text, chain_key text, chain_root text,
            old_invitees text[], new_invitees text[], marks jsonb, clears jsonb, told_at timestamptz,
            booked_at timestamptz, scheduled_event text, event_told_at timestamptz, start_time timestamptz,
            end_time timestamptz, hosts text[], location_type text, waits_since timestamptz, was integer)
        WHERE r.was = 0;
        IF jsonb_path_exists(p_bookings, '$[*] ? (@.was > 0)') THEN
            UPDATE slotwire.bookings b SET
                revision = r.revision, state = r.state, provider_status = r.provider_status, chain_root = r.chain_root,
                old_invitees = r.old_invitees, new_invitees = r.new_invitees, marks = r.marks, clears = r.clears,
                told_at = r.told_at, booked_at = r.booked_at, scheduled_event = r.scheduled_event,
                event_told_at = r.event_told_at, start_time = r.start_time, end_time = r.end_time, hosts = r.hosts,
                location_type = r.location_type, waits_since = r.waits_since, changed_at = p_now
            FROM jsonb_to_recordset(p_bookings) AS r (
                invitee text, org text, revision integer, state text, provider_status text, chain_root text,
                old_invitees text[], new_invitees text[], marks jsonb, clears jsonb, told_at timestamptz,
                booked_at timestamptz, scheduled_event text, event_told_at timestamptz, start_time timestamptz,
                end_time timestamptz, hosts text[], location_type text, waits_since timestamptz, was integer)
            WHERE r.was > 0 AND b.invitee = r.invitee AND b.org = r.org AND b.revision = r.was;
            GET DIAGNOSTICS v_rows = ROW_COUNT;
            IF v_rows <> (SELECT count(*) FROM jsonb_to_recordset(p_bookings) AS r (was integer) WHERE r.was > 0) THEN
                RAISE EXCEPTION 'a booking is not at the revision it was read at' USING ERRCODE = 'SW002';
            END IF;
        END IF;
    END IF;

    -- What was led by a root that is no longer the oldest follows; the revision tells that the row changed.
    IF p_roots <> '[]' THEN
        UPDATE slotwire.bookings b SET chain_root = m."to", revision = b.revision + 1, changed_at = p_now
        FROM jsonb_to_recordset(p_roots) AS m (org text, "from" text, "to" text)
        WHERE b.chain_root = m."from" AND b.org = m.org;
    END IF;

    version := version + 1;
    INSERT INTO slotwire.heads (shard, version, epoch, position, total, last_event, server, attempts, attempts_at,
                                trying, tries, at)
    VALUES (p_shard, version, epoch, p_position, p_total, greatest(h.last_event, positions[cardinality(positions)]),
            h.server, CASE WHEN p_position > h.position THEN 1 ELSE h.attempts END, greatest(h.attempts_at, p_position),
            h.trying, h.tries, p_now)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another writer was quicker' USING ERRCODE = 'SW003';
    END IF;
    -- An append that is under way may compare with an old version: far more are kept than one can miss in its time.
    IF version % 1000 = 0 THEN
        DELETE FROM slotwire.heads WHERE shard = p_shard AND slotwire.heads.version < append.version - 100000;
    END IF;
    RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION slotwire.append FROM PUBLIC;

-- Settle a quarantined delivery as not wanted. Its body stays. Answers whether it did wait.
CREATE FUNCTION slotwire.discard(p_delivery uuid, p_at timestamptz, p_note text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE slotwire.quarantine SET state = 'discarded', settled_at = p_at, note = p_note
    WHERE delivery_id = p_delivery AND state = 'waiting';
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION slotwire.discard FROM PUBLIC;

-- A role a process: what it may read, call and write, and nothing else. SECURITY.md has the table.
GRANT USAGE ON SCHEMA slotwire TO {serve}, {relay}, {agents}, {mcp}, {control};

-- serve: find a hook with its keys, and accept.
GRANT SELECT ON slotwire.log, slotwire.organizations, slotwire.subscriptions, slotwire.signing_keys TO {serve};
GRANT EXECUTE ON FUNCTION slotwire.accept TO {serve};

-- relay: write what was accepted into the log, and publish it. It can make no delivery, and opens no secret.
GRANT SELECT ON slotwire.log, slotwire.organizations, slotwire.deliveries, slotwire.results, slotwire.heads,
    slotwire.events, slotwire.identities, slotwire.bookings, slotwire.quarantine, slotwire.relay_mirror,
    slotwire.parked_events TO {relay};
GRANT EXECUTE ON FUNCTION slotwire.take_epoch, slotwire.leave_epoch, slotwire.adopt_server,
    slotwire.pass_over_positions, slotwire.try_alone, slotwire.append TO {relay};
GRANT INSERT, UPDATE ON slotwire.relay_mirror TO {relay};
GRANT INSERT ON slotwire.parked_events TO {relay};

-- agents: their inbox, and the data of an event that was too large for its record.
GRANT SELECT, INSERT, UPDATE, DELETE ON slotwire.inbox TO {agents};
GRANT SELECT ON slotwire.identities TO {agents};
GRANT SELECT (shard, position, data) ON slotwire.events TO {agents};

-- control, and whoever types commands: read all but the inbox, accept, manage.
GRANT SELECT ON slotwire.log, slotwire.organizations, slotwire.subscriptions, slotwire.signing_keys,
    slotwire.deliveries, slotwire.results, slotwire.heads, slotwire.events, slotwire.identities, slotwire.bookings,
    slotwire.quarantine, slotwire.relay_mirror, slotwire.parked_events, slotwire.api_keys TO {control};
GRANT EXECUTE ON FUNCTION slotwire.accept, slotwire.discard, slotwire.make_ranges, slotwire.drop_range,
    slotwire.needed_for, slotwire.ranges_of, slotwire.prune, slotwire.revoke_signing_keys TO {control};
GRANT INSERT, UPDATE ON slotwire.organizations, slotwire.subscriptions, slotwire.api_keys TO {control};
GRANT INSERT ON slotwire.signing_keys TO {control};
