-- The audit of credential uses, a partition a day, so that whole days go. What was written before is in
-- `credential_uses`, to which processes of the version before still add; rows go from there one by one as they age.
CREATE TABLE slotwire.uses (
    LIKE slotwire.credential_uses INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
    CONSTRAINT uses_by_time PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX uses_of_org ON slotwire.uses (org, id);
CREATE INDEX uses_of_user ON slotwire.uses (user_uri, id);
CREATE INDEX uses_of_actor ON slotwire.uses (actor, id);
CREATE INDEX uses_of_action ON slotwire.uses (action, id);
CREATE INDEX uses_of_people ON slotwire.uses USING gin (people) WHERE people <> '{}';

-- What comes while its day is not made, so that no call waits for that.
CREATE TABLE slotwire.uses_rest PARTITION OF slotwire.uses DEFAULT;
CREATE UNIQUE INDEX uses_rest_one_end ON slotwire.uses_rest (begun) WHERE begun IS NOT NULL;

-- The least id of a day: ids begin with the milliseconds since 1970, in 48 bits.
CREATE FUNCTION slotwire.first_use_of(p_day date) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (lpad(to_hex((p_day - '1970-01-01'::date)::bigint * 86400000), 12, '0') || repeat('0', 20))::uuid
$$;
REVOKE ALL ON FUNCTION slotwire.first_use_of FROM PUBLIC;

-- Make the partitions of uses of the coming days, as `make_ranges` does those of the log; answers how many were made. A
-- day of which something is among the rest already stays there.
CREATE FUNCTION slotwire.make_use_days(p_now timestamptz, p_ahead integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    v_today CONSTANT date := (p_now AT TIME ZONE 'UTC')::date;
    v_day date;
    v_name text;
    v_made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(1936487281);
    -- Of the past only yesterday, for a process whose clock is behind.
    FOR v_day IN SELECT v_today + n FROM generate_series(-1, p_ahead) AS n LOOP
        v_name := 'uses_' || to_char(v_day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('slotwire.' || v_name) IS NOT NULL OR EXISTS (
            SELECT FROM slotwire.uses_rest
            WHERE id >= slotwire.first_use_of(v_day) AND id < slotwire.first_use_of(v_day + 1));
        EXECUTE format('CREATE TABLE slotwire.%I (LIKE slotwire.uses INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', v_name);
        EXECUTE format('CREATE UNIQUE INDEX %I ON slotwire.%I (begun) WHERE begun IS NOT NULL',
                       v_name || '_one_end', v_name);
        EXECUTE format('ALTER TABLE slotwire.uses ATTACH PARTITION slotwire.%I FOR VALUES FROM (%L) TO (%L)',
                       v_name, slotwire.first_use_of(v_day), slotwire.first_use_of(v_day + 1));
        v_made := v_made + 1;
    END LOOP;
    RETURN v_made;
END
$$;
REVOKE ALL ON FUNCTION slotwire.make_use_days FROM PUBLIC;

-- The days of uses that have a partition.
CREATE FUNCTION slotwire.use_days() RETURNS SETOF date
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_date(substring(c.relname FROM '^uses_(\d{8})$'), 'YYYYMMDD')
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'slotwire.uses'::regclass AND c.relname ~ '^uses_\d{8}$' ORDER BY 1
$$;
REVOKE ALL ON FUNCTION slotwire.use_days FROM PUBLIC;

-- Drop the oldest day of uses that ended more than so many days ago; null where none may go. By the server's own clock
-- too, and never the last 30 days: whoever took over the one that calls it cannot remove its traces. Waits for a lock
-- for a moment only, because everybody else would queue behind it.
CREATE FUNCTION slotwire.drop_use_day(p_now timestamptz, p_days integer) RETURNS date
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    v_before CONSTANT date := (least(p_now, clock_timestamp()) - make_interval(days => p_days)) AT TIME ZONE 'UTC';
    v_day date;
BEGIN
    IF p_days < 30 THEN
        RAISE EXCEPTION 'the audit is kept for 30 days at least, not %', p_days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT d INTO v_day FROM slotwire.use_days() AS d WHERE d < v_before LIMIT 1;
    IF v_day IS NOT NULL THEN
        EXECUTE format('DROP TABLE slotwire.%I', 'uses_' || to_char(v_day, 'YYYYMMDD'));
    END IF;
    RETURN v_day;
END
$$;
REVOKE ALL ON FUNCTION slotwire.drop_use_day FROM PUBLIC;

-- Remove what is in no partition of a day, as `prune_uses` always did: rows of before, and of days that were not made.
CREATE OR REPLACE FUNCTION slotwire.prune_uses(p_now timestamptz, p_days integer, p_limit integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before CONSTANT timestamptz := least(p_now, clock_timestamp()) - make_interval(days => p_days);
    v_rows bigint;
    v_rest bigint;
BEGIN
    IF p_days < 30 THEN
        RAISE EXCEPTION 'the audit is kept for 30 days at least, not %', p_days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- In the order of ids: all before the oldest that stays are old, and a few that are out of order wait for it.
    DELETE FROM slotwire.credential_uses WHERE id IN (
        SELECT u.id FROM (SELECT o.id, o.at FROM slotwire.credential_uses o ORDER BY o.id LIMIT p_limit) AS u
        WHERE u.at < v_before);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    DELETE FROM slotwire.uses_rest WHERE id IN (
        SELECT u.id FROM (SELECT o.id, o.at FROM slotwire.uses_rest o ORDER BY o.id LIMIT p_limit) AS u
        WHERE u.at < v_before);
    GET DIAGNOSTICS v_rest = ROW_COUNT;
    RETURN v_rows + v_rest;
END
$$;
REVOKE ALL ON FUNCTION slotwire.prune_uses FROM PUBLIC;

SELECT slotwire.make_use_days(clock_timestamp(), 7);

GRANT SELECT, INSERT ON slotwire.uses TO {control};
GRANT EXECUTE ON FUNCTION slotwire.make_use_days, slotwire.use_days, slotwire.drop_use_day TO {control};
