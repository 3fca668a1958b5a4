-- Webhook subscriptions of MCP Events: what was sent is audited many at a time, and a revocation is told to every process.

-- What was sent to webhooks, into the audit of uses: many at a time, in the same commit as the places that move.
CREATE FUNCTION slotwire.note_mcp_deliveries(
    p_now timestamptz, p_ids uuid[], p_subscriptions text[], p_targets text[], p_codes text[]
) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH noted AS (
        INSERT INTO slotwire.uses (id, at, user_uri, org, action, target, actor, agent, result, code)
        SELECT n.id, p_now, s.user_uri, s.org, 'mcp.events.deliver', n.target, 'mcp ' || a.name, a.name,
               CASE WHEN n.code IS NULL THEN 'done' ELSE 'failed' END, n.code
        FROM unnest(p_ids, p_subscriptions, p_targets, p_codes) AS n (id, subscription, target, code)
        JOIN slotwire.mcp_subscriptions s ON s.id = n.subscription
        JOIN slotwire.mcp_agents a ON a.id = s.agent
        RETURNING 1
    )
    SELECT count(*) FROM noted
$$;
REVOKE ALL ON FUNCTION slotwire.note_mcp_deliveries FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.note_mcp_deliveries TO {mcp};

-- Tell every `slotwire mcp serve` that somebody has less than before: an agent's id, a user's URI or an organization. It
-- then asks anew before it sends anything more. A process that does not hear it asks within half a second.
CREATE FUNCTION slotwire.tell_mcp() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('slotwire_mcp', 'access ' || CASE TG_TABLE_NAME
        WHEN 'mcp_agents' THEN to_jsonb(OLD) ->> 'id'
        WHEN 'connections' THEN to_jsonb(OLD) ->> 'user_uri'
        ELSE to_jsonb(OLD) ->> 'org' END);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION slotwire.tell_mcp FROM PUBLIC;
CREATE TRIGGER mcp_agents_tell AFTER UPDATE OF revoked_at ON slotwire.mcp_agents
    FOR EACH ROW WHEN (OLD.revoked_at IS DISTINCT FROM NEW.revoked_at) EXECUTE FUNCTION slotwire.tell_mcp();
CREATE TRIGGER connections_tell AFTER UPDATE OF state, role ON slotwire.connections
    FOR EACH ROW WHEN ((OLD.state, OLD.role) IS DISTINCT FROM (NEW.state, NEW.role)) EXECUTE FUNCTION slotwire.tell_mcp();
CREATE TRIGGER connections_tell_end AFTER DELETE ON slotwire.connections
    FOR EACH ROW EXECUTE FUNCTION slotwire.tell_mcp();
CREATE TRIGGER organizations_tell AFTER UPDATE OF ended_at ON slotwire.organizations
    FOR EACH ROW WHEN (OLD.ended_at IS DISTINCT FROM NEW.ended_at) EXECUTE FUNCTION slotwire.tell_mcp();
