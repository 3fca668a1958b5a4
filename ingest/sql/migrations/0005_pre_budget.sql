-- Calls to Calendly, rationed by user: Calendly counts them by user and minute, whatever credential they come with. How
-- it works and why: docs/explanation/rate-budget.md.

-- One budget a user and kind of call: `api`, or `token` for the token endpoint, which is counted apart. Times are
-- seconds of the budget's own time, which only goes forward: the processes' clocks may differ by a minute.
CREATE TABLE slotwire.rate_budgets (
    user_uri text NOT NULL CONSTRAINT rate_budgets_user_short CHECK (length(user_uri) <= 2000),
    kind text NOT NULL CONSTRAINT rate_budgets_kind CHECK (kind IN ('api', 'token')),
    at double precision NOT NULL, -- the budget's time, as it was last given
    calls_limit integer, -- a minute, as Calendly last said; null until it has
    last_at double precision NOT NULL, -- the last slot that was given: the next is one step later
    spent integer[] NOT NULL, -- slots given in each quarter of a second, the last 64 seconds in a ring
    spent_to bigint NOT NULL, -- the ring's newest quarter
    remaining integer, -- what Calendly last said, and when; null until it has
    seen_at double precision NOT NULL,
    renewed_at double precision, -- when the window then ends; null where Calendly says at once
    probe_at double precision NOT NULL, -- when one call may find out whether more remain
    strikes integer NOT NULL DEFAULT 0, -- refusals and probes since calls remained: each doubles the wait for the next
    blocked_until double precision NOT NULL, -- a 429 asked to wait until then
    others integer NOT NULL DEFAULT 0, -- calls a minute that other programs make: the lesser of the last two minutes'
    others_seen integer NOT NULL DEFAULT 0, -- in this minute
    others_before integer, -- in the one before; null where nothing is known of that
    others_from double precision NOT NULL, -- when this minute began
    turns double precision[] NOT NULL DEFAULT '{0,0,0}', -- by priority: how far its callers were served
    PRIMARY KEY (user_uri, kind)
) WITH (fillfactor = 50);

