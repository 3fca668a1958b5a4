-- squawk-ignore-file require-concurrent-index-creation
-- The table has a row for each subscription of an agent of another host: its indexes are built in a moment.

CREATE INDEX mcp_subscriptions_created ON slotwire.mcp_subscriptions (created_at, id);
CREATE INDEX mcp_subscriptions_org ON slotwire.mcp_subscriptions (org, created_at, id);
CREATE INDEX mcp_subscriptions_agent ON slotwire.mcp_subscriptions (agent, created_at, id);
-- A delivery that goes well changes neither of the two.
CREATE INDEX mcp_subscriptions_troubled ON slotwire.mcp_subscriptions (created_at, id)
    WHERE NOT active OR last_error IS NOT NULL;

-- The same as in 0042; planned anew each time, since each mixture of what is asked for has an index of its own.
CREATE OR REPLACE FUNCTION slotwire.mcp_subscriptions_seen(
    p_id text, p_org text, p_agent uuid, p_state text, p_now timestamptz, p_after_time timestamptz, p_after text,
    p_limit integer
) RETURNS TABLE (
    id text, agent uuid, agent_name text, org text, user_uri text, event_type text, arguments text, host text,
    profile text, state text, "position" bigint, waiting_since timestamptz, gap boolean, tries smallint,
    next_try_at timestamptz, last_delivery_at timestamptz, last_error text, failed_since timestamptz,
    created_at timestamptz, expires_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_sort = on AS $$
BEGIN
    RETURN QUERY
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
          AND (coalesce(p_state, '') NOT IN ('suspended', 'failing') OR NOT o.active OR o.last_error IS NOT NULL)
          AND (p_state IS DISTINCT FROM 'ended' OR o.expires_at <= p_now)
          AND (p_after IS NULL OR (o.created_at, o.id) > (p_after_time, p_after))
        ORDER BY o.created_at, o.id LIMIT p_limit
    ) AS s
    LEFT JOIN slotwire.mcp_agents a ON a.id = s.agent
    LEFT JOIN LATERAL (
        SELECT e.recorded_at FROM slotwire.events e JOIN slotwire.relay_mirror m ON m.shard = e.shard
        WHERE e.org = s.org AND e.type = s.name AND e.position > s.position AND e.position <= m.position
        ORDER BY e.position LIMIT 1
    ) AS w ON true
    ORDER BY s.created_at, s.id;
END
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_subscriptions_seen FROM PUBLIC;

-- The same as in 0029; actions that are over are not looked through.
CREATE OR REPLACE FUNCTION slotwire.mcp_health(p_org text, p_user text, p_now timestamptz) RETURNS jsonb
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
                  WHERE a.org = p_org AND a.state IN ('person', 'not_seen', 'open', 'not_sent') AND a.user_uri = p_user
                    AND (a.state IN ('person', 'not_seen') OR (a.state IN ('open', 'not_sent')
                                                              AND a.intended_at < p_now - interval '5 minutes'))
                  ORDER BY a.intended_at LIMIT 20) AS a), '[]'))
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_health FROM PUBLIC;
