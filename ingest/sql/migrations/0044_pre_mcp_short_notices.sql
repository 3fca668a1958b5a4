-- A notice has a limit, and a revocation must not fail for it: of what is too long to be told, a part is.
CREATE OR REPLACE FUNCTION slotwire.tell_mcp() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('slotwire_mcp', 'access ' || left(CASE TG_TABLE_NAME
        WHEN 'mcp_agents' THEN to_jsonb(OLD) ->> 'id'
        WHEN 'connections' THEN to_jsonb(OLD) ->> 'user_uri'
        ELSE to_jsonb(OLD) ->> 'org' END, 1900));
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION slotwire.tell_mcp FROM PUBLIC;
