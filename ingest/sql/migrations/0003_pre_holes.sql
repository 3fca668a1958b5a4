-- Holes: times in which Calendly may have had something to tell an organization's hook and nobody took it, and the
-- fetches that fill them. `serve` can only note them, by a function.

-- A hole stays open until a fetch that began after it was last noticed has ended; its report stays with it. Times are
-- those of the trouble, not of the fetch. States: docs/reference/states.md.
CREATE TABLE slotwire.holes (
    id uuid PRIMARY KEY,
    org text NOT NULL REFERENCES slotwire.organizations (org),
    cause text NOT NULL
        CONSTRAINT holes_cause CHECK (cause IN ('subscription_disabled', 'subscription_gone', 'retrying', 'refused',
                                                'no_database', 'unwatched', 'asked')),
    subscription_id uuid REFERENCES slotwire.subscriptions (id), -- null where it is none's in particular
    since timestamptz NOT NULL, -- it may have begun then: the earliest that was ever noted
    noticed_at timestamptz NOT NULL, -- first
    last_noticed_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'open' CONSTRAINT holes_state CHECK (state IN ('open', 'fetching', 'closed')),
    due_at timestamptz NOT NULL, -- when the next fetch may begin
    attempts integer NOT NULL DEFAULT 0, -- fetches that failed, or ended before it did
    problem text CONSTRAINT holes_problem_short CHECK (length(problem) <= 200), -- why the last fetch did not end it
    epoch bigint NOT NULL DEFAULT 0, -- grows with each claim: who was taken for dead changes nothing any more
    lease_until timestamptz, -- until when the fetch is its claimant's; then another process goes on
    fetch_since timestamptz, -- what the fetch covers, and when it began; null while there is none
    fetch_began_at timestamptz,
    progress jsonb NOT NULL DEFAULT '{}' -- how far the fetch has come, and what it has counted
        CONSTRAINT holes_progress_short CHECK (octet_length(progress::text) <= 65536),
    report jsonb -- of the fetch that closed it: recovered, skipped, unprovable
        CONSTRAINT holes_report_short CHECK (octet_length(report::text) <= 65536),
    closed_at timestamptz,
    CONSTRAINT holes_noticed CHECK (noticed_at <= last_noticed_at),
    CONSTRAINT holes_lease CHECK ((state = 'fetching') = (lease_until IS NOT NULL)),
    CONSTRAINT holes_fetch CHECK ((fetch_since IS NULL) = (fetch_began_at IS NULL)
                                  AND (state <> 'fetching' OR fetch_since IS NOT NULL)),
    CONSTRAINT holes_closed CHECK ((state = 'closed') = (closed_at IS NOT NULL)
                                   AND (state <> 'closed' OR report IS NOT NULL))
);
-- One open hole an organization and cause, and subscription where it has one: what is noted again makes it larger.
CREATE UNIQUE INDEX holes_one_open ON slotwire.holes
    (org, cause, (coalesce(subscription_id, '00000000-0000-0000-0000-000000000000'::uuid))) WHERE state <> 'closed';
-- One fetch an organization at a time, whichever process makes it: it fills all of the organization's holes.
CREATE UNIQUE INDEX holes_one_fetch ON slotwire.holes (org) WHERE state = 'fetching';
CREATE INDEX holes_noticed_at ON slotwire.holes (noticed_at, id);
CREATE INDEX holes_org ON slotwire.holes (org, noticed_at, id);

-- When any `serve` last had Postgres, by its own word.
CREATE TABLE slotwire.serving (
    singleton boolean PRIMARY KEY DEFAULT true CONSTRAINT serving_is_one CHECK (singleton),
    last_at timestamptz NOT NULL
);

-- What a `serve` says now and then, while it has Postgres: that it has, and which hooks it had to answer other than 2xx
-- since it last said so, each with the first and the last time. It notes those hooks' holes, and, where nobody has said
-- so for longer than `p_longest`, a hole of each organization that is subscribed. Answers how many holes it noted.
CREATE FUNCTION slotwire.note_serving(
    p_now timestamptz, p_longest interval, p_skew interval, p_hooks text[], p_first timestamptz[], p_last timestamptz[]
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before timestamptz;
    v_noted bigint := 0;
    v_rows bigint;
BEGIN
    INSERT INTO slotwire.holes AS h (id, org, cause, subscription_id, since, noticed_at, last_noticed_at, due_at)
    SELECT gen_random_uuid(), s.org, 'refused', s.id, min(r.first_at) - p_skew, p_now, greatest(p_now, max(r.last_at)), p_now
    FROM unnest(p_hooks, p_first, p_last) AS r (hook_id, first_at, last_at)
    JOIN slotwire.subscriptions s ON s.hook_id = r.hook_id
    GROUP BY s.org, s.id
    ON CONFLICT (org, cause, (coalesce(subscription_id, '00000000-0000-0000-0000-000000000000'::uuid)))
        WHERE state <> 'closed'
    DO UPDATE SET since = least(h.since, excluded.since),
                  last_noticed_at = greatest(h.last_noticed_at, excluded.last_noticed_at);
    GET DIAGNOSTICS v_noted = ROW_COUNT;

    SELECT last_at INTO v_before FROM slotwire.serving FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO slotwire.serving (last_at) VALUES (p_now) ON CONFLICT DO NOTHING;
        RETURN v_noted;
    END IF;
    UPDATE slotwire.serving SET last_at = p_now WHERE last_at < p_now;
    IF p_now - v_before > p_longest THEN
        INSERT INTO slotwire.holes AS h (id, org, cause, since, noticed_at, last_noticed_at, due_at)
        SELECT gen_random_uuid(), o.org, 'no_database', v_before - p_skew, p_now, p_now, p_now
        FROM slotwire.organizations o
        WHERE o.ended_at IS NULL
          AND EXISTS (SELECT FROM slotwire.subscriptions s
                      WHERE s.org = o.org AND s.created_at < p_now AND (s.ended_at IS NULL OR s.ended_at > v_before))
        ON CONFLICT (org, cause, (coalesce(subscription_id, '00000000-0000-0000-0000-000000000000'::uuid)))
            WHERE state <> 'closed'
        DO UPDATE SET since = least(h.since, excluded.since),
                      last_noticed_at = greatest(h.last_noticed_at, excluded.last_noticed_at);
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_noted := v_noted + v_rows;
    END IF;
    RETURN v_noted;
END
$$;
REVOKE ALL ON FUNCTION slotwire.note_serving FROM PUBLIC;

GRANT EXECUTE ON FUNCTION slotwire.note_serving TO {serve};
GRANT SELECT, INSERT, UPDATE, DELETE ON slotwire.holes TO {control};
GRANT SELECT ON slotwire.serving TO {control};