-- Who waits for slots, by process and priority (1 person, 2 repair, 3 sweep), and slots given to it that it has not
-- fetched yet. A process that does not come back loses its place and those slots, and nothing else.
CREATE TABLE slotwire.rate_waiters (
    user_uri text NOT NULL,
    kind text NOT NULL,
    holder uuid NOT NULL,
    priority smallint NOT NULL CONSTRAINT rate_waiters_priority CHECK (priority BETWEEN 1 AND 3),
    callers integer NOT NULL, -- callers of that process that wait
    calls integer NOT NULL, -- calls without a slot
    served double precision NOT NULL, -- how far it was served, each of its callers counting as one
    asked_at double precision NOT NULL,
    until double precision NOT NULL, -- past this it is taken for gone
    slots double precision[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (user_uri, kind, holder, priority),
    FOREIGN KEY (user_uri, kind) REFERENCES slotwire.rate_budgets (user_uri, kind) ON DELETE CASCADE
) WITH (fillfactor = 50);

-- Slots given later than one time, up to another.
CREATE FUNCTION slotwire.slots_between(
    p_spent integer[],
    p_spent_to bigint,
    p_from double precision,
    p_to double precision
) RETURNS integer
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(sum(p_spent[(quarter % 256 + 1)::integer]), 0)::integer
    FROM generate_series(
        greatest(floor(p_from * 4)::bigint + 1, p_spent_to - 255), least(floor(p_to * 4)::bigint, p_spent_to)
    ) AS quarter
$$;
REVOKE ALL ON FUNCTION slotwire.slots_between FROM PUBLIC;

-- Take in what Calendly said with an answer that is so many seconds old: see docs/explanation/rate-budget.md.
CREATE FUNCTION slotwire.heed_answer(
    b slotwire.rate_budgets,
    p_assumed integer,
    p_limit integer,
    p_remaining integer,
    p_reset double precision,
    p_refused double precision,
    p_seen double precision,
    p_jitter double precision
) RETURNS slotwire.rate_budgets
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_limit integer;
    v_others integer;
BEGIN
    IF p_limit IS NOT NULL THEN
        b.calls_limit := least(greatest(p_limit, 1), 1000000);
    END IF;
    v_limit := coalesce(b.calls_limit, p_assumed);
    IF p_refused IS NOT NULL THEN
        -- Concurrent calls are refused together: that is one strike.
        IF p_seen >= b.blocked_until THEN
            b.strikes := least(b.strikes + 1, 6);
        END IF;
        b.blocked_until := greatest(
            b.blocked_until,
            p_seen + p_jitter + CASE WHEN p_refused >= 1 THEN p_refused ELSE 2 ^ (b.strikes - 1) END
        );
    END IF;
    IF p_remaining IS NULL OR p_seen < b.seen_at THEN
        RETURN b;
    END IF;
    IF p_refused IS NULL AND p_remaining > v_limit / 100 + 2 THEN
        b.strikes := 0;
    END IF;
    b.remaining := p_remaining;
    b.seen_at := p_seen;
    b.renewed_at := CASE WHEN p_reset >= 1 THEN p_seen + p_jitter + least(p_reset, 60) END;
    b.probe_at := p_seen + p_jitter + CASE WHEN p_reset >= 1 THEN 4 ELSE 1 END * 2 ^ b.strikes;
    -- Whatever window Calendly counts by, what it counted in the last minute and we did not make is others'.
    v_others := v_limit - p_remaining - slotwire.slots_between(b.spent, b.spent_to, p_seen - 60, p_seen);
    IF v_others <= greatest(v_limit / 50, 2) THEN
        v_others := 0; -- calls that are on their way look alike
    END IF;
    IF p_seen >= b.others_from + 60 THEN
        b.others := CASE WHEN p_seen < b.others_from + 120 THEN least(b.others_seen, b.others_before) ELSE 0 END;
        b.others_before := CASE WHEN p_seen < b.others_from + 120 THEN b.others_seen END;
        b.others_seen := 0;
        b.others_from := p_seen;
    END IF;
    b.others_seen := greatest(b.others_seen, v_others);
    IF b.others_before IS NULL THEN
        b.others := b.others_seen;
    END IF;
    RETURN b;
END
$$;
REVOKE ALL ON FUNCTION slotwire.heed_answer FROM PUBLIC;

-- Give out slots of a user's budget to all who wait, in their order, and return those of the process that asks: at most
-- 20, none more than half a second away. Where nobody waits any more it gets up to p_spare on top, for its next calls. A
-- slot is the time of one call; `slots` and `again` are seconds from `at`.
--
-- p_now is the asking process's reckoning of the budget's time; with its first question (p_first) it is its own clock,
-- which may be up to a minute ahead of everybody's and so moves the budget's time by that much less.
CREATE FUNCTION slotwire.lease_calls(
    p_user text,
    p_kind text,
    p_holder uuid,
    p_now double precision,
    p_first boolean,
    p_callers integer[],
    p_calls integer[],
    p_spare integer,
    p_assumed integer,
    p_limit integer,
    p_remaining integer,
    p_reset double precision,
    p_refused double precision,
    p_age double precision,
    p_jitter double precision,
    OUT at double precision,
    OUT slots double precision[],
    OUT again double precision,
    OUT blocked double precision,
    OUT calls_limit integer,
    OUT calls_left integer
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_far CONSTANT double precision := 0.5; -- seconds that a slot may be ahead: the longest lease
    c_late CONSTANT double precision := 1; -- seconds after which a slot is lost
    c_most CONSTANT integer := 20; -- calls: the largest lease
    c_grace CONSTANT double precision := 0.5; -- seconds: who is later than it said is taken for gone
    c_spread CONSTANT double precision := 62; -- seconds over which a minute's calls are spread, see the explanation
    b slotwire.rate_budgets;
    w slotwire.rate_waiters;
    v_step double precision;
    v_burst double precision; -- how much sooner than its time a slot may be
    v_far double precision;
    v_slot double precision;
    v_reserves integer[];
    v_left integer; -- calls that Calendly had left, less those given since
    v_open boolean; -- nothing that Calendly said restricts the slot
    v_probe boolean; -- the slot may find out whether calls remain
    v_quarter bigint;
    v_spare integer := p_spare; -- slots that nobody waits for may still be given
    v_spared double precision[] := '{}';
    v_place integer;
    v_before integer;
BEGIN
    -- What is lost in a crash of the server is less than a lease.
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT * INTO b FROM slotwire.rate_budgets r WHERE r.user_uri = p_user AND r.kind = p_kind FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO slotwire.rate_budgets (
            user_uri, kind, at, last_at, spent, spent_to, seen_at, probe_at, blocked_until, others_from
        ) VALUES (
            p_user, p_kind, p_now, p_now - 60, array_fill(0, ARRAY[256]), floor(p_now * 4), p_now - 60, p_now, p_now,
            p_now
        ) ON CONFLICT DO NOTHING;
        SELECT * INTO b FROM slotwire.rate_budgets r WHERE r.user_uri = p_user AND r.kind = p_kind FOR UPDATE;
    END IF;
    b.at := greatest(b.at, CASE WHEN p_first THEN p_now - 60 ELSE p_now END);
    b := slotwire.heed_answer(b, p_assumed, p_limit, p_remaining, p_reset, p_refused, b.at - p_age, p_jitter);
    calls_limit := coalesce(b.calls_limit, p_assumed);
    -- Token requests are rare and not spread: the first few may follow each other, and a minute still has no more.
    v_step := c_spread / CASE WHEN p_kind = 'token' THEN greatest(calls_limit - 3, 1)
        ELSE greatest(calls_limit - b.others, calls_limit / 10, 1) END;
    v_burst := CASE WHEN p_kind = 'token' AND calls_limit > 3 THEN 3 * v_step ELSE 0 END;
    v_far := least(greatest(c_far - v_step, 0), c_far / 2); -- less for who can wait: whoever comes is soon served
    v_reserves := ARRAY[0, calls_limit / 250, calls_limit / 100];
    v_left := b.remaining - slotwire.slots_between(b.spent, b.spent_to, b.seen_at, b.at + c_far);

    INSERT INTO slotwire.rate_waiters AS r (user_uri, kind, holder, priority, callers, calls, served, asked_at, until)
    SELECT p_user, p_kind, p_holder, i, p_callers[i], p_calls[i], b.turns[i], b.at, b.at + 60
    FROM generate_series(1, 3) AS i WHERE p_calls[i] > 0
    ON CONFLICT ON CONSTRAINT rate_waiters_pkey DO UPDATE SET
        callers = excluded.callers,
        slots = ARRAY(SELECT s FROM unnest(r.slots) AS s WHERE s > b.at - c_late),
        calls = greatest(
            excluded.calls - (SELECT count(*)::integer FROM unnest(r.slots) AS s WHERE s > b.at - c_late), 0
        ),
        served = greatest(r.served, excluded.served),
        asked_at = CASE WHEN r.calls > 0 AND r.until >= b.at THEN r.asked_at ELSE b.at END,
        until = excluded.until;
    UPDATE slotwire.rate_waiters r SET calls = 0
    WHERE r.user_uri = p_user AND r.kind = p_kind AND r.holder = p_holder AND p_calls[r.priority] = 0 AND r.calls > 0;

    LOOP
        v_slot := greatest(b.last_at + v_step - v_burst, b.at, b.blocked_until);
        EXIT WHEN v_slot > b.at + c_far;
        v_open := b.remaining IS NULL OR v_slot >= b.seen_at + 60 OR v_slot >= b.renewed_at;
        v_probe := v_slot >= b.probe_at AND (b.renewed_at IS NULL OR v_left > 0);
        SELECT * INTO w FROM slotwire.rate_waiters r
        WHERE r.user_uri = p_user AND r.kind = p_kind AND r.until >= b.at AND r.calls > 0
          AND cardinality(r.slots) < c_most
          -- Who comes back too late for the slot would lose it.
          AND (r.holder = p_holder OR r.until - c_grace <= v_slot + c_late / 2)
          AND (r.priority = 1 OR v_slot <= b.at + v_far + 0.005)
          AND (v_open OR v_probe OR v_left > v_reserves[r.priority])
        ORDER BY r.priority, greatest(r.served, b.turns[r.priority]), r.asked_at, r.holder LIMIT 1;
        IF NOT FOUND THEN
            EXIT WHEN v_spare = 0 OR v_slot > b.at + v_far OR NOT (v_open OR v_left > v_reserves[3]) OR EXISTS (
                SELECT FROM slotwire.rate_waiters r
                WHERE r.user_uri = p_user AND r.kind = p_kind AND r.until >= b.at AND r.calls > 0
            );
            v_spare := v_spare - 1;
            v_spared := v_spared || v_slot - b.at;
        ELSE
            IF NOT coalesce(v_open OR v_left > v_reserves[w.priority], false) THEN
                b.strikes := least(b.strikes + 1, 6);
                b.probe_at := v_slot + CASE WHEN b.renewed_at IS NULL THEN 1 ELSE 4 END * 2 ^ b.strikes;
            END IF;
            b.turns[w.priority] := greatest(w.served, b.turns[w.priority]);
            UPDATE slotwire.rate_waiters r SET
                slots = r.slots || v_slot, calls = r.calls - 1,
                served = b.turns[w.priority] + 1.0 / greatest(w.callers, 1)
            WHERE r.user_uri = p_user AND r.kind = p_kind AND r.holder = w.holder AND r.priority = w.priority;
        END IF;
        v_left := v_left - 1;
        b.last_at := greatest(b.last_at + v_step, v_slot);
        v_quarter := floor(v_slot * 4);
        FOR i IN 1 .. least(v_quarter - b.spent_to, 256) LOOP
            b.spent[((b.spent_to + i) % 256)::integer + 1] := 0;
        END LOOP;
        b.spent_to := greatest(b.spent_to, v_quarter);
        v_place := (v_quarter % 256)::integer + 1;
        b.spent[v_place] := b.spent[v_place] + 1;
    END LOOP;

    slots := ARRAY(
        SELECT s - b.at FROM slotwire.rate_waiters r, unnest(r.slots) AS s
        WHERE r.user_uri = p_user AND r.kind = p_kind AND r.holder = p_holder ORDER BY s
    ) || v_spared;
    v_slot := b.at;
    SELECT * INTO w FROM slotwire.rate_waiters r
    WHERE r.user_uri = p_user AND r.kind = p_kind AND r.holder = p_holder AND r.calls > 0 ORDER BY r.priority LIMIT 1;
    IF FOUND THEN
        -- It comes again when its turn is near: after all who are more urgent, and those who were served less.
        SELECT coalesce(sum(CASE WHEN r.priority < w.priority THEN r.calls ELSE 1 END), 0) INTO v_before
        FROM slotwire.rate_waiters r
        WHERE r.user_uri = p_user AND r.kind = p_kind AND r.holder <> p_holder AND r.until >= b.at AND r.calls > 0
          AND (r.priority < w.priority OR r.priority = w.priority
               AND (greatest(r.served, b.turns[r.priority]), r.asked_at, r.holder)
                 < (greatest(w.served, b.turns[w.priority]), w.asked_at, w.holder));
        again := b.last_at + v_step * (1 + v_before) - v_burst - b.at;
        v_slot := greatest(b.at + again, b.blocked_until);
        IF b.remaining IS NOT NULL AND v_left <= v_reserves[w.priority] THEN
            v_slot := greatest(v_slot, least(
                b.seen_at + 60, b.renewed_at, CASE WHEN b.renewed_at IS NULL OR v_left > 0 THEN b.probe_at END
            ));
        END IF;
        -- Sooner, to notice those who are gone; but not while Calendly makes all of us wait.
        again := greatest(
            least(
                v_slot - b.at - CASE WHEN w.priority = 1 THEN c_far ELSE v_far END / 2,
                CASE WHEN v_slot > b.at + again THEN 5 ELSE 1 END
            ),
            0.02
        );
    ELSE
        again := 0;
    END IF;
    UPDATE slotwire.rate_waiters r SET
        slots = '{}', until = CASE WHEN r.calls > 0 THEN b.at + again + c_grace ELSE b.at END
    WHERE r.user_uri = p_user AND r.kind = p_kind AND r.holder = p_holder;
    UPDATE slotwire.rate_budgets r SET
        at = b.at, calls_limit = b.calls_limit, last_at = b.last_at, spent = b.spent, spent_to = b.spent_to,
        remaining = b.remaining, seen_at = b.seen_at, renewed_at = b.renewed_at, probe_at = b.probe_at,
        strikes = b.strikes, blocked_until = b.blocked_until, others = b.others, others_seen = b.others_seen,
        others_before = b.others_before, others_from = b.others_from, turns = b.turns
    WHERE r.user_uri = p_user AND r.kind = p_kind;
    at := b.at;
    blocked := v_slot - b.at;
    calls_left := greatest(least(coalesce(v_left, calls_limit), calls_limit), 0);
END
$$;
REVOKE ALL ON FUNCTION slotwire.lease_calls FROM PUBLIC;

-- Remove the budgets of users whom nobody acted as since a time, and processes that no longer wait.
CREATE FUNCTION slotwire.prune_budgets(p_before double precision) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_rows bigint;
BEGIN
    DELETE FROM slotwire.rate_budgets r WHERE r.at < p_before AND r.blocked_until < p_before;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    DELETE FROM slotwire.rate_waiters r WHERE r.until < p_before;
    RETURN v_rows;
END
$$;
REVOKE ALL ON FUNCTION slotwire.prune_budgets FROM PUBLIC;

GRANT SELECT ON slotwire.rate_budgets TO {control};
GRANT EXECUTE ON FUNCTION slotwire.lease_calls, slotwire.prune_budgets TO {control};
