-- Actions: what a caller has done at Calendly, once for each key of theirs. The intent is committed before the call, and
-- stays open until it is known what became of it. `slotwire control` changes rows; a change of state that is told is one
-- commit with its event. States: docs/reference/states.md.

CREATE TABLE slotwire.actions (
    id uuid PRIMARY KEY, -- in order of time
    org text NOT NULL REFERENCES slotwire.organizations (org),
    caller text NOT NULL CONSTRAINT actions_caller_short CHECK (length(caller) <= 200),
    key text NOT NULL CONSTRAINT actions_key_short CHECK (length(key) BETWEEN 1 AND 200),
    fingerprint bytea NOT NULL, -- of what is asked: the same key with something else is refused
    verb text NOT NULL
        CONSTRAINT actions_verb CHECK (verb IN ('book', 'cancel', 'reschedule', 'mark_no_show', 'clear_no_show')),
    connection_id uuid NOT NULL,
    user_uri text NOT NULL,
    target text NOT NULL CONSTRAINT actions_target_short CHECK (length(target) <= 2000), -- what it is done to, at Calendly
    request jsonb CONSTRAINT actions_request_short CHECK (octet_length(request::text) <= 131072), -- gone when it is over
    tag text, -- what marks a booking of ours at Calendly; null where it carries none
    state text NOT NULL
        CONSTRAINT actions_state CHECK (state IN ('open', 'not_sent', 'done', 'probable', 'done_by_other', 'refused',
                                                  'not_seen', 'person', 'not_done')),
    reason text CONSTRAINT actions_reason_short CHECK (length(reason) <= 300),
    evidence text CONSTRAINT actions_evidence CHECK (evidence IN ('answer', 'webhook', 'read', 'person')),
    step text NOT NULL CONSTRAINT actions_step CHECK (step IN ('book', 'cancel', 'mark', 'clear', 'restore')),
    step_at timestamptz NOT NULL, -- when the intent of this step was first committed
    called_at timestamptz NOT NULL, -- when that of its last call was
    head bigint NOT NULL, -- the log's last event then: what settles the step comes after it
    calls integer NOT NULL DEFAULT 0, -- of this step that may have left; the one that is under way counts
    reads integer NOT NULL DEFAULT 0, -- looks at Calendly since the last call, and the last of them
    read_at timestamptz,
    accepted bigint, -- what the door had accepted at the first of them
    facts jsonb NOT NULL DEFAULT '{}' -- of a reschedule: what was known before, and what its steps have come to
        CONSTRAINT actions_facts_short CHECK (octet_length(facts::text) <= 16384),
    invitee text, -- the outcome: the invitee, the scheduled event and the mark
    scheduled_event text,
    mark text,
    epoch bigint NOT NULL DEFAULT 1, -- grows with each claim: who was taken for dead changes nothing any more
    due_at timestamptz, -- when it is looked at next; until then it is its claimant's
    settlements integer NOT NULL DEFAULT 0,
    intended_at timestamptz NOT NULL,
    settled_at timestamptz,
    decided_by text,
    note text CONSTRAINT actions_note_short CHECK (length(note) <= 1000),
    CONSTRAINT actions_one_key UNIQUE (org, caller, key),
    CONSTRAINT actions_settled CHECK ((state IN ('open', 'not_sent')) = (settled_at IS NULL)),
    CONSTRAINT actions_due CHECK ((state IN ('open', 'not_sent')) = (due_at IS NOT NULL)),
    CONSTRAINT actions_over CHECK ((state IN ('done', 'probable', 'done_by_other', 'refused', 'not_done'))
                                   = (request IS NULL)),
    CONSTRAINT actions_proof CHECK ((state IN ('done', 'probable', 'done_by_other')) = (evidence IS NOT NULL)),
    CONSTRAINT actions_why CHECK (state NOT IN ('refused', 'not_seen', 'person', 'not_done') OR reason IS NOT NULL),
    CONSTRAINT actions_decided CHECK ((decided_by IS NULL) = (note IS NULL))
);
CREATE INDEX actions_due_at ON slotwire.actions (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX actions_waiting ON slotwire.actions (state, intended_at) WHERE state IN ('open', 'not_sent', 'person');
CREATE INDEX actions_org ON slotwire.actions (org, id);
CREATE INDEX actions_settled_at ON slotwire.actions (settled_at) WHERE settled_at IS NOT NULL;

-- What the writer knows of reschedules by actions: which invitee is to be replaced, and how its successor is known. It
-- learns of them, and that one came to nothing, by the door.
CREATE TABLE slotwire.moves (
    action_id uuid PRIMARY KEY,
    org text NOT NULL,
    old_invitee text NOT NULL,
    tag text,
    event_type text NOT NULL,
    start_time timestamptz NOT NULL,
    person text NOT NULL, -- a digest of the folded e-mail address
    since timestamptz NOT NULL, -- when it was intended
    new_invitee text,
    ended boolean NOT NULL DEFAULT false
);
CREATE INDEX moves_org ON slotwire.moves (org, since);
CREATE INDEX moves_old ON slotwire.moves (old_invitee, org);

-- The server on which actions call without looking first. After a restore a key, and what was done with it, may be
-- forgotten; until somebody ends that, each action first looks whether its effect is there.
CREATE TABLE slotwire.actions_server (
    singleton boolean PRIMARY KEY DEFAULT true CONSTRAINT actions_server_is_one CHECK (singleton),
    server text NOT NULL, -- system identifier and timeline
    confirmed_at timestamptz
);
INSERT INTO slotwire.actions_server (server) VALUES (slotwire.server_identity());

CREATE FUNCTION slotwire.actions_remembered() RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT server = slotwire.server_identity() FROM slotwire.actions_server
$$;
REVOKE ALL ON FUNCTION slotwire.actions_remembered FROM PUBLIC;

-- Answers whether actions looked first before.
CREATE FUNCTION slotwire.remember_actions(p_now timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE slotwire.actions_server SET server = slotwire.server_identity(), confirmed_at = p_now
    WHERE server <> slotwire.server_identity();
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION slotwire.remember_actions FROM PUBLIC;

-- Commit an intent before its call: the action with the log's head, and for a reschedule what the writer is told. Answers
-- the id that the key has now; where it was taken, nothing is changed.
CREATE FUNCTION slotwire.intend_action(
    p_org text,
    p_now timestamptz,
    p_due timestamptz, -- until then it is its caller's
    p_action jsonb, -- {...columns of actions}
    p_move slotwire.accepting -- null: nothing for the writer
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
    v_id uuid;
BEGIN
    SELECT o.shard INTO STRICT v_shard FROM slotwire.organizations o WHERE o.org = p_org;
    INSERT INTO slotwire.actions (id, org, caller, key, fingerprint, verb, connection_id, user_uri, target, request, tag,
                                  state, step, step_at, called_at, head, calls, facts, due_at, intended_at)
    SELECT r.id, p_org, r.caller, r.key, r.fingerprint, r.verb, r.connection_id, r.user_uri, r.target, r.request, r.tag,
           'open', r.step, p_now, p_now,
           (SELECT h.last_event FROM slotwire.heads h WHERE h.shard = v_shard ORDER BY h.version DESC LIMIT 1),
           1, r.facts, p_due, p_now
    FROM jsonb_to_record(p_action) AS r (id uuid, caller text, key text, fingerprint bytea, verb text, connection_id uuid,
                                         user_uri text, target text, request jsonb, tag text, step text, facts jsonb)
    ON CONFLICT (org, caller, key) DO NOTHING RETURNING actions.id INTO v_id;
    IF v_id IS NULL THEN
        RETURN (SELECT a.id FROM slotwire.actions a
                WHERE a.org = p_org AND a.caller = p_action ->> 'caller' AND a.key = p_action ->> 'key');
    END IF;
    IF p_move.id IS NOT NULL THEN
        PERFORM slotwire.accept(v_shard, p_now, NULL, ARRAY[p_move]);
    END IF;
    RETURN v_id;
END
$$;
REVOKE ALL ON FUNCTION slotwire.intend_action FROM PUBLIC;

-- An action comes to something: its state changes, and the event that says so is accepted, all or nothing. Answers the
-- event's position; null where another process has the action by now.
CREATE FUNCTION slotwire.settle_action(
    p_id uuid,
    p_epoch bigint,
    p_now timestamptz,
    p_state text,
    p_reason text,
    p_evidence text,
    p_uris text[], -- the invitee, the scheduled event and the mark; null leaves one as it is
    p_decision text[], -- who decided and why; null where nobody did
    p_event slotwire.accepting
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
BEGIN
    UPDATE slotwire.actions a SET
        state = p_state, reason = p_reason, evidence = p_evidence, settled_at = p_now, due_at = NULL,
        settlements = a.settlements + 1, epoch = a.epoch + 1,
        invitee = coalesce(p_uris[1], a.invitee), scheduled_event = coalesce(p_uris[2], a.scheduled_event),
        mark = coalesce(p_uris[3], a.mark),
        decided_by = coalesce(p_decision[1], a.decided_by), note = coalesce(p_decision[2], a.note),
        request = CASE WHEN p_state IN ('not_seen', 'person') THEN a.request END
    FROM slotwire.organizations o
    WHERE a.id = p_id AND a.epoch = p_epoch AND a.org = p_event.org AND o.org = a.org
    RETURNING o.shard INTO v_shard;
    RETURN CASE WHEN FOUND THEN (slotwire.accept(v_shard, p_now, NULL, ARRAY[p_event])).last END;
END
$$;
REVOKE ALL ON FUNCTION slotwire.settle_action FROM PUBLIC;

-- Remove what was settled more than so many days ago, at most so many at once, and count it. What is open, or with a
-- person, stays.
CREATE FUNCTION slotwire.prune_actions(p_now timestamptz, p_days integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before CONSTANT timestamptz := p_now - make_interval(days => p_days);
    v_rows bigint;
BEGIN
    IF p_days < 30 THEN -- a caller may repeat a key so long
        RAISE EXCEPTION 'actions are kept for 30 days at least, not %', p_days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    DELETE FROM slotwire.actions WHERE id = ANY (ARRAY(
        SELECT id FROM slotwire.actions WHERE settled_at < v_before AND state <> 'person' LIMIT p_limit));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    DELETE FROM slotwire.moves m
    WHERE m.since < v_before AND NOT EXISTS (SELECT FROM slotwire.actions a WHERE a.id = m.action_id);
    RETURN v_rows;
END
$$;
REVOKE ALL ON FUNCTION slotwire.prune_actions FROM PUBLIC;

-- Append as `append` does, with what the writer has learnt of reschedules in the same transaction.
CREATE FUNCTION slotwire.append_moves(
    p_shard smallint,
    p_epoch bigint,
    p_version bigint,
    p_now timestamptz,
    p_position bigint,
    p_total bigint,
    p_results slotwire.new_result[],
    p_events slotwire.new_event[],
    p_bookings jsonb,
    p_roots jsonb,
    p_moves jsonb -- [{...columns of moves}]
) RETURNS TABLE (applied boolean, epoch bigint, version bigint, previous_event bigint, ids uuid[], positions bigint[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT * INTO applied, epoch, version, previous_event, ids, positions FROM slotwire.append(
        p_shard, p_epoch, p_version, p_now, p_position, p_total, p_results, p_events, p_bookings, p_roots);
    IF applied THEN
        INSERT INTO slotwire.moves AS m (action_id, org, old_invitee, tag, event_type, start_time, person, since,
                                         new_invitee, ended)
        SELECT r.action_id, r.org, r.old_invitee, r.tag, r.event_type, r.start_time, r.person, r.since, r.new_invitee,
               r.ended
        FROM jsonb_to_recordset(p_moves) AS r (
            action_id uuid, org text, old_invitee text, tag text, event_type text, start_time timestamptz, person text,
            since timestamptz, new_invitee text, ended boolean)
        ON CONFLICT (action_id) DO UPDATE SET new_invitee = excluded.new_invitee, ended = excluded.ended
        WHERE m.org = excluded.org;
    END IF;
    RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION slotwire.append_moves FROM PUBLIC;

GRANT SELECT ON slotwire.moves TO {relay}, {control};
GRANT EXECUTE ON FUNCTION slotwire.append_moves TO {relay};
GRANT SELECT ON slotwire.actions, slotwire.actions_server TO {control};
GRANT UPDATE (state, reason, step, step_at, called_at, head, calls, reads, read_at, accepted, facts, invitee, scheduled_event,
              epoch, due_at, settled_at, evidence) ON slotwire.actions TO {control};
GRANT EXECUTE ON FUNCTION slotwire.actions_remembered, slotwire.remember_actions, slotwire.intend_action,
    slotwire.settle_action, slotwire.prune_actions TO {control};
