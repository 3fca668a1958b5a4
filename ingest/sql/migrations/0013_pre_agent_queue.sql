-- Records that agents gave up, as operators see them, and records that wait for an agent beside its topics.

-- One row per record, however often it was given up; the topic of dead letters has one for each time.
CREATE TABLE slotwire.dead_letters (
    id uuid PRIMARY KEY,
    agent text NOT NULL,
    topic text NOT NULL, -- where the record is, with its partition and offset
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    lane bytea NOT NULL, -- what comes in order: a digest of the record's key and its event's source
    org text, -- null, like type, event_id, subject and sequence, where the record is no event
    event_id uuid,
    type text,
    subject text,
    sequence bigint,
    key bytea,
    value bytea,
    header_names bytea[] NOT NULL,
    header_values bytea[] NOT NULL,
    published_at timestamptz NOT NULL,
    at timestamptz NOT NULL, -- when it was given up, last
    times integer NOT NULL DEFAULT 1,
    reason text NOT NULL,
    attempts integer NOT NULL,
    trace text NOT NULL,
    newer_sequence bigint, -- the newest event of its key that the agent has settled since
    edited_value bytea,
    edited_at timestamptz,
    edited_by text,
    state text NOT NULL DEFAULT 'open'
        CONSTRAINT dead_letters_state CHECK (state IN ('open', 'queued', 'settled', 'discarded')),
    changed_at timestamptz NOT NULL,
    note text CONSTRAINT dead_letters_note_short CHECK (length(note) <= 1000),
    CONSTRAINT dead_letters_record UNIQUE (agent, topic, partition, record_offset),
    CONSTRAINT dead_letters_edited CHECK ((edited_value IS NULL) = (edited_at IS NULL)),
    CONSTRAINT dead_letters_discarded_why CHECK (state <> 'discarded' OR note <> '')
);
-- Lists over all states merge the states.
CREATE INDEX dead_letters_state_id ON slotwire.dead_letters (state, id);
CREATE INDEX dead_letters_org ON slotwire.dead_letters (org, state, id);
CREATE INDEX dead_letters_agent ON slotwire.dead_letters (agent, state, id);
CREATE INDEX dead_letters_org_agent ON slotwire.dead_letters (org, agent, state, id);
CREATE INDEX dead_letters_event ON slotwire.dead_letters (agent, event_id);
CREATE INDEX dead_letters_lanes ON slotwire.dead_letters (agent, topic, partition, lane)
    WHERE state IN ('open', 'queued');
CREATE INDEX dead_letters_settled ON slotwire.dead_letters (changed_at) WHERE state IN ('settled', 'discarded');

-- Records that an agent handles later, whole, so that its offsets need not wait for them: one whose next attempt is
-- far off, all that come after it in its lane, and what is driven again.
CREATE TABLE slotwire.agent_queue (
    agent text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    lane bytea NOT NULL,
    event_id uuid,
    key bytea,
    value bytea,
    header_names bytea[] NOT NULL,
    header_values bytea[] NOT NULL,
    published_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0, -- that counted so far
    due_at timestamptz NOT NULL,
    letter uuid, -- the dead letter that is driven again
    queued_at timestamptz NOT NULL,
    PRIMARY KEY (agent, topic, partition, record_offset)
);
CREATE INDEX agent_queue_lanes ON slotwire.agent_queue (agent, topic, partition, lane, record_offset) INCLUDE (due_at);
CREATE INDEX agent_queue_event ON slotwire.agent_queue (agent, event_id);

