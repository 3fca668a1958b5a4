-- Scheduled work of agents: what each has, up to when it has fired, and which process fires. A firing waits in
-- slotwire.agent_queue like a record, in a partition that no topic has.
CREATE TABLE slotwire.agent_schedules (
    agent text NOT NULL CONSTRAINT agent_schedules_agent_short CHECK (length(agent) <= 63),
    schedule text NOT NULL CONSTRAINT agent_schedules_name_short CHECK (length(schedule) <= 63),
    kind text NOT NULL
        CONSTRAINT agent_schedules_kind CHECK (kind IN ('clock', 'before_start', 'after_start', 'after_end')),
    times text NOT NULL CONSTRAINT agent_schedules_times_short CHECK (length(times) <= 500), -- in words
    away_seconds double precision, -- of a moment of bookings, from the meeting's start or end; before it: negative
    missed text NOT NULL CONSTRAINT agent_schedules_missed CHECK (missed IN ('catch_up', 'skip')),
    declared boolean NOT NULL, -- by the code that runs
    begun_at timestamptz NOT NULL, -- nothing that was due before then fires
    reached timestamptz NOT NULL, -- what was due until then has fired or was passed over
    reached_key text NOT NULL, -- of what was due at just that time: up to this organization or invitee
    looked_at timestamptz NOT NULL, -- bookings that changed before then have no moment that was overlooked
    next_at timestamptz, -- of the clock
    fired bigint NOT NULL DEFAULT 0,
    fired_due timestamptz, -- when the last one that fired was due
    passed bigint NOT NULL DEFAULT 0, -- missed, and not done late
    passed_due timestamptz, -- when the last one of these was due
    PRIMARY KEY (agent, schedule),
    CONSTRAINT agent_schedules_away CHECK ((kind = 'clock') = (away_seconds IS NULL))
);
-- One process of an agent fires, and moves the beat. Another one begins when it has seen the same beat for long enough.
CREATE TABLE slotwire.agent_firers (
    agent text PRIMARY KEY,
    owner uuid, -- null: it has left
    beat bigint NOT NULL DEFAULT 0,
    next_offset bigint NOT NULL DEFAULT 0 -- of its firings in the queue
);
GRANT SELECT, INSERT, UPDATE ON slotwire.agent_schedules, slotwire.agent_firers TO {agents};
GRANT SELECT ON slotwire.agent_schedules, slotwire.agent_firers TO {control};

-- The organizations that there were at a time and that were not removed since, behind one, in their order.
CREATE FUNCTION slotwire.organizations_served(p_at timestamptz, p_behind text, p_most integer)
RETURNS TABLE (org text, tenant text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.org, o.external_id FROM slotwire.organizations o
    WHERE o.org > p_behind AND o.created_at <= p_at AND o.ended_at IS NULL
    ORDER BY o.org LIMIT p_most
$$;
REVOKE ALL ON FUNCTION slotwire.organizations_served FROM PUBLIC;

-- Active bookings whose meeting starts, or ends, in a span of time, behind one of them, in their order. Where a time is
-- given, those that changed since then.
CREATE FUNCTION slotwire.meetings_between(
    p_end boolean, p_after timestamptz, p_behind text, p_behind_org text, p_until timestamptz, p_changed timestamptz,
    p_most integer
) RETURNS TABLE (
    org text, tenant text, served_since timestamptz, invitee text, chain_key text, scheduled_event text,
    start_time timestamptz, end_time timestamptz, booked_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Planned anew each time, since a span of a second and one of days want different ways.
    RETURN QUERY EXECUTE format(
        'SELECT b.org, o.external_id, o.created_at, b.invitee, b.chain_key, b.scheduled_event, b.start_time, b.end_time,
                b.booked_at
         FROM slotwire.bookings b JOIN slotwire.organizations o ON o.org = b.org AND o.ended_at IS NULL
         WHERE b.state = ''active'' AND (b.%1$I, b.invitee, b.org) > ($1, $2, $3) AND b.%1$I <= $4
           AND ($5 IS NULL OR b.changed_at >= $5)
           AND b.scheduled_event IS NOT NULL AND b.start_time IS NOT NULL AND b.end_time IS NOT NULL
         ORDER BY b.%1$I, b.invitee, b.org LIMIT $6',
        CASE WHEN p_end THEN 'end_time' ELSE 'start_time' END)
    USING p_after, p_behind, p_behind_org, p_until, p_changed, p_most;
END
$$;
REVOKE ALL ON FUNCTION slotwire.meetings_between FROM PUBLIC;

-- Grant an agent the calls for a firing that waits or runs. That of a moment is for its meeting and the host; that of the
-- clock for a user of its organization who is connected. Answers whether there are such a firing and user.
CREATE FUNCTION slotwire.grant_firing_calls(
    p_hash bytea, p_agent text, p_firing uuid, p_user text, p_now timestamptz
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO slotwire.call_grants
    SELECT p_hash, p_agent, p_firing, o.org, coalesce(b.hosts[1], c.user_uri), b.scheduled_event, (
            SELECT convert_from(e.data, 'UTF8')::json -> 'scheduled_event' ->> 'event_type'
            FROM slotwire.events e
            WHERE e.subject = b.invitee AND e.org = b.org AND e.type = 'com.calendly.invitee.created.v1'
            ORDER BY e.position LIMIT 1
        ), b.invitee, p_now, p_now + interval '15 minutes'
    FROM (
        SELECT d.organization, coalesce(d.invitee, d.schedule) AS subject
        FROM slotwire.agent_queue q,
            json_to_record(convert_from(q.value, 'UTF8')::json) AS d (organization text, invitee text, schedule text)
        WHERE q.agent = p_agent AND q.event_id = p_firing AND q.topic LIKE '%slotwire.firings'
        UNION
        SELECT r.org, r.subject FROM slotwire.runs r
        WHERE r.agent = p_agent AND r.event_id = p_firing AND r.topic LIKE '%slotwire.firings'
        LIMIT 1
    ) f
    JOIN slotwire.organizations o ON o.org = f.organization AND o.ended_at IS NULL
    LEFT JOIN slotwire.bookings b ON b.invitee = f.subject AND b.org = f.organization
    LEFT JOIN slotwire.connections c ON c.org = f.organization AND c.user_uri = p_user
    WHERE p_user IS NULL OR (c.user_uri IS NOT NULL AND b.invitee IS NULL);
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION slotwire.grant_firing_calls FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.organizations_served, slotwire.meetings_between, slotwire.grant_firing_calls
    TO {agents};
