-- Events of the moments of scheduled events: how far each was told, and how it goes on.
CREATE TABLE slotwire.meetings_told (
    kind text PRIMARY KEY CONSTRAINT meetings_told_kind CHECK (kind IN ('starting', 'started', 'ended')),
    begun_at timestamptz NOT NULL, -- none that came before then is told
    reached timestamptz NOT NULL, -- those that came until then were told or passed over
    reached_key text NOT NULL, -- of those at just that time: up to this booking
    looked_at timestamptz NOT NULL -- bookings that changed before then have none that was overlooked
);
GRANT SELECT, INSERT, DELETE ON slotwire.meetings_told TO {control};

-- Active bookings whose scheduled events start, or end, in a span of time, behind one of them, in their order. Where a
-- time is given, those that changed since then.
CREATE FUNCTION slotwire.meetings_of_span(
    p_end boolean, p_after timestamptz, p_behind text, p_behind_org text, p_until timestamptz, p_changed timestamptz,
    p_most integer
) RETURNS TABLE (
    org text, organization text, served_since timestamptz, invitee text, scheduled_event text, start_time timestamptz,
    end_time timestamptz, booked_at timestamptz, hosts text[], location_type text
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- The caller's own plans are for lists.
SET enable_bitmapscan = on SET enable_sort = on AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT b.org, o.uri, o.created_at, b.invitee, b.scheduled_event, b.start_time, b.end_time, b.booked_at, b.hosts,
                b.location_type
         FROM slotwire.bookings b JOIN slotwire.organizations o ON o.org = b.org AND o.ended_at IS NULL
         WHERE b.state = ''active'' AND (b.%1$I, b.invitee, b.org) > ($1, $2, $3) AND b.%1$I <= $4
           AND ($5 IS NULL OR b.changed_at >= $5)
           AND b.scheduled_event IS NOT NULL AND b.start_time IS NOT NULL AND b.end_time IS NOT NULL
         ORDER BY b.%1$I, b.invitee, b.org LIMIT $6',
        CASE WHEN p_end THEN 'end_time' ELSE 'start_time' END)
    USING p_after, p_behind, p_behind_org, p_until, p_changed, p_most;
END
$$;
REVOKE ALL ON FUNCTION slotwire.meetings_of_span FROM PUBLIC;

-- Move a moment on, with the events of those that have come, in one transaction: they come in by the door. Answers the
-- shards that have grown; null, and nothing is done, where the moment is not where it was read.
CREATE FUNCTION slotwire.tell_meetings(
    p_kind text, p_was timestamptz, p_was_key text, p_was_looked timestamptz, p_to timestamptz, p_to_key text,
    p_looked timestamptz, p_now timestamptz, p_rows slotwire.accepting[]
) RETURNS smallint[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
    v_grown smallint[] := '{}';
BEGIN
    UPDATE slotwire.meetings_told SET reached = p_to, reached_key = p_to_key, looked_at = p_looked
    WHERE kind = p_kind AND reached = p_was AND reached_key = p_was_key AND looked_at = p_was_looked;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    FOR v_shard IN
        SELECT DISTINCT o.shard FROM unnest(p_rows) AS r JOIN slotwire.organizations o ON o.org = r.org ORDER BY 1
    LOOP
        PERFORM slotwire.accept(v_shard, p_now, NULL, array(
            SELECT r::slotwire.accepting FROM unnest(p_rows) AS r JOIN slotwire.organizations o ON o.org = r.org
            WHERE o.shard = v_shard));
        v_grown := v_grown || v_shard;
    END LOOP;
    RETURN v_grown;
END
$$;
REVOKE ALL ON FUNCTION slotwire.tell_meetings FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.meetings_of_span, slotwire.tell_meetings TO {control};
