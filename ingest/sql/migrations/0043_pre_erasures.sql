-- Erasing a person: who was erased, which the writer consults from then on, and what takes their data out of every table.

-- Hashes of addresses are made with this key. The functions here read it, and no role does.
CREATE TABLE slotwire.erasure_key (
    singleton boolean PRIMARY KEY DEFAULT true CONSTRAINT erasure_key_is_one CHECK (singleton),
    key bytea NOT NULL
);
INSERT INTO slotwire.erasure_key (key) VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

-- Whom somebody asked to erase. What was booked with the address until then is erased, also where it comes in later.
CREATE TABLE slotwire.erasures (
    id uuid PRIMARY KEY, -- in order of time
    org text NOT NULL REFERENCES slotwire.organizations (org),
    person bytea, -- a keyed hash of the address; null where only one invitee was named
    state text NOT NULL DEFAULT 'open' CONSTRAINT erasures_state CHECK (state IN ('open', 'done')),
    asked_at timestamptz NOT NULL,
    asked_by text NOT NULL,
    done_at timestamptz,
    report jsonb NOT NULL DEFAULT '{}', -- how much of what was erased or ended
    CONSTRAINT erasures_done CHECK ((state = 'done') = (done_at IS NOT NULL))
);
CREATE INDEX erasures_org ON slotwire.erasures (org, id);
CREATE INDEX erasures_person ON slotwire.erasures (org, person);

-- What a person's data is about: their invitees, contacts and submissions, by URI. All that comes in about these loses it.
CREATE TABLE slotwire.erased_subjects (
    subject text NOT NULL CONSTRAINT erased_subjects_short CHECK (length(subject) <= 2000),
    org text NOT NULL,
    erasure uuid NOT NULL, -- the first that found it
    PRIMARY KEY (subject, org)
);
CREATE INDEX erased_subjects_erasure ON slotwire.erased_subjects (erasure);

-- The hash of a folded address, within an organization.
CREATE FUNCTION slotwire.person_of(p_org text, p_address text) RETURNS bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(k.key || sha256(k.key || convert_to(p_org || E'\n' || p_address, 'UTF8'))) FROM slotwire.erasure_key k
$$;
REVOKE ALL ON FUNCTION slotwire.person_of FROM PUBLIC;

