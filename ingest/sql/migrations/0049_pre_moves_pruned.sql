-- Remove actions that were settled more than so many days ago, and what the writer knew of reschedules by actions that are
-- gone: at most so many of each at once, and count both. What is open, or with a person, stays.
CREATE OR REPLACE FUNCTION slotwire.prune_actions(p_now timestamptz, p_days integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before CONSTANT timestamptz := p_now - make_interval(days => p_days);
    v_actions bigint;
    v_moves bigint;
BEGIN
    IF p_days < 30 THEN -- a caller may repeat a key so long
        RAISE EXCEPTION 'actions are kept for 30 days at least, not %', p_days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    DELETE FROM slotwire.actions WHERE id = ANY (ARRAY(
        SELECT id FROM slotwire.actions WHERE settled_at < v_before AND state <> 'person' LIMIT p_limit));
    GET DIAGNOSTICS v_actions = ROW_COUNT;
    DELETE FROM slotwire.moves WHERE action_id = ANY (ARRAY(
        SELECT m.action_id FROM slotwire.moves m
        WHERE m.since < v_before AND NOT EXISTS (SELECT FROM slotwire.actions a WHERE a.id = m.action_id)
        LIMIT p_limit));
    GET DIAGNOSTICS v_moves = ROW_COUNT;
    RETURN v_actions + v_moves;
END
$$;
REVOKE ALL ON FUNCTION slotwire.prune_actions FROM PUBLIC;
