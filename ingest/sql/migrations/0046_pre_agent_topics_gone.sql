-- Where agents begin is in `agent_starts`, by partition. No release knows the table before it, which had topics only.

-- The same as in 0043, of the agents that have begun anywhere; what is known of others' meetings loses the address, and stays.
CREATE OR REPLACE FUNCTION slotwire.erase_rows(p_erasure uuid, p_address text, p_now timestamptz) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e slotwire.erasures;
    v_subjects text[];
    v_keys text[];
    v_events uuid[];
    v_rows bigint;
    v_report jsonb := '{}';
BEGIN
    SELECT * INTO STRICT e FROM slotwire.erasures WHERE id = p_erasure;
    SELECT coalesce(array_agg(s.subject), '{}') INTO v_subjects FROM slotwire.erased_subjects s WHERE s.erasure = e.id;
    SELECT coalesce(array_agg(DISTINCT b.chain_key), '{}') INTO v_keys
    FROM slotwire.bookings b WHERE b.org = e.org AND b.invitee = ANY (v_subjects);
    SELECT coalesce(array_agg(o.event_id), '{}') INTO v_events
    FROM slotwire.events o WHERE o.subject = ANY (v_subjects) AND o.org = e.org AND o.type NOT LIKE '%.erased.%';

    INSERT INTO slotwire.inbox (agent, event_id, done_at)
    SELECT a.agent, v.event_id, p_now
    FROM (SELECT DISTINCT t.agent FROM slotwire.agent_starts t) AS a CROSS JOIN unnest(v_events) AS v (event_id)
    ORDER BY 1, 2
    ON CONFLICT (agent, event_id) DO NOTHING;

    -- Runs of these chains, and others whose event, results or answers have the address or an invitee of theirs.
    WITH ended AS (
        SELECT r.agent, r.event_id FROM slotwire.runs r
        WHERE r.org = e.org AND (
            r.subject = ANY (v_subjects) OR r.key = ANY (v_keys) OR r.event_id = ANY (v_events)
            OR slotwire.mentions(slotwire.text_of_journal(r.record), p_address)
            OR slotwire.mentions(concat_ws(E'\n', r.reason, r.note), p_address)
            OR EXISTS (SELECT FROM slotwire.run_entries n
                       WHERE n.agent = r.agent AND n.event_id = r.event_id
                         AND slotwire.tells_of(slotwire.text_of_journal(n.result), p_address, v_subjects))
            OR EXISTS (SELECT FROM slotwire.approvals a
                       WHERE a.agent = r.agent AND a.event_id = r.event_id
                         AND slotwire.tells_of(a.person || E'\n' || a.what, p_address, v_subjects)))
    ), marked AS (
        INSERT INTO slotwire.inbox (agent, event_id, done_at)
        SELECT d.agent, d.event_id, p_now FROM ended d ORDER BY 1, 2 ON CONFLICT (agent, event_id) DO NOTHING
    ), counted AS (
        SELECT (SELECT count(*) FROM slotwire.run_entries n JOIN ended d USING (agent, event_id) WHERE n.kind = 'wait') AS waits,
               (SELECT count(*) FROM slotwire.approvals a JOIN ended d USING (agent, event_id)) AS approvals
    ), gone AS (
        DELETE FROM slotwire.runs r USING ended d WHERE r.agent = d.agent AND r.event_id = d.event_id RETURNING 1
    )
    SELECT v_report || jsonb_build_object('runs', (SELECT count(*) FROM gone), 'waits', c.waits, 'approvals', c.approvals)
    INTO v_report FROM counted c;

    -- What is about others and only has the address in it loses that, and goes on.
    DELETE FROM slotwire.agent_queue q WHERE q.event_id = ANY (v_events);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_report := v_report || jsonb_build_object('queued', v_rows);
    UPDATE slotwire.agent_queue q
    SET value = convert_to(slotwire.without_address(slotwire.text_of(q.value), p_address), 'UTF8')
    FROM slotwire.identities i JOIN slotwire.events o ON o.shard = i.shard AND o.position = i.position
    WHERE i.event_id = q.event_id AND o.org = e.org AND slotwire.mentions(slotwire.text_of(q.value), p_address);

    UPDATE slotwire.dead_letters d SET
        state = 'discarded', note = 'erased', changed_at = p_now, value = NULL, trace = '', reason = 'erased',
        edited_value = NULL, edited_at = NULL, edited_by = NULL
    WHERE d.org = e.org AND (d.subject = ANY (v_subjects) OR d.event_id = ANY (v_events))
      AND (d.state <> 'discarded' OR d.value IS NOT NULL);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_report := v_report || jsonb_build_object('dead_letters', v_rows);
    UPDATE slotwire.dead_letters d SET
        value = convert_to(slotwire.without_address(slotwire.text_of(d.value), p_address), 'UTF8'),
        edited_value = convert_to(slotwire.without_address(slotwire.text_of(d.edited_value), p_address), 'UTF8'),
        reason = slotwire.without_address(d.reason, p_address), trace = slotwire.without_address(d.trace, p_address),
        note = slotwire.without_address(d.note, p_address)
    WHERE d.org = e.org AND (
        slotwire.mentions(slotwire.text_of(d.value), p_address)
        OR slotwire.mentions(slotwire.text_of(d.edited_value), p_address)
        OR slotwire.mentions(concat_ws(E'\n', d.reason, d.trace, d.note), p_address));

    DELETE FROM slotwire.agent_state a
    WHERE a.org = e.org AND (a.key = ANY (v_keys) OR slotwire.tells_of(a.value, p_address, v_subjects));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_report := v_report || jsonb_build_object('states', v_rows);

    UPDATE slotwire.quarantine q SET
        body = '', detail = '', state = CASE WHEN q.state = 'waiting' THEN 'discarded' ELSE q.state END,
        settled_at = coalesce(q.settled_at, p_now), note = 'erased'
    WHERE q.org = e.org AND q.body <> '' AND (
        q.event_id = ANY (v_events) OR slotwire.tells_of(slotwire.text_of(q.body), p_address, v_subjects)
        OR slotwire.mentions(q.note, p_address));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_report := v_report || jsonb_build_object('quarantined', v_rows);

    -- Of an action that is over only what was known before and who decided why is left. One that waits for a person ends.
    UPDATE slotwire.actions a SET
        state = CASE WHEN a.state IN ('person', 'not_seen') THEN 'not_done' ELSE a.state END,
        reason = CASE WHEN a.state IN ('person', 'not_seen') THEN 'erased' ELSE a.reason END,
        decided_by = CASE WHEN a.state IN ('person', 'not_seen') THEN e.asked_by ELSE a.decided_by END,
        note = CASE WHEN a.state IN ('person', 'not_seen') OR a.note IS NOT NULL THEN 'erased' END,
        request = NULL, facts = '{}'
    WHERE a.org = e.org AND a.state NOT IN ('open', 'not_sent') AND (a.request IS NOT NULL OR a.facts <> '{}' OR a.note IS NOT NULL)
      AND (a.target = ANY (v_subjects) OR a.invitee = ANY (v_subjects)
           OR slotwire.mentions(concat_ws(E'\n', a.request::text, a.facts::text, a.reason, a.note), p_address));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_report := v_report || jsonb_build_object('actions', v_rows, 'under_way', (
        SELECT count(*) FROM slotwire.actions a
        WHERE a.org = e.org AND a.state IN ('open', 'not_sent')
          AND (a.target = ANY (v_subjects) OR a.invitee = ANY (v_subjects)
               OR slotwire.mentions(concat_ws(E'\n', a.request::text, a.facts::text), p_address))));
    UPDATE slotwire.moves m SET person = '', ended = true
    WHERE m.org = e.org AND m.person <> '' AND (m.old_invitee = ANY (v_subjects) OR m.new_invitee = ANY (v_subjects));

    DELETE FROM slotwire.upcoming_meetings m
    WHERE m.org = e.org AND m.scheduled_event IN (SELECT b.scheduled_event FROM slotwire.bookings b
                                                  WHERE b.org = e.org AND b.invitee = ANY (v_subjects));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    UPDATE slotwire.upcoming_meetings m SET told = slotwire.without_address(m.told::text, p_address)::jsonb
    WHERE m.org = e.org AND slotwire.mentions(m.told::text, p_address);
    v_report := v_report || jsonb_build_object('meetings', v_rows);
    RETURN v_report;
END
$$;
REVOKE ALL ON FUNCTION slotwire.erase_rows FROM PUBLIC;

-- squawk-ignore ban-drop-table
DROP TABLE slotwire.agent_topics;
