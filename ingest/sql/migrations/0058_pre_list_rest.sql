-- squawk-ignore-file require-concurrent-index-creation
-- These tables have a row for each hole, erasure, approval, setting or event type: their indexes are built in a moment.

CREATE INDEX holes_open ON slotwire.holes (noticed_at, id) WHERE state <> 'closed';
CREATE INDEX holes_due ON slotwire.holes (due_at, noticed_at, id) WHERE state <> 'closed';
CREATE INDEX erasures_open ON slotwire.erasures (asked_at) WHERE state = 'open';
CREATE INDEX erasures_done ON slotwire.erasures (done_at) WHERE state = 'done';
CREATE INDEX approvals_org ON slotwire.approvals (org, asked_at, id);
CREATE INDEX approvals_agent ON slotwire.approvals (agent, asked_at, id);
CREATE INDEX approvals_state ON slotwire.approvals (state, asked_at, id);
CREATE INDEX agent_settings_org ON slotwire.agent_settings (org, id);
CREATE INDEX agent_settings_agent ON slotwire.agent_settings (agent, id);
CREATE INDEX availability_unpublished ON slotwire.availability (org) WHERE version > published;

-- The index over the inbox's times is of blocks, and the caller's own plans, which are for lists, use none of these.
ALTER FUNCTION slotwire.prune(timestamptz, text, integer, integer) SET enable_bitmapscan = on;

-- The same as in 0002; what is younger is not looked through: ids are in the order of time, and begin with it.
CREATE OR REPLACE FUNCTION slotwire.prune_audit(p_now timestamptz, p_days integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before CONSTANT timestamptz := least(p_now, clock_timestamp()) - make_interval(days => p_days);
    v_end CONSTANT uuid := slotwire.first_use_of((v_before AT TIME ZONE 'UTC')::date + 2);
    v_rows bigint;
BEGIN
    IF p_days < 30 THEN
        RAISE EXCEPTION 'the audit is kept for 30 days at least, not %', p_days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    DELETE FROM slotwire.audit WHERE id = ANY (ARRAY(
        SELECT a.id FROM slotwire.audit a
        WHERE a.id < v_end AND a.at < v_before AND NOT EXISTS (SELECT FROM slotwire.audit e WHERE e.begun = a.id)
        ORDER BY a.id LIMIT p_limit));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;
REVOKE ALL ON FUNCTION slotwire.prune_audit FROM PUBLIC;
