-- What agents ask a person to approve. An agent adds and reads; only whoever manages decides, once, in time, and for what
-- was asked: the digest is that of `what`, which nobody can change.
CREATE TABLE slotwire.approvals (
    id uuid PRIMARY KEY,
    agent text NOT NULL,
    event_id uuid NOT NULL,
    name text NOT NULL,
    org text NOT NULL,
    person text NOT NULL, -- who is asked, as the agent names them
    what text NOT NULL, -- JSON
    digest bytea NOT NULL CONSTRAINT approvals_digest CHECK (digest = sha256(convert_to(what, 'UTF8'))),
    state text NOT NULL DEFAULT 'open' CONSTRAINT approvals_state CHECK (state IN ('open', 'approved', 'denied', 'expired')),
    asked_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    decided_at timestamptz,
    decided_by text,
    CONSTRAINT approvals_run FOREIGN KEY (agent, event_id) REFERENCES slotwire.runs ON DELETE CASCADE,
    CONSTRAINT approvals_decided CHECK ((state IN ('approved', 'denied')) = (decided_by IS NOT NULL))
);
CREATE INDEX approvals_asked ON slotwire.approvals (asked_at, id);
CREATE INDEX approvals_run ON slotwire.approvals (agent, event_id);

GRANT SELECT ON slotwire.approvals TO {agents}, {control};
GRANT INSERT (id, agent, event_id, name, org, person, what, digest, asked_at, expires_at) ON slotwire.approvals TO {agents};

-- Decide: one compare and set, before the time is over, for this digest. The run goes on next.
CREATE FUNCTION slotwire.decide_approval(
    p_id uuid, p_digest bytea, p_approved boolean, p_by text, p_now timestamptz
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_asked slotwire.approvals;
BEGIN
    UPDATE slotwire.approvals
    SET state = CASE WHEN p_approved THEN 'approved' ELSE 'denied' END, decided_at = p_now, decided_by = p_by
    WHERE id = p_id AND state = 'open' AND expires_at > p_now AND digest = p_digest
    RETURNING * INTO v_asked;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE slotwire.runs SET state = 'ready', due_at = p_now, changed_at = p_now
    WHERE agent = v_asked.agent AND event_id = v_asked.event_id AND state = 'waiting';
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION slotwire.decide_approval FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.decide_approval TO {control};

-- Its time is over, unless somebody has decided: answers the state that it has now.
CREATE FUNCTION slotwire.expire_approval(p_id uuid, p_now timestamptz) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_state text;
BEGIN
    UPDATE slotwire.approvals SET state = 'expired' WHERE id = p_id AND state = 'open' AND expires_at <= p_now;
    SELECT state INTO v_state FROM slotwire.approvals WHERE id = p_id;
    RETURN v_state;
END
$$;
REVOKE ALL ON FUNCTION slotwire.expire_approval FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.expire_approval TO {agents};
