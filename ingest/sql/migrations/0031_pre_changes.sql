-- Changes of scheduled events that Calendly does not tell: upcoming meetings are listed now and then, and compared with
-- what was last known of them.

-- How far the sweep of an organization is. A claim has an epoch, which every statement about it compares.
CREATE TABLE slotwire.change_sweeps (
    org text PRIMARY KEY REFERENCES slotwire.organizations (org),
    epoch bigint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL, -- when it begins or goes on; of a claimed one, when the claim ends
    began_at timestamptz, -- of the sweep that is under way; null between two
    reached timestamptz, -- meetings that start before are compared
    until timestamptz, -- it lists meetings that start up to then
    ended_at timestamptz, -- when the last whole one ended
    meetings integer NOT NULL DEFAULT 0, -- of the one under way, or the last: meetings compared, calls, changes told
    calls integer NOT NULL DEFAULT 0,
    changes integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0, -- failures in a row
    problem text CONSTRAINT change_sweeps_problem_short CHECK (length(problem) <= 100),
    CONSTRAINT change_sweeps_under_way
        CHECK ((began_at IS NULL) = (reached IS NULL) AND (began_at IS NULL) = (until IS NULL))
);
CREATE INDEX change_sweeps_due ON slotwire.change_sweeps (due_at);

-- What was last known of upcoming meetings. A row goes when its meeting has started, is canceled or gone.
CREATE TABLE slotwire.upcoming_meetings (
    org text NOT NULL REFERENCES slotwire.organizations (org),
    scheduled_event text NOT NULL CONSTRAINT upcoming_meetings_short CHECK (length(scheduled_event) <= 2000),
    start_time timestamptz NOT NULL,
    told jsonb NOT NULL CONSTRAINT upcoming_meetings_told_short CHECK (octet_length(told::text) <= 1048576),
    changes integer NOT NULL DEFAULT 0, -- that were told of it
    PRIMARY KEY (org, scheduled_event)
);
CREATE INDEX upcoming_meetings_start ON slotwire.upcoming_meetings (org, start_time);

-- A sweep has come further: what is known of meetings from now on, and the events about what has changed, all or nothing.
-- Answers whether the claim still held.
CREATE FUNCTION slotwire.tell_changes(
    p_org text,
    p_epoch bigint,
    p_now timestamptz,
    p_due timestamptz, -- the claim holds until then
    p_reached timestamptz,
    p_meetings jsonb, -- [{scheduled_event, start_time, told, changes}]
    p_gone text[],
    p_calls integer,
    p_events slotwire.accepting[]
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
BEGIN
    IF EXISTS (SELECT FROM unnest(p_events) AS e WHERE e.org <> p_org) THEN
        RAISE EXCEPTION 'an event is of another organization' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE slotwire.change_sweeps s SET
        due_at = p_due, reached = p_reached, meetings = s.meetings + jsonb_array_length(p_meetings),
        calls = s.calls + p_calls, changes = s.changes + cardinality(p_events)
    FROM slotwire.organizations o
    WHERE s.org = p_org AND s.epoch = p_epoch AND s.began_at IS NOT NULL AND o.org = s.org RETURNING o.shard INTO v_shard;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM slotwire.upcoming_meetings m WHERE m.org = p_org AND m.scheduled_event = ANY (p_gone);
    INSERT INTO slotwire.upcoming_meetings AS m (org, scheduled_event, start_time, told, changes)
    SELECT p_org, r.scheduled_event, r.start_time, r.told, r.changes
    FROM jsonb_to_recordset(p_meetings) AS r (scheduled_event text, start_time timestamptz, told jsonb, changes integer)
    ON CONFLICT (org, scheduled_event) DO UPDATE
        SET start_time = excluded.start_time, told = excluded.told, changes = excluded.changes
        WHERE (m.start_time, m.told, m.changes) IS DISTINCT FROM (excluded.start_time, excluded.told, excluded.changes);
    IF cardinality(p_events) > 0 THEN
        PERFORM slotwire.accept(v_shard, p_now, NULL, p_events);
    END IF;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION slotwire.tell_changes FROM PUBLIC;

GRANT SELECT, INSERT, UPDATE, DELETE ON slotwire.change_sweeps TO {control};
GRANT SELECT, DELETE ON slotwire.upcoming_meetings TO {control};
GRANT EXECUTE ON FUNCTION slotwire.tell_changes TO {control};
