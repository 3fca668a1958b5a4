-- Credentials at Calendly, what is wanted of it, who changed what, and answers to requests that are repeated.

-- An organization that was given up stays known, so that its history has an owner.
ALTER TABLE slotwire.organizations ADD COLUMN ended_at timestamptz;
-- Meetings that start then or later are still to be fetched from Calendly; null when nothing is.
ALTER TABLE slotwire.organizations ADD COLUMN backfill_from timestamptz;

-- One credential a connected user. `user_uri` is pinned when it is made, and Calendly's answer is compared with
-- it from then on. States and steps: docs/reference/states.md.
CREATE TABLE slotwire.connections (
    id uuid PRIMARY KEY,
    org text NOT NULL REFERENCES slotwire.organizations (org),
    kind text NOT NULL CONSTRAINT connections_kind CHECK (kind IN ('personal_access_token')),
    user_uri text NOT NULL CONSTRAINT connections_user_short CHECK (length(user_uri) <= 2000),
    role text, -- of the user in the organization, as Calendly last said
    credential_id uuid NOT NULL, -- names the secret: a new one with each replacement
    sealed bytea NOT NULL,
    scopes text[], -- what the token says it may; null where it does not say
    expires_at timestamptz, -- null where it does not end by itself
    state text NOT NULL
        CONSTRAINT connections_state CHECK (state IN ('active', 'expiring', 'needs_reauth', 'revoked', 'error')),
    reason text, -- a short word: why it is not active
    checked_at timestamptz NOT NULL, -- when Calendly last answered to it
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    CONSTRAINT connections_once_a_user UNIQUE (org, user_uri),
    CONSTRAINT connections_reason CHECK ((state = 'active') = (reason IS NULL))
);
CREATE INDEX connections_created ON slotwire.connections (created_at, id);

-- Steps that no statement may make, whoever writes it: whom a connection acts as never changes; a new credential
-- begins able to act; one that Calendly refused stays refused.
CREATE FUNCTION slotwire.check_connection_step() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.id, NEW.org, NEW.user_uri) IS DISTINCT FROM (OLD.id, OLD.org, OLD.user_uri) THEN
        RAISE EXCEPTION 'a connection keeps its organization and user'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'connections_pinned';
    END IF;
    IF TG_OP = 'INSERT' OR NEW.credential_id <> OLD.credential_id THEN
        IF NEW.state NOT IN ('active', 'expiring') THEN
            RAISE EXCEPTION 'a new credential begins active or expiring, not %', NEW.state
                USING ERRCODE = 'check_violation', CONSTRAINT = 'connections_new_credential';
        END IF;
    ELSIF OLD.state = 'revoked' AND NEW.state <> 'revoked' THEN
        RAISE EXCEPTION 'a revoked credential stays revoked, it does not become %', NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'connections_revoked_is_final';
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION slotwire.check_connection_step FROM PUBLIC;
CREATE TRIGGER connections_step BEFORE INSERT OR UPDATE ON slotwire.connections
    FOR EACH ROW EXECUTE FUNCTION slotwire.check_connection_step();

