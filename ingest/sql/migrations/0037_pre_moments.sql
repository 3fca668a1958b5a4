-- When the process of an agent that fires was last there; null: a process of an earlier version.
ALTER TABLE slotwire.agent_firers ADD COLUMN seen_at timestamptz;

-- How some bookings are now: what their moments ask before they run, many at once.
CREATE FUNCTION slotwire.bookings_now(p_orgs text[], p_invitees text[])
RETURNS TABLE (org text, invitee text, state text, start_time timestamptz, end_time timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.* FROM unnest(p_orgs, p_invitees) AS w (org, invitee)
    CROSS JOIN LATERAL (
        SELECT f.org, f.invitee, f.state, f.start_time, f.end_time FROM slotwire.bookings f
        WHERE f.invitee = w.invitee AND f.org = w.org OFFSET 0 -- by the key of each, however many they are
    ) AS b
$$;
REVOKE ALL ON FUNCTION slotwire.bookings_now FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.bookings_now TO {agents};
