-- What people decide about runs: by a link that was sent to them, and how a step ended that nobody could tell.

-- The link under which a person decides about an approval, in the browser. One for each: another one takes its place. Its
-- address has a MAC over this row and over what is asked for, by a key that is not in the database.
CREATE TABLE slotwire.approval_links (
    approval_id uuid PRIMARY KEY CONSTRAINT approval_links_approval REFERENCES slotwire.approvals ON DELETE CASCADE,
    id uuid NOT NULL CONSTRAINT approval_links_id UNIQUE,
    made_at timestamptz NOT NULL,
    made_by text NOT NULL,
    expires_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON slotwire.approval_links TO {control};

ALTER TABLE slotwire.runs ADD COLUMN decided_by text, ADD COLUMN note text;

-- Say how a step ended whose run is held, because nobody could tell: what it returned, or null where it has not happened
-- and runs again. Only the last step of the journal: what came after another one followed from its not being known. The run
-- goes on next. Answers whether that was so.
CREATE FUNCTION slotwire.decide_step(
    p_agent text, p_event uuid, p_step text, p_result bytea, p_by text, p_why text, p_now timestamptz
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_last slotwire.run_entries;
BEGIN
    PERFORM FROM slotwire.runs WHERE agent = p_agent AND event_id = p_event AND state = 'unknown' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT * INTO v_last FROM slotwire.run_entries
    WHERE agent = p_agent AND event_id = p_event ORDER BY number DESC LIMIT 1;
    IF v_last.state IS DISTINCT FROM 'started' OR v_last.name <> p_step THEN
        RETURN false;
    ELSIF p_result IS NULL THEN
        DELETE FROM slotwire.run_entries WHERE agent = p_agent AND event_id = p_event AND number = v_last.number;
    ELSE
        UPDATE slotwire.run_entries SET state = 'ended', result = p_result, ended_at = p_now
        WHERE agent = p_agent AND event_id = p_event AND number = v_last.number;
    END IF;
    UPDATE slotwire.runs
    SET state = 'ready', reason = '', due_at = p_now, changed_at = p_now, decided_by = p_by, note = p_why
    WHERE agent = p_agent AND event_id = p_event;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION slotwire.decide_step FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.decide_step TO {control};

-- Whether an agent may still be handed an event that it has settled: its mark in the inbox stays as long. A run that has
-- committed its effect and could not be ended is known by its mark alone.
CREATE OR REPLACE FUNCTION slotwire.agent_needs(p_agent text, p_event uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM slotwire.dead_letters d
                   WHERE d.agent = p_agent AND d.event_id = p_event AND d.state <> 'settled')
        OR EXISTS (SELECT FROM slotwire.agent_queue q WHERE q.agent = p_agent AND q.event_id = p_event)
        OR EXISTS (SELECT FROM slotwire.runs r WHERE r.agent = p_agent AND r.event_id = p_event)
$$;
