-- Forget what the runs of some dead letters have done so far, before they are driven again: their handlers then begin
-- with nothing, and steps that ended run once more. Counts the journals that are gone.
CREATE FUNCTION slotwire.drop_journals(p_ids uuid[], p_org text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_gone bigint;
BEGIN
    DELETE FROM slotwire.runs r USING slotwire.dead_letters d
    WHERE d.id = ANY (p_ids) AND (p_org IS NULL OR d.org = p_org) AND d.state IN ('open', 'discarded')
      AND r.agent = d.agent AND r.event_id = d.event_id AND r.state = 'given_up';
    GET DIAGNOSTICS v_gone = ROW_COUNT;
    RETURN v_gone;
END
$$;
REVOKE ALL ON FUNCTION slotwire.drop_journals FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.drop_journals TO {control};
