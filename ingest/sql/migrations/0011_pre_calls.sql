-- Calls to Calendly: an audit of every use of a credential, what each connection can do, and the limits of booking.

-- Every use of a customer's credential. Rows are added and read; nothing changes or removes them. A call that changes
-- something has two: one before it is made, and one that says how it ended. A call that reads has one, written within a
-- second of its end; before it there is the lease of its turn, which has an end too once all its calls are written. A
-- beginning without an end: the process ended first, and how its calls went is not known.
CREATE TABLE slotwire.credential_uses (
    id uuid PRIMARY KEY, -- in order of time
    begun uuid, -- of an end: its beginning; of the last call of a lease to be written: the lease
    lease uuid, -- of a call: the lease of its turn; null where it had none
    at timestamptz NOT NULL,
    user_uri text, -- whose credential; null until Calendly has said it
    org text, -- the user's organization; null until it is known
    connection uuid,
    action text NOT NULL, -- the operation's name, or `lease`
    target text, -- the URI of what it was about
    people text[] NOT NULL DEFAULT '{}', -- keyed hashes of the mail addresses that the call named
    actor text, -- on whose behalf: `command line`, `control`, or the id of a key; null of a lease, which is for all
    agent text, -- for which agent
    event uuid, -- for which event
    result text NOT NULL CONSTRAINT uses_result
        CHECK (result IN ('leased', 'ended', 'started', 'done', 'refused', 'failed')),
    status smallint, -- of Calendly's answer
    code text, -- of the refusal or failure
    times integer NOT NULL DEFAULT 1, -- calls that the row stands for: alike, within a second; of a lease its turns
    CONSTRAINT uses_actor CHECK ((action = 'lease') = (actor IS NULL)),
    CONSTRAINT uses_begin CHECK (result NOT IN ('leased', 'started') OR begun IS NULL),
    CONSTRAINT uses_lease CHECK ((action = 'lease') = (result IN ('leased', 'ended'))),
    CONSTRAINT uses_code CHECK ((result IN ('refused', 'failed')) = (code IS NOT NULL)),
    CONSTRAINT uses_short CHECK (length(user_uri) <= 2000 AND length(target) <= 2000 AND cardinality(people) <= 500)
);
CREATE UNIQUE INDEX uses_one_end ON slotwire.credential_uses (begun) WHERE begun IS NOT NULL;
CREATE INDEX uses_org ON slotwire.credential_uses (org, id);
CREATE INDEX uses_user ON slotwire.credential_uses (user_uri, id);
CREATE INDEX uses_actor ON slotwire.credential_uses (actor, id);
CREATE INDEX uses_action ON slotwire.credential_uses (action, id);
CREATE INDEX uses_people ON slotwire.credential_uses USING gin (people) WHERE people <> '{}';

-- Remove rows older than so many days, at most so many at once, and count them. By the server's own clock too, and
-- never the last 30 days: whoever took over the one that calls it cannot remove its traces.
CREATE FUNCTION slotwire.prune_uses(p_now timestamptz, p_days integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before CONSTANT timestamptz := least(p_now, clock_timestamp()) - make_interval(days => p_days);
    v_rows bigint;
BEGIN
    IF p_days < 30 THEN
        RAISE EXCEPTION 'the audit is kept for 30 days at least, not %', p_days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- In the order of ids: all before the oldest that stays are old, and a few that are out of order wait for it.
    DELETE FROM slotwire.credential_uses WHERE id IN (
        SELECT u.id FROM (SELECT o.id, o.at FROM slotwire.credential_uses o ORDER BY o.id LIMIT p_limit) AS u
        WHERE u.at < v_before);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;
REVOKE ALL ON FUNCTION slotwire.prune_uses FROM PUBLIC;

-- What a connection can do at Calendly, as it was last asked.
CREATE TABLE slotwire.connection_capabilities (
    connection uuid PRIMARY KEY REFERENCES slotwire.connections (id) ON DELETE CASCADE,
    probed_at timestamptz NOT NULL,
    plan text, -- of the organization, as Calendly calls it; null where it does not say
    stage text, -- `trial`, `free` or `paid`; null where it does not say
    capabilities jsonb NOT NULL -- by name: whether it can, and if not, why
);

-- When a user booked by the API within the last day, by the budget's time: Calendly limits that apart, by plan.
CREATE TABLE slotwire.booking_turns (
    user_uri text PRIMARY KEY CONSTRAINT booking_turns_user_short CHECK (length(user_uri) <= 2000),
    at double precision NOT NULL, -- the newest time; it only goes forward
    times double precision[] NOT NULL, -- in order; those that no limit counts any more are dropped
    blocked_until double precision NOT NULL DEFAULT 0 -- a 429 to a booking asked to wait until then
) WITH (fillfactor = 50);

-- Take a turn to book, or say how many seconds there is none; 0 is a turn. The limits are calls within so many seconds.
CREATE FUNCTION slotwire.take_booking_turn(
    p_user text,
    p_now double precision,
    p_calls integer[],
    p_seconds double precision[],
    OUT wait double precision
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    b slotwire.booking_turns;
    v_free double precision;
BEGIN
    INSERT INTO slotwire.booking_turns (user_uri, at, times) VALUES (p_user, p_now, '{}') ON CONFLICT DO NOTHING;
    SELECT * INTO b FROM slotwire.booking_turns t WHERE t.user_uri = p_user FOR UPDATE;
    b.at := greatest(b.at, p_now);
    b.times := ARRAY(SELECT s FROM unnest(b.times) AS s WHERE s > b.at - (SELECT max(w) FROM unnest(p_seconds) AS w)
                     ORDER BY s);
    wait := greatest(b.blocked_until - b.at, 0);
    FOR i IN 1 .. cardinality(p_calls) LOOP
        IF cardinality(b.times) >= p_calls[i] THEN
            v_free := b.times[cardinality(b.times) - p_calls[i] + 1] + p_seconds[i];
            wait := greatest(wait, v_free - b.at);
        END IF;
    END LOOP;
    IF wait <= 0 THEN
        wait := 0;
        b.times := b.times || b.at;
    END IF;
    UPDATE slotwire.booking_turns t SET at = b.at, times = b.times WHERE t.user_uri = p_user;
END
$$;
REVOKE ALL ON FUNCTION slotwire.take_booking_turn FROM PUBLIC;

-- Calendly refused a booking: none is made for so many seconds. The turn is not given back: it may have counted it.
CREATE FUNCTION slotwire.block_bookings(p_user text, p_now double precision, p_seconds double precision) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE slotwire.booking_turns t
    SET at = greatest(t.at, p_now), blocked_until = greatest(t.blocked_until, greatest(t.at, p_now) + p_seconds)
    WHERE t.user_uri = p_user
$$;
REVOKE ALL ON FUNCTION slotwire.block_bookings FROM PUBLIC;

-- Remove what no limit counts any more.
CREATE FUNCTION slotwire.prune_booking_turns(p_before double precision) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_rows bigint;
BEGIN
    DELETE FROM slotwire.booking_turns t WHERE t.at < p_before AND t.blocked_until < p_before;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;
REVOKE ALL ON FUNCTION slotwire.prune_booking_turns FROM PUBLIC;

GRANT SELECT, INSERT ON slotwire.credential_uses TO {control};
GRANT SELECT, INSERT, UPDATE ON slotwire.connection_capabilities TO {control};
GRANT EXECUTE ON FUNCTION
    slotwire.prune_uses, slotwire.take_booking_turn, slotwire.block_bookings, slotwire.prune_booking_turns TO {control};
