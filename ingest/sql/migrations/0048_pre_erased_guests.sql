-- Guests who were erased: their addresses do not come in again with the bookings of others.

-- The same as in 0043; deliveries about others lose the addresses of guests, too. No release calls the one of before.
-- squawk-ignore ban-drop-function
DROP FUNCTION slotwire.append_erased(
    smallint, bigint, bigint, timestamptz, bigint, bigint, slotwire.new_result[], slotwire.new_event[],
    jsonb, jsonb, jsonb, bigint[], jsonb
);
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
    p_subjects jsonb, -- [{subject, org, erasure}]: what they are about, and by which erasure
    p_guests jsonb -- [{position, address}]: deliveries about others, and whose address goes out of their bodies
) RETURNS TABLE (applied boolean, epoch bigint, version bigint, previous_event bigint, ids uuid[], positions bigint[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g record;
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
        FOR g IN SELECT r.position, r.address FROM jsonb_to_recordset(p_guests) AS r (position bigint, address text) LOOP
            UPDATE slotwire.quarantine q
            SET body = convert_to(slotwire.without_address(slotwire.text_of(q.body), g.address), 'UTF8')
            FROM slotwire.deliveries d
            WHERE d.shard = p_shard AND d.position = g.position AND q.delivery_id IN (d.id, d.original);
            UPDATE slotwire.deliveries d
            SET body = convert_to(slotwire.without_address(slotwire.text_of(d.body), g.address), 'UTF8')
            WHERE d.shard = p_shard AND d.position = g.position AND d.body IS NOT NULL;
        END LOOP;
    END IF;
    RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION slotwire.append_erased FROM PUBLIC;

GRANT EXECUTE ON FUNCTION slotwire.append_erased TO {relay};
-- Sweeps of meetings ask, too.
GRANT EXECUTE ON FUNCTION slotwire.erased_among TO {control};