-- Calendly refused a credential: its connection becomes revoked, and the event that says so is accepted, both or
-- neither. Answers the event's position; null where nothing was changed, because the credential was replaced or revoked
-- meanwhile. An event of ours that goes with a change of state is let in like this, never beside it.
CREATE FUNCTION slotwire.revoke_connection(
    p_connection uuid,
    p_credential uuid,
    p_reason text,
    p_now timestamptz,
    p_event slotwire.accepting
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
BEGIN
    UPDATE slotwire.connections c SET state = 'revoked', reason = p_reason, checked_at = p_now, changed_at = p_now
    FROM slotwire.organizations o
    WHERE c.id = p_connection AND c.credential_id = p_credential AND c.org = p_event.org AND c.state <> 'revoked'
      AND o.org = c.org
    RETURNING o.shard INTO v_shard;
    RETURN CASE WHEN FOUND THEN (slotwire.accept(v_shard, p_now, NULL, ARRAY[p_event])).last END;
END
$$;
REVOKE ALL ON FUNCTION slotwire.revoke_connection FROM PUBLIC;

-- What shall be subscribed to, by scope: the subscription manager makes it so. `subject` is the user's or
-- group's URI; empty for the organization.
CREATE TABLE slotwire.wanted_subscriptions (
    org text NOT NULL REFERENCES slotwire.organizations (org),
    scope text NOT NULL CONSTRAINT wanted_scope CHECK (scope IN ('organization', 'user', 'group')),
    subject text NOT NULL,
    events text[] NOT NULL CONSTRAINT wanted_some_events CHECK (cardinality(events) > 0),
    max_age_seconds integer CONSTRAINT wanted_max_age CHECK (max_age_seconds > 0),
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (org, scope, subject),
    CONSTRAINT wanted_subject CHECK ((scope = 'organization') = (subject = ''))
);
ALTER TABLE slotwire.subscriptions ADD COLUMN subject text NOT NULL DEFAULT '';

-- Who changed what. Rows are added and read; nothing changes or removes them. A change has two: one before
-- anything is done, and one that says how it ended.
CREATE TABLE slotwire.audit (
    id uuid PRIMARY KEY, -- in order of time
    begun uuid CONSTRAINT audit_one_end UNIQUE REFERENCES slotwire.audit (id), -- of an end: its beginning
    at timestamptz NOT NULL,
    actor text NOT NULL, -- 'command line', 'control', or the id of a key
    role text NOT NULL,
    org text, -- null: all of them, or none
    action text NOT NULL, -- noun.verb
    target text, -- the id of what it was done to
    result text NOT NULL CONSTRAINT audit_result CHECK (result IN ('started', 'done', 'refused', 'failed')),
    code text, -- of the refusal or failure
    times integer NOT NULL DEFAULT 1, -- how many refusals of one key this row stands for, past those with a row each
    CONSTRAINT audit_code CHECK ((result IN ('refused', 'failed')) = (code IS NOT NULL)),
    CONSTRAINT audit_times CHECK (times = 1 OR (times > 1 AND result = 'refused')),
    CONSTRAINT audit_start CHECK (result <> 'started' OR begun IS NULL)
);
CREATE INDEX audit_org ON slotwire.audit (org, id);
CREATE INDEX audit_action ON slotwire.audit (action, id);
CREATE INDEX audit_actor ON slotwire.audit (actor, id);
CREATE INDEX audit_org_action ON slotwire.audit (org, action, id);
CREATE INDEX audit_org_actor ON slotwire.audit (org, actor, id);
CREATE INDEX audit_actor_action ON slotwire.audit (actor, action, id);

-- Remove rows older than so many days, ends before their beginnings, at most so many at once, and count them. By the
-- server's own clock too, and never the last 30 days: whoever took over the one that calls it cannot remove its traces.
CREATE FUNCTION slotwire.prune_audit(p_now timestamptz, p_days integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before CONSTANT timestamptz := least(p_now, clock_timestamp()) - make_interval(days => p_days);
    v_rows bigint;
BEGIN
    IF p_days < 30 THEN
        RAISE EXCEPTION 'the audit is kept for 30 days at least, not %', p_days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    DELETE FROM slotwire.audit WHERE id = ANY (ARRAY(
        SELECT a.id FROM slotwire.audit a
        WHERE a.at < v_before AND NOT EXISTS (SELECT FROM slotwire.audit e WHERE e.begun = a.id)
        ORDER BY a.id LIMIT p_limit));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;
REVOKE ALL ON FUNCTION slotwire.prune_audit FROM PUBLIC;

-- The answer to a request that came with an Idempotency-Key, for a repetition of it. Sealed: it may show a key.
CREATE TABLE slotwire.idempotent_answers (
    key_id uuid NOT NULL REFERENCES slotwire.api_keys (id),
    idempotency_key text NOT NULL CONSTRAINT idempotent_key_short CHECK (length(idempotency_key) <= 200),
    claim uuid NOT NULL, -- of the request that runs or ran: who was taken for dead cannot answer any more
    fingerprint bytea NOT NULL, -- of method, path and body
    created_at timestamptz NOT NULL,
    status smallint, -- null while the first request runs
    sealed bytea,
    PRIMARY KEY (key_id, idempotency_key),
    CONSTRAINT idempotent_answer_whole CHECK ((status IS NULL) = (sealed IS NULL))
);
CREATE INDEX idempotent_answers_age ON slotwire.idempotent_answers (created_at);

-- How many webhooks each organization had in an hour, counted from deliveries up to a place in each shard: what a
-- silence is compared with. It holds hours and numbers, and nobody's data.
CREATE TABLE slotwire.activity (
    org text NOT NULL,
    hour timestamptz NOT NULL,
    deliveries integer NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (org, hour)
);
CREATE TABLE slotwire.activity_places (
    shard smallint PRIMARY KEY,
    position bigint NOT NULL
);
-- Which of several `slotwire control` reads for everybody's metrics, and until when.
CREATE TABLE slotwire.observer (
    singleton boolean PRIMARY KEY DEFAULT true CONSTRAINT observer_is_one CHECK (singleton),
    holder uuid NOT NULL,
    until timestamptz NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON slotwire.activity, slotwire.activity_places, slotwire.observer TO {control};
GRANT SELECT ON slotwire.connections, slotwire.wanted_subscriptions, slotwire.audit, slotwire.idempotent_answers
    TO {control};
GRANT INSERT, UPDATE, DELETE ON slotwire.connections, slotwire.wanted_subscriptions, slotwire.idempotent_answers
    TO {control};
GRANT INSERT ON slotwire.audit TO {control};
GRANT EXECUTE ON FUNCTION slotwire.prune_audit TO {control};
GRANT EXECUTE ON FUNCTION slotwire.revoke_connection TO {control};
GRANT UPDATE ON slotwire.signing_keys TO {control}; -- sealed anew when the vault's key is rotated