-- Drive dead letters again: each waits for its agent in the order of its lane. Answers those that do now; what waits
-- already, was settled or is out of reach is left out. Of letters that are older than what their agent has settled
-- since, only those that may be. Nothing is done where an agent's queue has no room for its letters.
CREATE FUNCTION slotwire.redrive_letters(
    p_now timestamptz, p_ids uuid[], p_org text, p_older boolean, p_room integer
) RETURNS SETOF uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- One at a time for each agent, so that two cannot fill the same room.
    PERFORM pg_advisory_xact_lock(hashtextextended('slotwire agent_queue ' || a.agent, 0))
    FROM (SELECT DISTINCT d.agent FROM slotwire.dead_letters d WHERE d.id = ANY (p_ids) ORDER BY d.agent) AS a;
    IF EXISTS (
        SELECT FROM slotwire.dead_letters d
        WHERE d.id = ANY (p_ids) AND (p_org IS NULL OR d.org = p_org) AND d.state IN ('open', 'discarded')
        GROUP BY d.agent
        HAVING count(*) + (SELECT count(*) FROM slotwire.agent_queue q WHERE q.agent = d.agent) > p_room
    ) THEN
        RAISE EXCEPTION 'the queue of an agent is full' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    RETURN QUERY WITH chosen AS (
        UPDATE slotwire.dead_letters d SET state = 'queued', changed_at = p_now, note = NULL
        WHERE d.id = ANY (p_ids) AND (p_org IS NULL OR d.org = p_org) AND d.state IN ('open', 'discarded')
          AND (p_older OR d.newer_sequence IS NULL)
        RETURNING d.*
    ), put AS (
        INSERT INTO slotwire.agent_queue (agent, topic, partition, record_offset, lane, event_id, key, value,
            header_names, header_values, published_at, due_at, letter, queued_at)
        SELECT c.agent, c.topic, c.partition, c.record_offset, c.lane, c.event_id, c.key,
               coalesce(c.edited_value, c.value), c.header_names, c.header_values, c.published_at, p_now, c.id, p_now
        FROM chosen c
        ON CONFLICT (agent, topic, partition, record_offset) DO UPDATE SET letter = EXCLUDED.letter
    )
    SELECT c.id FROM chosen c ORDER BY c.id;
END
$$;
REVOKE ALL ON FUNCTION slotwire.redrive_letters FROM PUBLIC;

-- Whether an agent may still be handed an event that it has settled: its mark in the inbox stays as long.
CREATE FUNCTION slotwire.agent_needs(p_agent text, p_event uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM slotwire.dead_letters d
                   WHERE d.agent = p_agent AND d.event_id = p_event AND d.state <> 'settled')
        OR EXISTS (SELECT FROM slotwire.agent_queue q WHERE q.agent = p_agent AND q.event_id = p_event)
$$;
REVOKE ALL ON FUNCTION slotwire.agent_needs FROM PUBLIC;

-- Remove rows that were settled more than so many days ago, at most so many at once, and count them: what agents have
-- settled and are not handed again, what of the quarantine was retried or discarded, and dead letters likewise.
CREATE OR REPLACE FUNCTION slotwire.prune(p_now timestamptz, p_table text, p_days integer, p_limit integer)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before CONSTANT timestamptz := p_now - make_interval(days => p_days);
    v_rows bigint;
BEGIN
    IF p_days < 7 THEN
        RAISE EXCEPTION 'rows are kept for 7 days at least, not %', p_days USING ERRCODE = 'invalid_parameter_value';
    ELSIF p_table = 'inbox' THEN
        DELETE FROM slotwire.inbox WHERE ctid = ANY (ARRAY(
            SELECT i.ctid FROM slotwire.inbox i
            WHERE i.done_at < v_before AND NOT slotwire.agent_needs(i.agent, i.event_id) LIMIT p_limit));
    ELSIF p_table = 'quarantine' THEN
        DELETE FROM slotwire.quarantine WHERE delivery_id = ANY (ARRAY(
            SELECT delivery_id FROM slotwire.quarantine WHERE state <> 'waiting' AND settled_at < v_before LIMIT p_limit));
    ELSIF p_table = 'dead_letters' THEN
        DELETE FROM slotwire.dead_letters WHERE id = ANY (ARRAY(
            SELECT id FROM slotwire.dead_letters
            WHERE state IN ('settled', 'discarded') AND changed_at < v_before LIMIT p_limit));
    ELSE
        RAISE EXCEPTION '% is not pruned', p_table USING ERRCODE = 'invalid_parameter_value';
    END IF;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON slotwire.agent_queue TO {agents};
GRANT SELECT, INSERT, UPDATE ON slotwire.dead_letters TO {agents};
GRANT SELECT ON slotwire.agent_queue, slotwire.dead_letters TO {control};
GRANT UPDATE (state, changed_at, note, edited_value, edited_at, edited_by) ON slotwire.dead_letters TO {control};
GRANT EXECUTE ON FUNCTION slotwire.redrive_letters TO {control};
