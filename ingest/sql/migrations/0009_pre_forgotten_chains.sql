-- What agents remember, and what they were granted (0014), goes with an organization or with one of its chains. The body is
-- read when it is first called.
CREATE FUNCTION slotwire.forget_chains(p_org text, p_key text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_forgotten bigint;
BEGIN
    IF p_key IS NULL THEN
        DELETE FROM slotwire.call_grants WHERE org = p_org;
    END IF;
    DELETE FROM slotwire.agent_state WHERE org = p_org AND (p_key IS NULL OR key = p_key);
    GET DIAGNOSTICS v_forgotten = ROW_COUNT;
    RETURN v_forgotten;
END
$$;
REVOKE ALL ON FUNCTION slotwire.forget_chains FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.forget_chains TO {control};
