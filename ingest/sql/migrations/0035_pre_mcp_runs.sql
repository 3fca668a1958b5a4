-- Tokens of the MCP server for runs of handlers: each is for one chain of bookings, and ends with its run.

ALTER TABLE slotwire.mcp_agents ADD COLUMN runs_of text; -- the agent whose handlers' runs may get tokens; null: none
GRANT INSERT (runs_of) ON slotwire.mcp_agents TO {control};

-- What a run of a handler was given. Nobody reads or writes it but through the functions below.
CREATE TABLE slotwire.mcp_run_tokens (
    hash bytea PRIMARY KEY CONSTRAINT mcp_run_tokens_hash CHECK (octet_length(hash) = 32),
    run uuid NOT NULL, -- one run of a handler, which may get several
    agent uuid NOT NULL REFERENCES slotwire.mcp_agents (id),
    handler text NOT NULL, -- the agent whose handler runs
    event_id uuid NOT NULL, -- what it handles
    org text NOT NULL,
    user_uri text NOT NULL,
    chain text NOT NULL, -- the only chain of bookings that it reaches
    until timestamptz NOT NULL, -- moves on while the run's process works on it
    expires_at timestamptz NOT NULL
);
CREATE INDEX mcp_run_tokens_run ON slotwire.mcp_run_tokens (run);
CREATE INDEX mcp_run_tokens_until ON slotwire.mcp_run_tokens (until);

-- Give a run a token, with the run's grant: for the booking that its event is about, as the first of the meeting's hosts
-- who is connected, for the agent of MCP that is for runs of this agent. Nothing where there is none of these, or the
-- event is settled.
CREATE FUNCTION slotwire.give_mcp_run(
    p_hash bytea, p_grant bytea, p_run uuid, p_use uuid, p_now timestamptz
) RETURNS TABLE (name text, expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM slotwire.mcp_run_tokens WHERE hash IN (
        SELECT o.hash FROM slotwire.mcp_run_tokens o WHERE o.until <= p_now ORDER BY o.until LIMIT 100);
    RETURN QUERY
    WITH found AS (
        SELECT a.id, a.name, g.agent AS handler, g.event_id, g.org, u.user_uri, b.chain_key, b.invitee
        FROM slotwire.call_grants g
        JOIN slotwire.bookings b ON b.org = g.org AND b.invitee = g.invitee
        JOIN slotwire.mcp_agents a ON a.runs_of = g.agent AND g.org = ANY (a.orgs) AND a.revoked_at IS NULL
        CROSS JOIN LATERAL unnest(b.hosts) WITH ORDINALITY AS h (uri, place)
        CROSS JOIN LATERAL slotwire.mcp_users_of(a.id, h.uri, 1) AS u
        WHERE g.hash = p_grant AND g.expires_at > p_now AND u.org = g.org
          AND NOT EXISTS (SELECT FROM slotwire.inbox i WHERE i.agent = g.agent AND i.event_id = g.event_id)
        ORDER BY a.created_at, a.id, h.place LIMIT 1
    ), given AS (
        INSERT INTO slotwire.mcp_run_tokens AS t
        SELECT p_hash, p_run, f.id, f.handler, f.event_id, f.org, f.user_uri, f.chain_key,
               p_now + interval '15 seconds', p_now + interval '15 minutes'
        FROM found f RETURNING t.expires_at
    ), noted AS (
        INSERT INTO slotwire.uses (id, at, user_uri, org, action, target, actor, agent, event, result)
        SELECT p_use, p_now, f.user_uri, f.org, 'mcp.token', f.invitee, 'agent ' || f.handler || ' ' || f.event_id,
               f.name, f.event_id, 'done'
        FROM found f
    )
    SELECT f.name, n.expires_at FROM found f, given n;
END
$$;
REVOKE ALL ON FUNCTION slotwire.give_mcp_run FROM PUBLIC;

-- Say that a run goes on: whether its tokens are still good. One that has ended stays so.
CREATE FUNCTION slotwire.keep_mcp_run(p_run uuid, p_now timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE slotwire.mcp_run_tokens t SET until = p_now + interval '15 seconds'
    WHERE t.run = p_run AND t.until > p_now AND t.expires_at > p_now;
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION slotwire.keep_mcp_run FROM PUBLIC;

-- End a run's tokens.
CREATE FUNCTION slotwire.end_mcp_run(p_run uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM slotwire.mcp_run_tokens WHERE run = p_run
$$;
REVOKE ALL ON FUNCTION slotwire.end_mcp_run FROM PUBLIC;

-- Whom the token of a run acts for: nobody once the run or its process has ended, the event is settled, or the agent does
-- not have the user any more.
CREATE FUNCTION slotwire.mcp_run_of(p_hash bytea, p_now timestamptz) RETURNS TABLE (
    agent uuid, name text, organization text, user_uri text, tools text[], event_types text[], profile text, chain text,
    expires_at timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.agent, u.name, u.organization, u.user_uri, u.tools, u.event_types, u.profile, t.chain, t.expires_at
    FROM slotwire.mcp_run_tokens t CROSS JOIN LATERAL slotwire.mcp_users_of(t.agent, t.user_uri, 1) AS u
    WHERE t.hash = p_hash AND t.until > p_now AND t.expires_at > p_now AND u.org = t.org
      AND NOT EXISTS (SELECT FROM slotwire.inbox i WHERE i.agent = t.handler AND i.event_id = t.event_id)
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_run_of FROM PUBLIC;

GRANT EXECUTE ON FUNCTION slotwire.give_mcp_run, slotwire.keep_mcp_run, slotwire.end_mcp_run TO {agents};
GRANT EXECUTE ON FUNCTION slotwire.mcp_run_of TO {mcp};
