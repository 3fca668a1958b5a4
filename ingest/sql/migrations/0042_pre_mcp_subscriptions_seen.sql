-- Operators see and end webhook subscriptions of MCP Events.

-- Subscriptions as operators see them: no secret, and of the address its host alone. `waiting_since` is when the first
-- event after its place came in that may be for it, of what is published.
CREATE FUNCTION slotwire.mcp_subscriptions_seen(
    p_id text, p_org text, p_agent uuid, p_state text, p_now timestamptz, p_after_time timestamptz, p_after text,
    p_limit integer
) RETURNS TABLE (
    id text, agent uuid, agent_name text, org text, user_uri text, event_type text, arguments text, host text,
    profile text, state text, "position" bigint, waiting_since timestamptz, gap boolean, tries smallint,
    next_try_at timestamptz, last_delivery_at timestamptz, last_error text, failed_since timestamptz,
    created_at timestamptz, expires_at timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.id, s.agent, a.name, s.org, s.user_uri, s.name, s.arguments,
           lower(substring(s.url FROM '^[A-Za-z]+://(\[[^]/?#]*\]|[^:/?#]*)')), s.profile, s.state, s.position,
           w.recorded_at, s.gap_from IS NOT NULL, s.tries, s.next_try_at, s.last_delivery_at, s.last_error,
           s.failed_since, s.created_at, s.expires_at
    FROM (
        SELECT o.*, v.state FROM slotwire.mcp_subscriptions o
        CROSS JOIN LATERAL (SELECT CASE
            WHEN o.expires_at <= p_now THEN 'ended' WHEN NOT o.active THEN 'suspended'
            WHEN o.last_error IS NOT NULL THEN 'failing' ELSE 'active' END) AS v (state)
        WHERE (p_id IS NULL OR o.id = p_id) AND (p_org IS NULL OR o.org = p_org) AND (p_agent IS NULL OR o.agent = p_agent)
          AND (p_state IS NULL OR v.state = p_state)
          AND (p_after IS NULL OR (o.created_at, o.id) > (p_after_time, p_after))
        ORDER BY o.created_at, o.id LIMIT p_limit
    ) AS s
    LEFT JOIN slotwire.mcp_agents a ON a.id = s.agent
    LEFT JOIN LATERAL (
        SELECT e.recorded_at FROM slotwire.events e JOIN slotwire.relay_mirror m ON m.shard = e.shard
        WHERE e.org = s.org AND e.type = s.name AND e.position > s.position AND e.position <= m.position
        ORDER BY e.position LIMIT 1
    ) AS w ON true
    ORDER BY s.created_at, s.id
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_subscriptions_seen FROM PUBLIC;

-- End a subscription, and tell the process that delivers it. Answers whose it was; no row: there is none within reach.
CREATE FUNCTION slotwire.end_mcp_subscription(p_id text, p_org text) RETURNS TABLE (org text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH ended AS (
        DELETE FROM slotwire.mcp_subscriptions s WHERE s.id = p_id AND (p_org IS NULL OR s.org = p_org) RETURNING s.org
    )
    SELECT e.org FROM ended e CROSS JOIN LATERAL (SELECT pg_notify('slotwire_mcp', 'ended ' || p_id)) AS told
$$;
REVOKE ALL ON FUNCTION slotwire.end_mcp_subscription FROM PUBLIC;

-- Subscriptions that do not come on: suspended, failing for long, or with an event waiting for long and nobody at it. Those
-- that have been so the longest come first; `stuck` counts all.
CREATE FUNCTION slotwire.mcp_subscriptions_stuck(p_now timestamptz, p_since timestamptz, p_limit integer)
RETURNS TABLE (id text, org text, agent_name text, host text, why text, since timestamptz, stuck bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.id, s.org, s.agent_name, s.host,
           CASE WHEN s.state IN ('suspended', 'failing') THEN s.last_error ELSE 'not delivered' END,
           coalesce(s.failed_since, s.waiting_since), count(*) OVER ()
    FROM slotwire.mcp_subscriptions_seen(NULL, NULL, NULL, NULL, p_now, NULL, NULL, NULL) AS s
    WHERE s.state <> 'ended'
      AND (s.state = 'suspended' OR (s.state = 'failing' AND s.failed_since <= p_since)
           OR (s.state = 'active' AND s.waiting_since <= p_since))
    ORDER BY 6 NULLS LAST, s.id LIMIT p_limit
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_subscriptions_stuck FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    slotwire.mcp_subscriptions_seen, slotwire.end_mcp_subscription, slotwire.mcp_subscriptions_stuck TO {control};
