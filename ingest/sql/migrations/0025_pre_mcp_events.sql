-- MCP Events: what agents of other hosts are subscribed to, and how they read what is published.

-- A webhook subscription of an agent acting for a user. Its id is made of agent, user, url, name and arguments. Whoever
-- has its slot delivers to it; the position moves by comparing and setting, so two who believe they have it lose nothing.
CREATE TABLE slotwire.mcp_subscriptions (
    id text PRIMARY KEY CONSTRAINT mcp_subscriptions_id CHECK (id ~ '^[0-9a-f]{32}$'),
    slot smallint NOT NULL CONSTRAINT mcp_subscriptions_slot CHECK (slot BETWEEN 0 AND 63),
    agent uuid NOT NULL,
    user_uri text NOT NULL CONSTRAINT mcp_subscriptions_user_short CHECK (length(user_uri) <= 2000),
    org text NOT NULL,
    shard smallint NOT NULL,
    name text NOT NULL, -- the type of its events
    arguments text NOT NULL CONSTRAINT mcp_subscriptions_arguments_short CHECK (length(arguments) <= 8000),
    url text NOT NULL CONSTRAINT mcp_subscriptions_url_short CHECK (length(url) <= 2000),
    profile text NOT NULL,
    secret bytea NOT NULL, -- sealed by the key of `slotwire mcp`
    old_secret bytea, -- signs too, until its time is over
    old_secret_until timestamptz,
    position bigint NOT NULL, -- everything up to here is acknowledged or given up
    seen_at timestamptz, -- when nothing was published after the position; null where that is not known
    gap_from bigint, -- where it was when something was given up that its client has not been told of
    gap_told bigint, -- the position that an answer named when it told
    active boolean NOT NULL DEFAULT true, -- false: nothing is sent before the next refresh
    given_up smallint NOT NULL DEFAULT 0, -- events in a row
    tries smallint NOT NULL DEFAULT 0, -- of what comes next
    next_try_at timestamptz,
    last_delivery_at timestamptz,
    last_error text,
    failed_since timestamptz,
    version bigint NOT NULL, -- grows with each refresh, and over an end
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT mcp_subscriptions_old_secret CHECK ((old_secret IS NULL) = (old_secret_until IS NULL))
);
CREATE INDEX mcp_subscriptions_slot ON slotwire.mcp_subscriptions (slot, id);
CREATE INDEX mcp_subscriptions_changed ON slotwire.mcp_subscriptions (changed_at);
CREATE INDEX mcp_subscriptions_owner ON slotwire.mcp_subscriptions (agent, user_uri);
CREATE INDEX mcp_subscriptions_expires ON slotwire.mcp_subscriptions (expires_at);

-- Addresses that have answered a challenge, each for whom it did.
CREATE TABLE slotwire.mcp_endpoints (
    agent uuid NOT NULL,
    user_uri text NOT NULL,
    url text NOT NULL,
    verified_at timestamptz NOT NULL,
    PRIMARY KEY (agent, user_uri, url)
);
CREATE INDEX mcp_endpoints_verified ON slotwire.mcp_endpoints (verified_at);

