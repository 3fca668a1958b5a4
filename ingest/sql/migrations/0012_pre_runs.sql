-- Runs that survive their process: what a handler has done so far (its journal), and the events that are set aside
-- while their run waits. Only runs that use a step, a wait or an approval have a row.
--
--   running   a member works on it, or did; `until` is how long its claim holds
--   waiting   set aside until a later event, a decision or `due_at`
--   ready     what it waited for is there
--   parked    it began on a version that no member that came by finishes
--   unknown   the outcome of a step is not known: held for a person
--   diverged  the handler does not do what its journal says: held for a person
--   given_up  its event is a dead letter; the journal stays, for when it is driven again
CREATE TABLE slotwire.runs (
    agent text NOT NULL,
    event_id uuid NOT NULL,
    id uuid NOT NULL CONSTRAINT runs_id UNIQUE, -- follows from the two: what operators call it by
    org text NOT NULL,
    key text NOT NULL, -- the record's: later events of the same one may answer
    subject text NOT NULL,
    type text NOT NULL,
    version text NOT NULL, -- of the agent
    state text NOT NULL CONSTRAINT runs_state
        CHECK (state IN ('running', 'waiting', 'ready', 'parked', 'unknown', 'diverged', 'given_up')),
    reason text NOT NULL DEFAULT '',
    owner uuid NOT NULL,
    epoch bigint NOT NULL, -- moves with every claim: whoever has an older one writes nothing
    until timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    topic text NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL, -- in the log, of the last event that it has seen
    place bigint NOT NULL, -- in the partition, of the last event that it has seen
    record bytea, -- the whole event, from when it is set aside: its offset may pass then
    due_at timestamptz, -- when the partition's owner looks at it again; null: not by itself
    began_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (agent, event_id),
    CONSTRAINT runs_whole CHECK (state IN ('running', 'given_up') OR record IS NOT NULL)
);
CREATE INDEX runs_key ON slotwire.runs (agent, org, key);
CREATE INDEX runs_due ON slotwire.runs (agent, topic, partition, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX runs_org ON slotwire.runs (org);

-- The journal of a run: each step and wait, in the order in which the handler came to it.
CREATE TABLE slotwire.run_entries (
    agent text NOT NULL,
    event_id uuid NOT NULL,
    number integer NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CONSTRAINT run_entries_kind CHECK (kind IN ('step', 'wait', 'approval')),
    state text NOT NULL CONSTRAINT run_entries_state CHECK (state IN ('started', 'open', 'ended')),
    result bytea, -- JSON: what a step returned; the event that answered a wait, whole, or null after its timeout
    awaited text[] NOT NULL DEFAULT '{}', -- the types that may answer
    deadline timestamptz,
    began_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (agent, event_id, number),
    CONSTRAINT run_entries_name UNIQUE (agent, event_id, name),
    CONSTRAINT run_entries_run FOREIGN KEY (agent, event_id) REFERENCES slotwire.runs ON DELETE CASCADE,
    CONSTRAINT run_entries_ended CHECK ((state = 'ended') = (ended_at IS NOT NULL))
);

GRANT SELECT, INSERT, UPDATE, DELETE ON slotwire.runs, slotwire.run_entries TO {agents};
GRANT SELECT ON slotwire.runs, slotwire.run_entries TO {control};

-- End one run: its event counts as settled, and its journal goes. Whoever works on it writes nothing any more.
CREATE FUNCTION slotwire.cancel_run(p_agent text, p_event uuid, p_now timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- The mark first: whoever has it in an open transaction is waited for.
    IF NOT EXISTS (SELECT FROM slotwire.runs WHERE agent = p_agent AND event_id = p_event) THEN
        RETURN false;
    END IF;
    INSERT INTO slotwire.inbox (agent, event_id, done_at) VALUES (p_agent, p_event, p_now)
    ON CONFLICT (agent, event_id) DO NOTHING;
    DELETE FROM slotwire.runs WHERE agent = p_agent AND event_id = p_event;
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION slotwire.cancel_run FROM PUBLIC;

-- End the runs of an organization, or of one person in it: of the invitee whose URI is the subject.
CREATE FUNCTION slotwire.end_runs(p_org text, p_subject text, p_now timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_ended bigint;
BEGIN
    INSERT INTO slotwire.inbox (agent, event_id, done_at)
    SELECT agent, event_id, p_now FROM slotwire.runs
    WHERE org = p_org AND (p_subject IS NULL OR subject = p_subject) AND state <> 'given_up'
    ORDER BY agent, event_id
    ON CONFLICT (agent, event_id) DO NOTHING;
    DELETE FROM slotwire.runs WHERE org = p_org AND (p_subject IS NULL OR subject = p_subject);
    GET DIAGNOSTICS v_ended = ROW_COUNT;
    RETURN v_ended;
END
$$;
REVOKE ALL ON FUNCTION slotwire.end_runs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.cancel_run, slotwire.end_runs TO {control};
