-- What agents may read of an organization's bookings: through functions that answer for one organization.

-- The position of an organization's newest event.
CREATE FUNCTION slotwire.last_event_of(p_org text) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.last_event FROM slotwire.organizations o JOIN slotwire.heads h ON h.shard = o.shard
    WHERE o.org = p_org ORDER BY h.version DESC LIMIT 1
$$;
REVOKE ALL ON FUNCTION slotwire.last_event_of FROM PUBLIC;

-- What an invitee told when they booked, as the log has it: null where it is not there any more, or longer than 64 KiB.
CREATE FUNCTION slotwire.booked_with(p_org text, p_invitee text) RETURNS bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN octet_length(e.data) <= 65536 THEN e.data END
    FROM slotwire.events e
    WHERE e.subject = p_invitee AND e.org = p_org AND e.type = 'com.calendly.invitee.created.v1'
    ORDER BY e.position DESC LIMIT 1
$$;
REVOKE ALL ON FUNCTION slotwire.booked_with FROM PUBLIC;

-- The active bookings whose meetings start in a stretch of time, by their start; of one host where p_host is one.
CREATE FUNCTION slotwire.bookings_between(
    p_org text, p_from timestamptz, p_to timestamptz, p_host text, p_most integer
) RETURNS TABLE (
    invitee text, scheduled_event text, start_time timestamptz, end_time timestamptz, hosts text[], location_type text,
    no_show boolean, data bytea
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.invitee, b.scheduled_event, b.start_time, b.end_time, b.hosts, b.location_type,
        jsonb_path_exists(b.marks, '$[*] ? (@.cleared_at == null)'), slotwire.booked_with(b.org, b.invitee)
    FROM slotwire.bookings b
    WHERE b.org = p_org AND b.state = 'active' AND b.start_time >= p_from AND b.start_time < p_to
      AND (p_host IS NULL OR p_host = ANY (b.hosts))
    ORDER BY b.start_time, b.scheduled_event, b.invitee
    LIMIT p_most
$$;
REVOKE ALL ON FUNCTION slotwire.bookings_between FROM PUBLIC;

-- What happened to bookings after one place in the log and up to another, in its order. What was fetched when the
-- organization was connected is no news, unless it happened at p_since or later; without a place (p_after null) what was
-- recorded at p_since or later is read. Data of more than 64 KiB is left out; `booked` is told of a move only.
CREATE FUNCTION slotwire.booking_changes(
    p_org text, p_after bigint, p_until bigint, p_since timestamptz, p_host text, p_most integer
) RETURNS TABLE ("position" bigint, type text, subject text, start_time timestamptz, data bytea, booked bytea)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_after CONSTANT bigint := coalesce(p_after, (
        -- The range of positions of the day before, so that older ones are not looked through.
        SELECT greatest(0, (p_since AT TIME ZONE 'UTC')::date - (l.created_at AT TIME ZONE 'UTC')::date - 1)::bigint
               * 1000000000
        FROM slotwire.log l));
BEGIN
    RETURN QUERY
    SELECT e.position, e.type, e.subject, b.start_time, CASE WHEN octet_length(e.data) <= 65536 THEN e.data END,
        CASE WHEN e.type = 'io.slotwire.invitee.rescheduled.v1' THEN slotwire.booked_with(e.org, e.subject) END
    FROM slotwire.events e
    LEFT JOIN slotwire.bookings b ON b.invitee = e.subject AND b.org = e.org
    WHERE e.org = p_org AND e.position > v_after AND e.position <= p_until
      AND e.type IN ('com.calendly.invitee.created.v1', 'com.calendly.invitee.canceled.v1',
                     'com.calendly.invitee_no_show.created.v1', 'com.calendly.invitee_no_show.deleted.v1',
                     'io.slotwire.invitee.rescheduled.v1')
      AND (e.origin <> 'backfill' OR e.time >= p_since) AND (p_after IS NOT NULL OR e.recorded_at >= p_since)
      AND (p_host IS NULL OR p_host = ANY (b.hosts))
    ORDER BY e.position
    LIMIT p_most;
END
$$;
REVOKE ALL ON FUNCTION slotwire.booking_changes FROM PUBLIC;

-- What of an organization waits for a person: numbers and times, nobody's data.
CREATE FUNCTION slotwire.attention_of(p_org text, p_now timestamptz)
RETURNS TABLE (kind text, number bigint, since timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT found.kind, found.number, found.since FROM (
        SELECT 'subscriptions' AS kind, count(*) AS number, min(s.lost_at) AS since FROM slotwire.subscriptions s
        WHERE s.org = p_org AND s.lost_at IS NOT NULL AND s.restored_by IS NULL
        UNION ALL
        SELECT 'connections', count(*), min(c.changed_at) FROM slotwire.connections c
        WHERE c.org = p_org AND c.state IN ('needs_reauth', 'revoked', 'error') AND c.reason <> 'disconnected'
        UNION ALL
        SELECT 'expiring', count(*), min(c.changed_at) FROM slotwire.connections c
        WHERE c.org = p_org AND c.state = 'expiring'
        UNION ALL
        SELECT 'holes', count(*), min(h.noticed_at) FROM slotwire.holes h
        WHERE h.org = p_org AND h.state <> 'closed' AND h.noticed_at < p_now - interval '1 hour'
        UNION ALL
        SELECT 'quarantine', count(*), min(q.created_at) FROM slotwire.quarantine q
        WHERE q.org = p_org AND q.state = 'waiting'
        UNION ALL
        SELECT 'dead_letters', count(*), min(d.at) FROM slotwire.dead_letters d
        WHERE d.org = p_org AND d.state = 'open'
        UNION ALL
        SELECT 'runs', count(*), min(r.changed_at) FROM slotwire.runs r
        WHERE r.org = p_org AND r.state IN ('parked', 'unknown', 'diverged')
        UNION ALL
        SELECT 'approvals', count(*), min(a.asked_at) FROM slotwire.approvals a
        WHERE a.org = p_org AND a.state = 'open' AND a.expires_at > p_now
        UNION ALL
        SELECT 'actions', count(*), min(a.settled_at) FROM slotwire.actions a
        WHERE a.org = p_org AND a.state = 'person'
    ) AS found
    WHERE found.number > 0
$$;
REVOKE ALL ON FUNCTION slotwire.attention_of FROM PUBLIC;

GRANT EXECUTE ON FUNCTION slotwire.last_event_of, slotwire.bookings_between, slotwire.booking_changes,
    slotwire.booked_with, slotwire.attention_of TO {agents};
