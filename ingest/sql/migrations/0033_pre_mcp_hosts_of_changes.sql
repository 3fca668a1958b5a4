-- Who hosts a meeting sees that it has changed, also where its hosts are not what has.

-- What is published after a position: of everybody, or of one type of one organization. At most so many events and about
-- so many bytes, at least one. An event that tells only what has moved comes with the booking it is about: what its
-- invitee booked, and who hosts it; one about a change of a meeting with who hosts that, as far as it is known.
CREATE OR REPLACE FUNCTION slotwire.mcp_published(
    p_shard smallint, p_org text, p_type text, p_after bigint, p_upto bigint, p_limit integer, p_bytes bigint
) RETURNS TABLE (
    "position" bigint, event_id uuid, type text, org text, subject text, key text, "time" timestamptz,
    recorded_at timestamptz, origin text, data bytea, booked bytea, hosts text[]
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_upto CONSTANT bigint := least(p_upto, (
        SELECT m.position FROM slotwire.relay_mirror m JOIN slotwire.log l ON l.log_id = m.log_id
        WHERE m.shard = p_shard));
BEGIN
    RETURN QUERY
    SELECT e.position, e.event_id, e.type, e.org, e.subject, e.key, e.time, e.recorded_at, e.origin, e.data, c.data,
           coalesce(b.hosts, u.hosts)
    FROM (
        SELECT n.*, sum(length(n.data)) OVER (ORDER BY n.position) - length(n.data) AS before
        FROM (
            SELECT o.* FROM slotwire.events o
            WHERE p_org IS NULL AND o.shard = p_shard AND o.position > p_after AND o.position <= v_upto
            UNION ALL
            SELECT o.* FROM slotwire.events o
            WHERE o.org = p_org AND o.type = p_type AND o.position > p_after AND o.position <= v_upto
            ORDER BY position LIMIT p_limit
        ) AS n
    ) AS e
    LEFT JOIN LATERAL (
        SELECT o.data FROM slotwire.events o
        WHERE e.type = 'io.slotwire.invitee.rescheduled.v1' AND o.subject = e.subject AND o.org = e.org
          AND o.type = 'com.calendly.invitee.created.v1'
        ORDER BY o.position DESC LIMIT 1
    ) AS c ON true
    LEFT JOIN slotwire.bookings b
        ON e.type = 'io.slotwire.invitee.rescheduled.v1' AND b.invitee = e.subject AND b.org = e.org
    LEFT JOIN LATERAL (
        SELECT ARRAY(SELECT jsonb_array_elements_text(m.told -> 'hosts')) AS hosts FROM slotwire.upcoming_meetings m
        WHERE e.type = 'io.slotwire.scheduled_event.changed.v1' AND m.org = e.org AND m.scheduled_event = e.subject
          AND jsonb_typeof(m.told -> 'hosts') = 'array'
    ) AS u ON true
    WHERE e.before < p_bytes
    ORDER BY e.position;
END
$$;
REVOKE ALL ON FUNCTION slotwire.mcp_published FROM PUBLIC;
