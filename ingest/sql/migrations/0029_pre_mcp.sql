-- Agents that reach Slotwire by the Model Context Protocol: what each was given, grants for single calls to Calendly, and
-- what they read. `slotwire mcp serve` reads and writes through these functions alone; `slotwire control` registers.

CREATE TABLE slotwire.mcp_agents (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE CONSTRAINT mcp_agents_name CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    hash bytea NOT NULL UNIQUE CONSTRAINT mcp_agents_hash CHECK (octet_length(hash) = 32), -- of its secret
    orgs text[] NOT NULL CONSTRAINT mcp_agents_orgs CHECK (cardinality(orgs) BETWEEN 1 AND 100),
    -- The only organization whose operators may manage it; null where only those of all may.
    org text GENERATED ALWAYS AS (CASE WHEN cardinality(orgs) = 1 THEN orgs[1] END) STORED,
    -- URIs of the users it may act for; empty: every connected user of these organizations.
    users text[] NOT NULL CONSTRAINT mcp_agents_users CHECK (cardinality(users) <= 1000),
    tools text[] NOT NULL CONSTRAINT mcp_agents_tools CHECK (cardinality(tools) <= 200),
    event_types text[] NOT NULL CONSTRAINT mcp_agents_types CHECK (cardinality(event_types) <= 100),
    profile text NOT NULL DEFAULT 'draft' -- how its host speaks MCP Events
        CONSTRAINT mcp_agents_profile CHECK (profile IN ('draft', 'chatgpt', 'final')),
    label text NOT NULL CONSTRAINT mcp_agents_label_short CHECK (length(label) <= 200),
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX mcp_agents_created ON slotwire.mcp_agents (created_at, id);
CREATE INDEX mcp_agents_org ON slotwire.mcp_agents (org, created_at, id);
GRANT SELECT ON slotwire.mcp_agents TO {control};
GRANT INSERT (id, name, hash, orgs, users, tools, event_types, profile, label, created_at) ON slotwire.mcp_agents TO {control};
GRANT UPDATE (revoked_at) ON slotwire.mcp_agents TO {control};

-- What an agent may have done at Calendly: one tool, as one user, for a moment. Only a hash of the grant is kept.
CREATE TABLE slotwire.mcp_grants (
    hash bytea PRIMARY KEY CONSTRAINT mcp_grants_hash CHECK (octet_length(hash) = 32),
    agent uuid NOT NULL REFERENCES slotwire.mcp_agents (id),
    org text NOT NULL,
    user_uri text NOT NULL,
    tool text NOT NULL,
    chain text, -- the only chain of bookings that the call may be about; null for all of the user's
    call uuid NOT NULL,
    made_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX mcp_grants_expire ON slotwire.mcp_grants (expires_at);
GRANT SELECT, DELETE ON slotwire.mcp_grants TO {control};

-- The agent that has a secret, and note its use, to the minute.
CREATE FUNCTION slotwire.mcp_agent_of(p_hash bytea, p_now timestamptz) RETURNS TABLE (agent uuid, name text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE slotwire.mcp_agents a SET last_used_at = p_now
    WHERE a.hash = p_hash AND a.revoked_at IS NULL
      AND (a.last_used_at IS NULL OR a.last_used_at <= p_now - interval '1 minute');
    RETURN QUERY SELECT a.id, a.name FROM slotwire.mcp_agents a WHERE a.hash = p_hash AND a.revoked_at IS NULL;
END
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_agent_of FROM PUBLIC;

-- The connected users that an agent may act for, at most so many, or one of them.
CREATE FUNCTION slotwire.mcp_users_of(p_agent uuid, p_user text, p_most integer)
RETURNS TABLE (name text, org text, organization text, user_uri text, tools text[], event_types text[], profile text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.name, o.org, o.uri, c.user_uri, a.tools, a.event_types, a.profile
    FROM slotwire.mcp_agents a
    JOIN slotwire.organizations o ON o.org = ANY (a.orgs) AND o.ended_at IS NULL
    JOIN slotwire.connections c ON c.org = o.org AND c.state <> 'revoked'
    WHERE a.id = p_agent AND a.revoked_at IS NULL
      AND (p_user IS NULL OR c.user_uri = p_user)
      AND (a.users = '{}' OR c.user_uri = ANY (a.users))
    ORDER BY c.created_at, c.id LIMIT p_most
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_users_of FROM PUBLIC;

-- Grant an agent one call. Answers whether it has the user and the tool.
CREATE FUNCTION slotwire.grant_mcp_call(
    p_hash bytea, p_agent uuid, p_user text, p_tool text, p_chain text, p_call uuid, p_now timestamptz
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO slotwire.mcp_grants
    SELECT p_hash, p_agent, u.org, u.user_uri, p_tool, p_chain, p_call, p_now, p_now + interval '2 minutes'
    FROM slotwire.mcp_users_of(p_agent, p_user, 1) AS u
    WHERE p_tool = ANY (u.tools);
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION slotwire.grant_mcp_call FROM PUBLIC;

-- A call of a tool, into the audit of uses: by which agent, for which user, about what, and what came of it.
CREATE FUNCTION slotwire.note_mcp_use(
    p_id uuid, p_now timestamptz, p_agent uuid, p_user text, p_tool text, p_target text, p_result text, p_code text
) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO slotwire.uses (id, at, user_uri, org, action, target, actor, agent, result, code)
    SELECT p_id, p_now, p_user, (SELECT c.org FROM slotwire.connections c WHERE c.org = ANY (a.orgs) AND c.user_uri = p_user
                                 ORDER BY c.created_at LIMIT 1),
           'mcp.' || p_tool, p_target, 'mcp ' || a.name, a.name,
           CASE WHEN p_result IN ('done', 'refused') THEN p_result ELSE 'failed' END, p_code
    FROM slotwire.mcp_agents a WHERE a.id = p_agent
$$;
REVOKE ALL ON FUNCTION slotwire.note_mcp_use FROM PUBLIC;

-- One booking, as tools show it.
CREATE FUNCTION slotwire.mcp_booking(b slotwire.bookings) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'invitee', b.invitee, 'scheduled_event', b.scheduled_event, 'state', b.state, 'start_time', b.start_time,
        'end_time', b.end_time, 'hosts', to_jsonb(b.hosts), 'location_type', b.location_type, 'booked_at', b.booked_at,
        'no_show', jsonb_path_exists(b.marks, '$[*] ? (@.cleared_at == null)'),
        'rescheduled_from', b.old_invitee, 'rescheduled_to', b.new_invitee, 'chain', b.chain_key)
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_booking FROM PUBLIC;

-- Bookings that a user hosts, by invitee URI, after one: looks at so many at most, and says where it stopped.
CREATE FUNCTION slotwire.mcp_bookings(
    p_org text, p_user text, p_chain text, p_state text, p_after text, p_look integer,
    OUT found jsonb, OUT looked bigint, OUT last text
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH seen AS (
        SELECT b AS booking, b.invitee, b.hosts, b.chain_key FROM slotwire.bookings b
        WHERE b.org = p_org AND b.state = p_state AND b.invitee > p_after
        ORDER BY b.org, b.state, b.invitee LIMIT p_look
    )
    SELECT coalesce(jsonb_agg(slotwire.mcp_booking(s.booking) ORDER BY s.invitee)
                    FILTER (WHERE p_user = ANY (s.hosts) AND (p_chain IS NULL OR s.chain_key = p_chain)), '[]'),
           count(*), max(s.invitee)
    FROM seen AS s
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_bookings FROM PUBLIC;

-- The bookings of the chain that an invitee or a scheduled event belongs to, where the user hosts it: the oldest first.
CREATE FUNCTION slotwire.mcp_chain(p_org text, p_user text, p_chain text, p_what text, p_most integer) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT slotwire.mcp_booking(b) FROM slotwire.bookings b
    WHERE b.org = p_org AND p_user = ANY (b.hosts) AND (p_chain IS NULL OR b.chain_key = p_chain)
      AND b.chain_root = (SELECT o.chain_root FROM slotwire.bookings o
                          WHERE o.org = p_org AND o.invitee = p_what AND p_user = ANY (o.hosts))
    ORDER BY b.booked_at NULLS FIRST, b.start_time NULLS FIRST, b.invitee LIMIT p_most
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_chain FROM PUBLIC;

-- Whether an invitee, or a meeting by its URI, belongs to a chain of bookings that a user hosts. An invitee's URI begins
-- with that of the meeting.
CREATE FUNCTION slotwire.mcp_in_chain(p_org text, p_user text, p_chain text, p_uri text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM slotwire.bookings b
        WHERE b.org = p_org AND b.chain_key = p_chain AND p_user = ANY (b.hosts)
          AND (b.invitee = p_uri OR (b.invitee > p_uri || '/invitees/' AND b.invitee < p_uri || '/invitees0')))
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_in_chain FROM PUBLIC;

-- The events of some invitees of an organization, the newest first.
CREATE FUNCTION slotwire.mcp_events_of(p_org text, p_invitees text[], p_most integer) RETURNS TABLE (
    event_id uuid, type text, "time" timestamptz, subject text, data bytea
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.event_id, e.type, e.time, e.subject, e.data FROM unnest(p_invitees) AS i (subject)
    CROSS JOIN LATERAL (
        SELECT o.* FROM slotwire.events o WHERE o.subject = i.subject AND o.org = p_org ORDER BY o.position DESC LIMIT p_most
    ) AS e
    ORDER BY e.position DESC LIMIT p_most
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_events_of FROM PUBLIC;

-- How the subscriptions of an organization do, and what waits for a person: as one document.
CREATE FUNCTION slotwire.mcp_health(p_org text, p_user text, p_now timestamptz) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'subscriptions', coalesce((
            SELECT jsonb_agg(jsonb_build_object('id', s.id, 'scope', s.scope, 'events', to_jsonb(s.events),
                                                'state', s.state, 'last_delivery_at', h.last_at) ORDER BY s.created_at)
            FROM slotwire.subscriptions s LEFT JOIN slotwire.hook_activity h ON h.subscription_id = s.id
            WHERE s.org = p_org AND s.state <> 'ended'), '[]'),
        'findings', coalesce((SELECT to_jsonb(w.findings) FROM slotwire.subscription_watch w WHERE w.org = p_org), '[]'),
        'silent', coalesce((SELECT w.silent FROM slotwire.subscription_watch w WHERE w.org = p_org), false),
        'checked_at', (SELECT w.listed_at FROM slotwire.subscription_watch w WHERE w.org = p_org),
        'holes', coalesce((
            SELECT jsonb_agg(jsonb_build_object('id', h.id, 'cause', h.cause, 'since', h.since, 'state', h.state)
                             ORDER BY h.noticed_at)
            FROM (SELECT * FROM slotwire.holes h WHERE h.org = p_org AND h.state <> 'closed'
                  ORDER BY h.noticed_at LIMIT 20) AS h), '[]'),
        'connection', (SELECT jsonb_build_object('state', c.state, 'reason', c.reason, 'expires_at', c.expires_at)
                       FROM slotwire.connections c WHERE c.org = p_org AND c.user_uri = p_user),
        'actions', coalesce((
            SELECT jsonb_agg(jsonb_build_object('id', a.id, 'verb', a.verb, 'state', a.state, 'reason', a.reason,
                                                'target', a.target, 'intended_at', a.intended_at) ORDER BY a.intended_at)
            FROM (SELECT * FROM slotwire.actions a
                  WHERE a.org = p_org AND a.user_uri = p_user
                    AND (a.state IN ('person', 'not_seen') OR (a.state IN ('open', 'not_sent')
                                                              AND a.intended_at < p_now - interval '5 minutes'))
                  ORDER BY a.intended_at LIMIT 20) AS a), '[]'))
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_health FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    slotwire.mcp_agent_of, slotwire.mcp_users_of, slotwire.grant_mcp_call, slotwire.note_mcp_use, slotwire.mcp_bookings,
    slotwire.mcp_chain, slotwire.mcp_events_of, slotwire.mcp_health TO {mcp};
GRANT EXECUTE ON FUNCTION slotwire.mcp_users_of, slotwire.mcp_in_chain TO {control};