-- Octets as text; what is no text is written out.
CREATE FUNCTION slotwire.text_of(p_what bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN convert_from(p_what, 'UTF8');
EXCEPTION WHEN OTHERS THEN
    RETURN encode(p_what, 'escape');
END
$$;
REVOKE ALL ON FUNCTION slotwire.text_of FROM PUBLIC;

-- What a journal has of an event that it stored whole, as text: its value is base64 there.
CREATE FUNCTION slotwire.text_of_journal(p_what bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_text CONSTANT text := slotwire.text_of(p_what);
BEGIN
    RETURN concat_ws(E'\n', v_text, slotwire.text_of(decode(v_text::json ->> 'value', 'base64')),
                     slotwire.text_of(decode(v_text::json ->> 'elsewhere', 'base64')));
EXCEPTION WHEN OTHERS THEN -- what a step returned
    RETURN v_text;
END
$$;
REVOKE ALL ON FUNCTION slotwire.text_of_journal FROM PUBLIC;

-- A folded address as a pattern that finds it alone, in JSON too, and not within a longer address.
CREATE FUNCTION slotwire.address_pattern(p_address text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT '(^|[^a-z0-9._%+-]|\\+[nrtbf]|\\+u[0-9a-f]{4})'
        || regexp_replace(p_address, '([^[:alnum:]@])', '\\\1', 'g') || '(?!\.?[a-z0-9-])'
$$;
REVOKE ALL ON FUNCTION slotwire.address_pattern FROM PUBLIC;

-- Whether a text has an address in it; null for the address: it has not.
CREATE FUNCTION slotwire.mentions(p_text text, p_address text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(position(p_address IN lower(p_text)) > 0 AND p_text ~* slotwire.address_pattern(p_address), false)
$$;
REVOKE ALL ON FUNCTION slotwire.mentions FROM PUBLIC;

-- Whether a text has the address or one of some URIs in it.
CREATE FUNCTION slotwire.tells_of(p_text text, p_address text, p_uris text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT slotwire.mentions(p_text, p_address)
        OR coalesce((SELECT bool_or(position(u IN p_text) > 0) FROM unnest(p_uris) AS u), false)
$$;
REVOKE ALL ON FUNCTION slotwire.tells_of FROM PUBLIC;

-- The text without the address.
CREATE FUNCTION slotwire.without_address(p_text text, p_address text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT regexp_replace(p_text, slotwire.address_pattern(p_address), '\1erased', 'gi')
$$;
REVOKE ALL ON FUNCTION slotwire.without_address FROM PUBLIC;

-- Who cancelled is left as a kind, and when.
CREATE FUNCTION slotwire.cancellation_without_person(p_data json) RETURNS json
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN json_typeof(p_data) = 'object' THEN
        json_build_object('canceler_type', p_data -> 'canceler_type', 'created_at', p_data -> 'created_at') END
$$;
REVOKE ALL ON FUNCTION slotwire.cancellation_without_person FROM PUBLIC;

-- What is left of data about an invitee: URIs, times, states, and who hosts. The writer leaves the same:
-- ingest/log/erased.py.
CREATE FUNCTION slotwire.without_person(p_data json) RETURNS json
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_strip_nulls(json_build_object(
        'uri', p_data -> 'uri', 'status', p_data -> 'status', 'event', p_data -> 'event',
        'created_at', p_data -> 'created_at', 'updated_at', p_data -> 'updated_at',
        'rescheduled', p_data -> 'rescheduled', 'old_invitee', p_data -> 'old_invitee',
        'new_invitee', p_data -> 'new_invitee', 'no_show', CASE WHEN json_typeof(p_data -> 'no_show') = 'object' THEN
            json_build_object('uri', p_data -> 'no_show' -> 'uri', 'created_at', p_data -> 'no_show' -> 'created_at') END,
        'scheduling_method', p_data -> 'scheduling_method', 'invitee_scheduled_by', p_data -> 'invitee_scheduled_by',
        'routing_form_submission', p_data -> 'routing_form_submission', 'part_of_action', p_data -> 'part_of_action',
        'cleared_mark', p_data -> 'cleared_mark', 'cleared_at', p_data -> 'cleared_at', 'booking', p_data -> 'booking',
        'cancellation', slotwire.cancellation_without_person(p_data -> 'cancellation'),
        'scheduled_event', CASE WHEN json_typeof(p_data -> 'scheduled_event') = 'object' THEN json_build_object(
            'uri', p_data -> 'scheduled_event' -> 'uri', 'status', p_data -> 'scheduled_event' -> 'status',
            'start_time', p_data -> 'scheduled_event' -> 'start_time',
            'end_time', p_data -> 'scheduled_event' -> 'end_time',
            'event_type', p_data -> 'scheduled_event' -> 'event_type',
            'created_at', p_data -> 'scheduled_event' -> 'created_at',
            'updated_at', p_data -> 'scheduled_event' -> 'updated_at',
            'location', CASE WHEN json_typeof(p_data -> 'scheduled_event' -> 'location') = 'object' THEN
                json_build_object('type', p_data -> 'scheduled_event' -> 'location' -> 'type') END,
            'event_memberships', p_data -> 'scheduled_event' -> 'event_memberships',
            'invitees_counter', p_data -> 'scheduled_event' -> 'invitees_counter',
            'cancellation', slotwire.cancellation_without_person(p_data -> 'scheduled_event' -> 'cancellation')) END))
$$;
REVOKE ALL ON FUNCTION slotwire.without_person FROM PUBLIC;

-- What is left of data about a contact, a submission or a recap.
CREATE FUNCTION slotwire.resource_without_person(p_data json) RETURNS json
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT json_strip_nulls(json_build_object(
        'uri', p_data -> 'uri', 'routing_form', p_data -> 'routing_form', 'created_at', p_data -> 'created_at',
        'updated_at', p_data -> 'updated_at', 'deleted_at', p_data -> 'deleted_at'))
$$;
REVOKE ALL ON FUNCTION slotwire.resource_without_person FROM PUBLIC;

-- What is left of a body that was received: an envelope whose payload has lost the person's data, or nothing. (A clear that
-- waits for its mark is read again.)
CREATE FUNCTION slotwire.body_without_person(p_body bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_told CONSTANT json := convert_from(p_body, 'UTF8')::json;
BEGIN
    RETURN CASE WHEN json_typeof(v_told -> 'payload') = 'object' AND v_told ->> 'event' LIKE 'invitee%' THEN convert_to(
        json_strip_nulls(json_build_object(
            'event', v_told -> 'event', 'created_at', v_told -> 'created_at',
            'payload', slotwire.without_person(v_told -> 'payload')))::text, 'UTF8') ELSE '' END;
EXCEPTION WHEN OTHERS THEN
    RETURN '';
END
$$;
REVOKE ALL ON FUNCTION slotwire.body_without_person FROM PUBLIC;

-- Begin: from the commit on the writer takes the data out of whatever it writes. Goes on with an erasure of the same that
-- did not end. Answers its id, and the position of the last of the organization's deliveries that is not settled yet, null for
-- none; no row: there is no such organization.
CREATE FUNCTION slotwire.begin_erasure(
    p_id uuid, p_org text, p_address text, p_subjects text[], p_by text, p_now timestamptz
) RETURNS TABLE (erasure uuid, shard smallint, accepted bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_person CONSTANT bytea := slotwire.person_of(p_org, p_address);
BEGIN
    SELECT o.shard INTO shard FROM slotwire.organizations o WHERE o.org = p_org;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('slotwire erasures ' || p_org, 0));
    SELECT e.id INTO erasure FROM slotwire.erasures e
    WHERE e.org = p_org AND e.state = 'open' AND (
        (p_address IS NOT NULL AND e.person = v_person)
        OR (p_address IS NULL AND e.person IS NULL AND EXISTS (
            SELECT FROM slotwire.erased_subjects s WHERE s.erasure = e.id AND s.subject = ANY (p_subjects))))
    ORDER BY e.id LIMIT 1;
    IF erasure IS NULL THEN
        erasure := p_id;
        INSERT INTO slotwire.erasures (id, org, person, asked_at, asked_by) VALUES (p_id, p_org, v_person, p_now, p_by);
    END IF;
    INSERT INTO slotwire.erased_subjects AS s (subject, org, erasure)
    SELECT u, p_org, begin_erasure.erasure FROM unnest(p_subjects) AS u
    ON CONFLICT (subject, org) DO UPDATE SET erasure = excluded.erasure;
    -- What was found for the same person before is gone through again.
    UPDATE slotwire.erased_subjects s SET erasure = begin_erasure.erasure
    WHERE s.erasure IN (SELECT e.id FROM slotwire.erasures e WHERE e.org = p_org AND e.person = v_person);
    -- Whoever is being accepted is waited for: all that comes later finds what this commits.
    PERFORM pg_advisory_xact_lock(1936487278, begin_erasure.shard);
    SELECT max(d.position) INTO accepted FROM slotwire.deliveries d
    WHERE d.shard = begin_erasure.shard AND d.org = p_org AND d.position > (
        SELECT h.position FROM slotwire.heads h WHERE h.shard = begin_erasure.shard ORDER BY h.version DESC LIMIT 1);
    RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION slotwire.begin_erasure FROM PUBLIC;

-- Whether a subject, or what was made with an address, was erased: for each that was, its number, by which erasure, and until
-- when what was made is erased; null where all is.
CREATE FUNCTION slotwire.erased_among(p_orgs text[], p_subjects text[], p_addresses text[])
RETURNS TABLE (number bigint, erasure uuid, until timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.number, coalesce(s.erasure, e.id), CASE WHEN s.subject IS NULL THEN e.asked_at END
    FROM unnest(p_orgs, p_subjects, p_addresses) WITH ORDINALITY AS n (org, subject, address, number)
    LEFT JOIN slotwire.erased_subjects s ON s.subject = n.subject AND s.org = n.org
    LEFT JOIN LATERAL (
        SELECT o.id, o.asked_at FROM slotwire.erasures o
        WHERE o.org = n.org AND o.person = slotwire.person_of(n.org, n.address) ORDER BY o.id DESC LIMIT 1
    ) AS e ON true
    WHERE EXISTS (SELECT FROM slotwire.erasures) AND (s.subject IS NOT NULL OR e.asked_at IS NOT NULL)
$$;
REVOKE ALL ON FUNCTION slotwire.erased_among FROM PUBLIC;

-- The same as append_moves, of deliveries some of which were about somebody who was erased: their bodies lose the data, and
-- what they are about is known as erased from then on.
CREATE FUNCTION slotwire.append_erased(
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
    p_moves jsonb,
    p_erased bigint[], -- positions of these deliveries
    p_subjects jsonb -- [{subject, org, erasure}]: what they are about, and by which erasure
) RETURNS TABLE (applied boolean, epoch bigint, version bigint, previous_event bigint, ids uuid[], positions bigint[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT * INTO applied, epoch, version, previous_event, ids, positions FROM slotwire.append_moves(
        p_shard, p_epoch, p_version, p_now, p_position, p_total, p_results, p_events, p_bookings, p_roots, p_moves);
    IF applied THEN
        UPDATE slotwire.quarantine q SET body = slotwire.body_without_person(q.body), detail = ''
        FROM slotwire.deliveries d
        WHERE d.shard = p_shard AND d.position = ANY (p_erased) AND q.delivery_id IN (d.id, d.original);
        UPDATE slotwire.deliveries d SET body = slotwire.body_without_person(d.body)
        WHERE d.shard = p_shard AND d.position = ANY (p_erased) AND d.body IS NOT NULL;
        INSERT INTO slotwire.erased_subjects (subject, org, erasure)
        SELECT r.subject, r.org, r.erasure
        FROM jsonb_to_recordset(p_subjects) AS r (subject text, org text, erasure uuid)
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION slotwire.append_erased FROM PUBLIC;

-- Find what the person's data is about, among the events of one type after a position; answers the last that was looked
-- at, null after all of them. Invitees are found by their own address, with the form that led to their booking; a contact,
-- a submission and a recap by an address that is in it.
CREATE FUNCTION slotwire.find_erased(p_erasure uuid, p_address text, p_type text, p_after bigint, p_limit integer)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e slotwire.erasures;
    v_last bigint;
BEGIN
    SELECT * INTO STRICT e FROM slotwire.erasures WHERE id = p_erasure;
    WITH page AS MATERIALIZED (
        SELECT o.position, o.subject, o.data FROM slotwire.events o
        WHERE o.org = e.org AND o.type = p_type AND o.position > p_after ORDER BY o.position LIMIT p_limit
    ), theirs AS (
        SELECT p.subject, slotwire.text_of(p.data)::json ->> 'routing_form_submission' AS submission FROM page p
        WHERE slotwire.mentions(slotwire.text_of(p.data), p_address)
          AND (p_type NOT LIKE '%.invitee%' OR lower(btrim(slotwire.text_of(p.data)::json ->> 'email')) = p_address)
    ), found AS (
        INSERT INTO slotwire.erased_subjects (subject, org, erasure)
        SELECT t.subject, e.org, e.id FROM theirs t
        UNION SELECT t.submission, e.org, e.id FROM theirs t WHERE length(t.submission) <= 2000
        ON CONFLICT DO NOTHING
    )
    SELECT max(p.position) INTO v_last FROM page p;
    RETURN v_last;
END
$$;
REVOKE ALL ON FUNCTION slotwire.find_erased FROM PUBLIC;

-- The invitees of an erasure with their chains' keys, for the events that tell of it.
CREATE FUNCTION slotwire.erased_invitees(p_erasure uuid) RETURNS TABLE (invitee text, chain_key text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.invitee, b.chain_key FROM slotwire.erased_subjects s
    JOIN slotwire.bookings b ON b.invitee = s.subject AND b.org = s.org
    WHERE s.erasure = p_erasure ORDER BY b.invitee
$$;
REVOKE ALL ON FUNCTION slotwire.erased_invitees FROM PUBLIC;

-- Take the data out of the events of one type after a position, and out of what others told of the person there. Answers
-- the last that was looked at, null after all of them, and how many were changed.
CREATE FUNCTION slotwire.erase_events(p_erasure uuid, p_address text, p_type text, p_after bigint, p_limit integer)
RETURNS TABLE (last bigint, erased bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e slotwire.erasures;
BEGIN
    SELECT * INTO STRICT e FROM slotwire.erasures WHERE id = p_erasure;
    WITH page AS MATERIALIZED (
        SELECT o.shard, o.position, slotwire.text_of(o.data) AS told,
               p_type NOT LIKE 'io.slotwire.%' AND EXISTS (
                   SELECT FROM slotwire.erased_subjects s WHERE s.subject = o.subject AND s.org = o.org AND s.erasure = e.id
               ) AS own
        FROM slotwire.events o
        WHERE o.org = e.org AND o.type = p_type AND o.position > p_after ORDER BY o.position LIMIT p_limit
    ), fewer AS MATERIALIZED (
        SELECT p.shard, p.position, convert_to(CASE
            WHEN NOT p.own THEN slotwire.without_address(p.told, p_address)
            WHEN p_type LIKE '%.invitee%' THEN slotwire.without_person(p.told::json)::text
            ELSE slotwire.resource_without_person(p.told::json)::text END, 'UTF8') AS data
        FROM page p WHERE p.own OR slotwire.mentions(p.told, p_address)
    ), changed AS (
        UPDATE slotwire.events o SET data = f.data FROM fewer f
        WHERE o.shard = f.shard AND o.position = f.position AND o.data <> f.data
        RETURNING 1
    )
    SELECT (SELECT max(p.position) FROM page p), (SELECT count(*) FROM changed) INTO last, erased;
    RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION slotwire.erase_events FROM PUBLIC;

-- Take the data out of the bodies of an organization's settled deliveries after a position. Answers as erase_events.
CREATE FUNCTION slotwire.erase_deliveries(
    p_erasure uuid, p_address text, p_outcome text, p_after bigint, p_limit integer
) RETURNS TABLE (last bigint, erased bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e slotwire.erasures;
BEGIN
    SELECT * INTO STRICT e FROM slotwire.erasures WHERE id = p_erasure;
    WITH page AS MATERIALIZED (
        SELECT r.shard, r.position, r.subject FROM slotwire.results r
        WHERE r.org = e.org AND r.outcome = p_outcome AND r.position > p_after
        ORDER BY r.position LIMIT p_limit
    ), bodies AS MATERIALIZED (
        SELECT d.shard, d.position, d.body, slotwire.text_of(d.body) AS told, EXISTS (
                   SELECT FROM slotwire.erased_subjects s WHERE s.subject = p.subject AND s.org = e.org AND s.erasure = e.id
               ) AS own
        FROM page p JOIN slotwire.deliveries d ON d.shard = p.shard AND d.position = p.position
        WHERE d.body <> ''
    ), fewer AS MATERIALIZED (
        SELECT b.shard, b.position, CASE
            WHEN b.own THEN slotwire.body_without_person(b.body)
            WHEN p_outcome = 'quarantined' THEN ''
            ELSE convert_to(slotwire.without_address(b.told, p_address), 'UTF8') END AS body
        FROM bodies b WHERE b.own OR slotwire.mentions(b.told, p_address)
    ), changed AS (
        UPDATE slotwire.deliveries d SET body = f.body FROM fewer f
        WHERE d.shard = f.shard AND d.position = f.position AND d.body <> f.body
        RETURNING 1
    )
    SELECT (SELECT max(p.position) FROM page p), (SELECT count(*) FROM changed) INTO last, erased;
    RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION slotwire.erase_deliveries FROM PUBLIC;

-- End what agents and operators have of the person, everywhere but in the log: in one transaction. The marks in the inbox
-- come first, so that no agent begins with one of the person's events, and whoever is at work on one is waited for. Counts
-- by what; `under_way` counts actions that are to end first.
CREATE FUNCTION slotwire.erase_rows(p_erasure uuid, p_address text, p_now timestamptz) RETURNS jsonb
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
    FROM (SELECT DISTINCT t.agent FROM slotwire.agent_topics t) AS a CROSS JOIN unnest(v_events) AS v (event_id)
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
    WHERE m.org = e.org AND (
        slotwire.mentions(m.told::text, p_address)
        OR m.scheduled_event IN (SELECT b.scheduled_event FROM slotwire.bookings b
                                 WHERE b.org = e.org AND b.invitee = ANY (v_subjects)));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_report := v_report || jsonb_build_object('meetings', v_rows);
    RETURN v_report;
END
$$;
REVOKE ALL ON FUNCTION slotwire.erase_rows FROM PUBLIC;

-- The end of an erasure, with the events that tell agents of it, both or neither; what it counted is added up. Answers
-- whether it was open.
CREATE FUNCTION slotwire.end_erasure(p_erasure uuid, p_report jsonb, p_now timestamptz, p_rows slotwire.accepting[])
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
BEGIN
    UPDATE slotwire.erasures e SET state = 'done', done_at = p_now, report = p_report
    FROM slotwire.organizations o
    WHERE e.id = p_erasure AND e.state = 'open' AND o.org = e.org RETURNING o.shard INTO v_shard;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF cardinality(p_rows) > 0 THEN
        PERFORM slotwire.accept(v_shard, p_now, NULL, p_rows);
    END IF;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION slotwire.end_erasure FROM PUBLIC;

GRANT EXECUTE ON FUNCTION slotwire.erased_among, slotwire.append_erased TO {relay};
GRANT SELECT ON slotwire.erasures, slotwire.erased_subjects TO {control};
GRANT EXECUTE ON FUNCTION slotwire.begin_erasure, slotwire.find_erased, slotwire.erased_invitees, slotwire.erase_events,
    slotwire.erase_deliveries, slotwire.erase_rows, slotwire.end_erasure TO {control};