-- Challenges that were sent lately: their number is limited for each agent and user, and for each host.
CREATE TABLE slotwire.mcp_challenges (
    agent uuid NOT NULL,
    user_uri text NOT NULL,
    host text NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX mcp_challenges_owner ON slotwire.mcp_challenges (agent, user_uri, at);
CREATE INDEX mcp_challenges_host ON slotwire.mcp_challenges (host, at);
CREATE INDEX mcp_challenges_at ON slotwire.mcp_challenges (at);

GRANT SELECT, INSERT, UPDATE, DELETE ON slotwire.mcp_subscriptions, slotwire.mcp_endpoints, slotwire.mcp_challenges TO {mcp};

-- How far each shard is published, and whether that is all there is.
CREATE FUNCTION slotwire.mcp_heads() RETURNS TABLE (log_id uuid, shard smallint, "position" bigint, complete boolean)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.log_id, s.shard::smallint, coalesce(m.position, 0), coalesce(m.position, 0) >= h.last_event
    FROM slotwire.log l
    CROSS JOIN generate_series(0, l.shards - 1) AS s (shard)
    LEFT JOIN slotwire.relay_mirror m ON m.shard = s.shard AND m.log_id = l.log_id
    CROSS JOIN LATERAL (
        SELECT o.last_event FROM slotwire.heads o WHERE o.shard = s.shard ORDER BY o.version DESC LIMIT 1
    ) AS h
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_heads FROM PUBLIC;

-- From which position on all events are kept, and since when those were written.
CREATE FUNCTION slotwire.mcp_kept(p_now timestamptz) RETURNS TABLE ("position" bigint, since timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.first::bigint * 1000000000,
           (((l.created_at AT TIME ZONE 'UTC')::date + r.first)::timestamp AT TIME ZONE 'UTC')
    FROM slotwire.log l
    CROSS JOIN (SELECT coalesce(min(o.range), 0) AS first FROM slotwire.ranges_of('events', p_now) AS o) AS r
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_kept FROM PUBLIC;

-- An organization of the log: its shard, and whether a connected user of it sees all of it, as its owners and admins
-- do, or what it hosts. No row: the user is not connected.
CREATE FUNCTION slotwire.mcp_sight(p_org text, p_user text) RETURNS TABLE (shard smallint, whole boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.shard, coalesce(c.role IN ('owner', 'admin'), false)
    FROM slotwire.organizations o JOIN slotwire.connections c ON c.org = o.org
    WHERE o.org = p_org AND c.user_uri = p_user AND c.state <> 'revoked'
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_sight FROM PUBLIC;

-- What is published after a position: of everybody, or of one type of one organization. At most so many events and about
-- so many bytes, at least one. An event that tells only what has moved comes with the booking it is about: what its
-- invitee booked, and who hosts it.
CREATE FUNCTION slotwire.mcp_published(
    p_shard smallint, p_org text, p_type text, p_after bigint, p_upto bigint, p_limit integer, p_bytes bigint
) RETURNS TABLE (
    "position" bigint, event_id uuid, type text, org text, subject text, key text, "time" timestamptz,
    recorded_at timestamptz, origin text, data bytea, booked bytea, hosts text[]
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_upto CONSTANT bigint := least(p_upto, (
        SELECT m.position FROM slotwire.relay_mirror m JOIN slotwire.log l ON l.log_id = m.log_id
        WHERE m.shard = p_shard));
BEGIN
    RETURN QUERY
    SELECT e.position, e.event_id, e.type, e.org, e.subject, e.key, e.time, e.recorded_at, e.origin, e.data, c.data,
           b.hosts
    FROM (
        SELECT n.*, sum(length(n.data)) OVER (ORDER BY n.position) - length(n.data) AS before
        FROM (
            SELECT o.* FROM slotwire.events o
            WHERE p_org IS NULL AND o.shard = p_shard AND o.position > p_after AND o.position <= v_upto
            UNION ALL
            SELECT o.* FROM slotwire.events o
            WHERE o.org = p_org AND o.type = p_type AND o.position > p_after AND o.position <= v_upto
            ORDER BY position LIMIT p_limit
        ) AS n
    ) AS e
    LEFT JOIN LATERAL (
        SELECT o.data FROM slotwire.events o
        WHERE e.type = 'io.slotwire.invitee.rescheduled.v1' AND o.subject = e.subject AND o.org = e.org
          AND o.type = 'com.calendly.invitee.created.v1'
        ORDER BY o.position DESC LIMIT 1
    ) AS c ON true
    LEFT JOIN slotwire.bookings b
        ON e.type = 'io.slotwire.invitee.rescheduled.v1' AND b.invitee = e.subject AND b.org = e.org
    WHERE e.before < p_bytes
    ORDER BY e.position;
END
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_published FROM PUBLIC;

GRANT EXECUTE ON FUNCTION slotwire.mcp_heads, slotwire.mcp_kept, slotwire.mcp_sight, slotwire.mcp_published TO {mcp};
