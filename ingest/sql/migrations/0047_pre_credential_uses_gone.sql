-- The audit of credential uses is in `uses`, by days. No release has written to the table before it; rows that a version
-- in between has left there are kept, in their days or among the rest.
INSERT INTO slotwire.uses SELECT * FROM slotwire.credential_uses;

-- Remove what is in no partition of a day: rows of days that were not made.
CREATE OR REPLACE FUNCTION slotwire.prune_uses(p_now timestamptz, p_days integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before CONSTANT timestamptz := least(p_now, clock_timestamp()) - make_interval(days => p_days);
    v_rows bigint;
BEGIN
    IF p_days < 30 THEN
        RAISE EXCEPTION 'the audit is kept for 30 days at least, not %', p_days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- In the order of ids: all before the oldest that stays are old, and a few that are out of order wait for it.
    DELETE FROM slotwire.uses_rest WHERE id IN (
        SELECT u.id FROM (SELECT o.id, o.at FROM slotwire.uses_rest o ORDER BY o.id LIMIT p_limit) AS u
        WHERE u.at < v_before);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;
REVOKE ALL ON FUNCTION slotwire.prune_uses FROM PUBLIC;

-- squawk-ignore ban-drop-table
DROP TABLE slotwire.credential_uses;
