-- The log, what it is made from, and who may write it.
--
-- `slotwire migrate` runs this as the owner, in one transaction. {runtime_role} is the group role the
-- processes' login role is a member of; it may write the log through append_batch only.

CREATE SCHEMA IF NOT EXISTS slotwire;

-- One row: the log's identity, made with it. A relay cursor that names another log is refused.
CREATE TABLE slotwire.log (
    singleton boolean PRIMARY KEY DEFAULT true CONSTRAINT log_is_one CHECK (singleton),
    log_id uuid NOT NULL,
    shards smallint NOT NULL CONSTRAINT log_shards_positive CHECK (shards BETWEEN 1 AND 64),
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
CREATE INDEX subscriptions_org ON slotwire.subscriptions (org);

-- Signing keys, sealed by the vault; the newest signs, older ones stay valid while they are listed.
CREATE TABLE slotwire.signing_keys (
    id uuid PRIMARY KEY,
    subscription_id uuid NOT NULL REFERENCES slotwire.subscriptions (id) ON DELETE CASCADE,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX signing_keys_subscription ON slotwire.signing_keys (subscription_id);

-- Every authentic delivery, as received.
CREATE TABLE slotwire.deliveries (
    id uuid PRIMARY KEY,
    org text NOT NULL,
    subscription_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    signed_at timestamptz NOT NULL,
    outcome text NOT NULL CONSTRAINT deliveries_outcome CHECK (outcome IN ('stored', 'duplicate', 'quarantined')),
    event_id uuid,
    event_name text,
    traceparent text,
    body bytea NOT NULL
);
CREATE INDEX deliveries_event ON slotwire.deliveries (event_id);
-- A body near 2 kB would be compressed by the server at each insert, for little; it is kept out of line only
-- when it is large.
ALTER TABLE slotwire.deliveries ALTER COLUMN body SET STORAGE EXTERNAL;

-- The log, and the outbox: append-only, read by position. Position is commit order within a shard.
CREATE SEQUENCE slotwire.positions AS bigint;
CREATE TABLE slotwire.events (
    shard smallint NOT NULL,
    position bigint NOT NULL,
    event_id uuid NOT NULL CONSTRAINT events_once UNIQUE,
    type text NOT NULL CONSTRAINT events_type_short CHECK (length(type) <= 200),
    org text NOT NULL,
    subject text NOT NULL CONSTRAINT events_subject_short CHECK (length(subject) <= 2000),
    key text NOT NULL CONSTRAINT events_key_short CHECK (length(key) <= 2000),
    time timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL, -- when its delivery arrived, or when what had waited was written
    delivery_id uuid,
    inferred boolean NOT NULL,
    traceparent text,
    tenant text,
    data bytea NOT NULL,
    PRIMARY KEY (shard, position)
);
CREATE INDEX events_subject ON slotwire.events (subject, position);
CREATE INDEX events_org ON slotwire.events (org, position);
ALTER TABLE slotwire.events ALTER COLUMN data SET STORAGE EXTERNAL;

-- One row an invitee; `named` is one we only know from a neighbour in its chain. Never revived after canceled.
CREATE TABLE slotwire.bookings (
    invitee text PRIMARY KEY CONSTRAINT bookings_invitee_short CHECK (length(invitee) <= 2000),
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
    clears jsonb NOT NULL, -- [{at, delivery, alone}] by time; alone: published before its mark was known
    told_at timestamptz,
    booked_at timestamptz,
    scheduled_event text,
    event_told_at timestamptz,
    start_time timestamptz,
    end_time timestamptz,
    hosts text[] NOT NULL,
    location_type text,
    waits_since timestamptz, -- for the mark of a clear, or, as the newer half of a reschedule, for the other
    changed_at timestamptz NOT NULL
);
CREATE INDEX bookings_chain_root ON slotwire.bookings (chain_root);
CREATE INDEX bookings_org ON slotwire.bookings (org, invitee);
CREATE INDEX bookings_waiting ON slotwire.bookings (waits_since) WHERE waits_since IS NOT NULL;

-- Authentic deliveries that this version could not turn into events. The body is in `deliveries`.
-- It stays there whatever becomes of the row.
CREATE TABLE slotwire.quarantine (
    delivery_id uuid PRIMARY KEY,
    org text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    created_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'waiting'
        CONSTRAINT quarantine_state CHECK (state IN ('waiting', 'retried', 'discarded')),
    settled_at timestamptz,
    note text CONSTRAINT quarantine_note_short CHECK (length(note) <= 1000),
    CONSTRAINT quarantine_settled CHECK ((state = 'waiting') = (settled_at IS NULL)),
    CONSTRAINT quarantine_discarded_why CHECK (state <> 'discarded' OR note <> '')
);
CREATE INDEX quarantine_org ON slotwire.quarantine (org, delivery_id);
CREATE INDEX quarantine_waiting ON slotwire.quarantine (reason, delivery_id) WHERE state = 'waiting';

-- A copy of the relay's cursor, written after each commit at the broker: for pruning, dashboards and lag,
-- never a silent place to resume from.
CREATE TABLE slotwire.relay_mirror (
    shard smallint PRIMARY KEY,
    log_id uuid NOT NULL,
    position bigint NOT NULL,
    event_id uuid,
    published_at timestamptz NOT NULL
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

-- Append one batch to one shard of the log: the only way anything is written to it.
--
-- Takes the shard's lock for its own transaction, checks that the bookings it was computed from are still at
-- the revision that was read (0: absent), writes what passes and answers what did not: the groups of items
-- that touch a changed booking. The caller reads those again and tries again. Called as one autocommit
-- statement: the lock is never held across a client's round trip.
CREATE FUNCTION slotwire.append_batch(
    p_shard smallint,
    p_recorded_at timestamptz,
    p_guards jsonb,      -- [{grp, invitee, revision}]: what must still hold
    p_bookings jsonb,    -- [{grp, ...columns of bookings}]: rows as they shall be
    p_roots jsonb,       -- [{grp, from, to}]: chains found to be older than known
    d_grp integer[], d_id uuid[], d_org text[], d_subscription uuid[], d_received_at timestamptz[],
    d_signed_at timestamptz[], d_outcome text[], d_event uuid[], d_name text[], d_traceparent text[],
    d_reason text[], d_detail text[], d_body bytea[],
    e_grp integer[], e_id uuid[], e_type text[], e_org text[], e_subject text[], e_key text[],
    e_time timestamptz[], e_delivery uuid[], e_inferred boolean[], e_traceparent text[], e_tenant text[],
    e_data bytea[], e_recorded_at timestamptz[]
) RETURNS TABLE (conflicts integer[], duplicates uuid[], last_position bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    v_new uuid[];
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(1936487278, p_shard);

    -- A look-up a row, by the key, however large the table has grown since the plan was made.
    SELECT coalesce(array_agg(DISTINCT g.grp), '{}') INTO conflicts
    FROM jsonb_to_recordset(p_guards) AS g (grp integer, invitee text, revision integer)
    WHERE coalesce((SELECT b.revision FROM slotwire.bookings b WHERE b.invitee = g.invitee), 0) <> g.revision;

    WITH appended AS (
        INSERT INTO slotwire.events (shard, position, event_id, type, org, subject, key, time, recorded_at,
                                     delivery_id, inferred, traceparent, tenant, data)
        SELECT p_shard, nextval('slotwire.positions'), e.id, e.type, e.org, e.subject, e.key, e.time, e.recorded_at,
               e.delivery, e.inferred, e.traceparent, e.tenant, e.data
        FROM unnest(e_grp, e_id, e_type, e_org, e_subject, e_key, e_time, e_delivery, e_inferred, e_traceparent,
                    e_tenant, e_data, e_recorded_at)
             AS e (grp, id, type, org, subject, key, time, delivery, inferred, traceparent, tenant, data, recorded_at)
        WHERE e.grp <> ALL (conflicts)
        ON CONFLICT (event_id) DO NOTHING
        RETURNING event_id, position
    )
    SELECT coalesce(array_agg(event_id), '{}'), max(position) INTO v_new, last_position FROM appended;

    WITH kept AS (
        INSERT INTO slotwire.deliveries (id, org, subscription_id, received_at, signed_at, outcome, event_id,
                                         event_name, traceparent, body)
        SELECT d.id, d.org, d.subscription, d.received_at, d.signed_at,
               CASE WHEN d.outcome = 'stored' AND d.event IS NOT NULL AND d.event <> ALL (v_new) THEN 'duplicate' ELSE d.outcome END,
               d.event, d.name, d.traceparent, d.body
        FROM unnest(d_grp, d_id, d_org, d_subscription, d_received_at, d_signed_at, d_outcome, d_event, d_name,
                    d_traceparent, d_body)
             AS d (grp, id, org, subscription, received_at, signed_at, outcome, event, name, traceparent, body)
        WHERE d.grp <> ALL (conflicts)
        RETURNING id, outcome
    )
    SELECT coalesce(array_agg(id), '{}') INTO duplicates FROM kept WHERE outcome = 'duplicate';

    INSERT INTO slotwire.quarantine (delivery_id, org, reason, detail, created_at)
    SELECT q.id, q.org, q.reason, q.detail, p_recorded_at
    FROM unnest(d_grp, d_id, d_org, d_reason, d_detail) AS q (grp, id, org, reason, detail)
    WHERE q.reason IS NOT NULL AND q.grp <> ALL (conflicts);

    INSERT INTO slotwire.bookings AS b (invitee, org, revision, state, provider_status, chain_key, chain_root,
        old_invitees, new_invitees, marks, clears, told_at, booked_at, scheduled_event, event_told_at, start_time,
        end_time, hosts, location_type, waits_since, changed_at)
    SELECT r.invitee, r.org, r.revision, r.state, r.provider_status, r.chain_key, r.chain_root, r.old_invitees,
           r.new_invitees, r.marks, r.clears, r.told_at, r.booked_at, r.scheduled_event, r.event_told_at, r.start_time,
           r.end_time, r.hosts, r.location_type, r.waits_since, p_recorded_at
    FROM jsonb_to_recordset(p_bookings) AS r (
        grp integer, invitee text, org text, revision integer, state text, provider_status text, chain_key text,
        chain_root text, old_invitees text[], new_invitees text[], marks jsonb, clears jsonb,
        told_at timestamptz, booked_at timestamptz, scheduled_event text, event_told_at timestamptz,
        start_time timestamptz, end_time timestamptz, hosts text[], location_type text, waits_since timestamptz)
    WHERE r.grp <> ALL (conflicts)
    ON CONFLICT (invitee) DO UPDATE SET
        revision = excluded.revision, state = excluded.state, provider_status = excluded.provider_status,
        chain_root = excluded.chain_root, old_invitees = excluded.old_invitees, new_invitees = excluded.new_invitees,
        marks = excluded.marks, clears = excluded.clears, told_at = excluded.told_at,
        booked_at = excluded.booked_at, scheduled_event = excluded.scheduled_event,
        event_told_at = excluded.event_told_at, start_time = excluded.start_time, end_time = excluded.end_time,
        hosts = excluded.hosts, location_type = excluded.location_type, waits_since = excluded.waits_since,
        changed_at = excluded.changed_at;

    -- Whoever was led by a root that is no longer the oldest follows; the revision tells writers that read
    -- the row before.
    IF p_roots <> '[]' THEN
        UPDATE slotwire.bookings b SET chain_root = m."to", revision = b.revision + 1, changed_at = p_recorded_at
        FROM jsonb_to_recordset(p_roots) AS m (grp integer, "from" text, "to" text)
        WHERE b.chain_root = m."from" AND m.grp <> ALL (conflicts);
    END IF;

    RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION slotwire.append_batch FROM PUBLIC;

-- Settle one quarantined delivery, or note why it still cannot be understood: the only way these rows change.
-- Answers whether it applied. Retried is final; only what waits can be discarded; what was discarded may still
-- be retried. A retried delivery is marked with what became of it, as if it had been understood when it came.
CREATE FUNCTION slotwire.settle_quarantine(
    p_delivery uuid,
    p_at timestamptz,
    p_state text,        -- 'retried' or 'discarded'; null: it stays, with the reason and detail given
    p_reason text,
    p_detail text,
    p_note text,
    p_event uuid,        -- of a retried one: the event it stands for, if there is one
    p_name text          -- of a retried one: Calendly's name for it
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    UPDATE slotwire.quarantine SET
        state = coalesce(p_state, state),
        settled_at = CASE WHEN p_state IS NULL THEN settled_at ELSE p_at END,
        reason = coalesce(p_reason, reason),
        detail = coalesce(p_detail, detail),
        note = coalesce(p_note, note)
    WHERE delivery_id = p_delivery AND state <> 'retried' AND (p_state IS DISTINCT FROM 'discarded' OR state = 'waiting');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_state = 'retried' THEN
        UPDATE slotwire.deliveries SET
            outcome = CASE WHEN EXISTS (SELECT FROM slotwire.events e
                                        WHERE e.event_id = p_event AND e.delivery_id IS DISTINCT FROM p_delivery)
                           THEN 'duplicate' ELSE 'stored' END,
            event_id = p_event,
            event_name = p_name
        WHERE id = p_delivery;
    END IF;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION slotwire.settle_quarantine FROM PUBLIC;

GRANT USAGE ON SCHEMA slotwire TO {runtime_role};
GRANT EXECUTE ON FUNCTION slotwire.append_batch, slotwire.settle_quarantine TO {runtime_role};
GRANT SELECT ON ALL TABLES IN SCHEMA slotwire TO {runtime_role};
GRANT INSERT, UPDATE ON slotwire.organizations, slotwire.subscriptions, slotwire.relay_mirror, slotwire.api_keys
    TO {runtime_role};
GRANT INSERT, DELETE ON slotwire.signing_keys TO {runtime_role};
GRANT INSERT ON slotwire.parked_events TO {runtime_role};
GRANT INSERT, UPDATE, DELETE ON slotwire.inbox TO {runtime_role};
