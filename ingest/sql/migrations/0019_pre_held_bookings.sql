-- Say how many seconds a user has no turn to book; 0 where there is one. None is taken. The limits are bookings within
-- so many seconds, as of `take_booking_turn`.
CREATE FUNCTION slotwire.booking_wait(
    p_user text,
    p_now double precision,
    p_calls integer[],
    p_seconds double precision[]
) RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT greatest(0, t.blocked_until - greatest(t.at, p_now), (
            SELECT max(t.times[cardinality(t.times) - l.calls + 1] + l.seconds - greatest(t.at, p_now))
            FROM unnest(p_calls, p_seconds) AS l (calls, seconds) WHERE cardinality(t.times) >= l.calls))
        FROM slotwire.booking_turns t WHERE t.user_uri = p_user), 0)
$$;
REVOKE ALL ON FUNCTION slotwire.booking_wait FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.booking_wait TO {control};
