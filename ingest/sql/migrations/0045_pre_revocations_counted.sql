-- A revocation counts as a change, as every other change of state does: whoever has read the connection before it stores
-- nothing by what it was, but reads it again, and so tells that it works again.
CREATE OR REPLACE FUNCTION slotwire.revoke_connection(
    p_connection uuid,
    p_credential uuid,
    p_reason text,
    p_now timestamptz,
    p_event slotwire.accepting
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
BEGIN
    UPDATE slotwire.connections c SET
        state = 'revoked', reason = p_reason, checked_at = p_now, changed_at = p_now, changes = c.changes + 1
    FROM slotwire.organizations o
    WHERE c.id = p_connection AND c.credential_id = p_credential AND c.org = p_event.org AND c.state <> 'revoked'
      AND o.org = c.org
    RETURNING o.shard INTO v_shard;
    RETURN CASE WHEN FOUND THEN (slotwire.accept(v_shard, p_now, NULL, ARRAY[p_event])).last END;
END
$$;
REVOKE ALL ON FUNCTION slotwire.revoke_connection FROM PUBLIC;
