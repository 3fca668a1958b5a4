-- What an agent's author reads through functions: a past event, a booking with its chain; and an agent's own state.

-- One event of the log with its context.
CREATE FUNCTION slotwire.event_of(p_event uuid) RETURNS TABLE (
    "position" bigint, type text, org text, subject text, key text, "time" timestamptz, recorded_at timestamptz,
    origin text, inferred boolean, traceparent text, tenant text, data bytea
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.position, e.type, e.org, e.subject, e.key, e.time, e.recorded_at, e.origin, e.inferred, e.traceparent,
        e.tenant, e.data
    FROM slotwire.identities i
    JOIN slotwire.events e ON e.shard = i.shard AND e.position = i.position
    WHERE i.event_id = p_event
$$;
REVOKE ALL ON FUNCTION slotwire.event_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.event_of TO {agents};

-- A booking and the others of its chain, the oldest first.
CREATE FUNCTION slotwire.chain_of(p_org text, p_invitee text, p_most integer) RETURNS TABLE (
    invitee text, state text, provider_status text, no_show boolean, scheduled_event text, start_time timestamptz,
    end_time timestamptz, hosts text[], location_type text, old_invitee text, new_invitee text, booked_at timestamptz,
    revision integer
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.invitee, b.state, b.provider_status,
        jsonb_path_exists(b.marks, '$[*] ? (@.cleared_at == null)'),
        b.scheduled_event, b.start_time, b.end_time, b.hosts, b.location_type, b.old_invitee, b.new_invitee,
        b.booked_at, b.revision
    FROM slotwire.bookings b
    WHERE b.org = p_org
      AND b.chain_root = (SELECT o.chain_root FROM slotwire.bookings o WHERE o.invitee = p_invitee AND o.org = p_org)
    ORDER BY b.booked_at NULLS FIRST, b.start_time NULLS FIRST, b.invitee
    LIMIT p_most
$$;
REVOKE ALL ON FUNCTION slotwire.chain_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.chain_of TO {agents};

-- What an agent remembers of a chain: written in the transaction that marks an event as done.
CREATE TABLE slotwire.agent_state (
    agent text NOT NULL,
    org text NOT NULL,
    key text NOT NULL, -- of the chain's records
    value text NOT NULL CONSTRAINT agent_state_small CHECK (octet_length(value) <= 65536), -- JSON, as it was written
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (agent, org, key)
);
CREATE INDEX agent_state_chain ON slotwire.agent_state (org, key);
GRANT SELECT, INSERT, UPDATE, DELETE ON slotwire.agent_state TO {agents};

-- What an agent may ask Calendly for an event that it handles, through `slotwire control`: organization, user and meeting
-- come from the log, not from who asks. Only a hash of the grant is kept.
CREATE TABLE slotwire.call_grants (
    hash bytea PRIMARY KEY CONSTRAINT call_grants_hash CHECK (octet_length(hash) = 32),
    agent text NOT NULL CONSTRAINT call_grants_agent_short CHECK (length(agent) <= 63),
    event_id uuid NOT NULL,
    org text NOT NULL,
    user_uri text, -- the meeting's first host; null where the event is about no booking
    scheduled_event text,
    event_type text,
    invitee text,
    made_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX call_grants_expire ON slotwire.call_grants (expires_at);
GRANT SELECT, DELETE ON slotwire.call_grants TO {control};

-- Grant an agent the calls for an event. Answers whether the log has the event.
CREATE FUNCTION slotwire.grant_calls(p_hash bytea, p_agent text, p_event uuid, p_now timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO slotwire.call_grants
    SELECT p_hash, p_agent, p_event, e.org, b.hosts[1], b.scheduled_event,
        convert_from(e.data, 'UTF8')::json -> 'scheduled_event' ->> 'event_type', b.invitee, p_now,
        p_now + interval '15 minutes'
    FROM slotwire.identities i
    JOIN slotwire.events e ON e.shard = i.shard AND e.position = i.position
    LEFT JOIN slotwire.bookings b ON b.invitee = e.subject AND b.org = e.org
    WHERE i.event_id = p_event;
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION slotwire.grant_calls FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.grant_calls TO {agents};
