-- When users can be booked: busy times and open slots of each user and event type, as last read at Calendly, and the topic
-- `slotwire.availability` with the same. The agent `availability-sync` writes both: each organization has one writer at a
-- time, and every change names the epoch it was given, so that one which was taken for dead changes nothing any more.

CREATE TABLE slotwire.availability_writers (
    org text PRIMARY KEY REFERENCES slotwire.organizations (org),
    epoch bigint NOT NULL DEFAULT 1, -- grows with each writer
    writer text NOT NULL CONSTRAINT availability_writer_short CHECK (length(writer) <= 200),
    held_until timestamptz, -- null: nobody writes
    listed_at timestamptz, -- when the event types were last listed
    list_due_since timestamptz -- since when something says that the list has changed
);

CREATE TABLE slotwire.availability (
    org text NOT NULL REFERENCES slotwire.organizations (org),
    user_uri text NOT NULL CONSTRAINT availability_user_short CHECK (length(user_uri) <= 2000),
    event_type text NOT NULL CONSTRAINT availability_event_type_short CHECK (length(event_type) <= 2000),
    ends timestamptz, -- up to when it is known; null: it was not read yet
    slots jsonb NOT NULL DEFAULT '[]'
        CONSTRAINT availability_slots_short CHECK (octet_length(slots::text) <= 524288),
    busy jsonb NOT NULL DEFAULT '[]'
        CONSTRAINT availability_busy_short CHECK (octet_length(busy::text) <= 524288),
    read_at timestamptz, -- when Calendly last said so
    due_since timestamptz, -- since when something says that it has changed
    gone boolean NOT NULL DEFAULT false, -- until its tombstone is in the topic
    version bigint NOT NULL DEFAULT 0, -- grows with each change of what is published
    published bigint NOT NULL DEFAULT 0, -- the version that the topic has
    PRIMARY KEY (org, user_uri, event_type)
);
CREATE INDEX availability_read_at ON slotwire.availability (read_at) WHERE NOT gone;

-- Become the writer of an organization, unless another one holds it; answers the epoch, or null.
CREATE FUNCTION slotwire.hold_availability(p_org text, p_writer text, p_now timestamptz, p_until timestamptz) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO slotwire.availability_writers AS w (org, writer, held_until)
    SELECT o.org, p_writer, p_until FROM slotwire.organizations o WHERE o.org = p_org
    ON CONFLICT (org) DO UPDATE SET epoch = w.epoch + 1, writer = excluded.writer, held_until = excluded.held_until
    WHERE w.held_until IS NULL OR w.held_until <= p_now
    RETURNING w.epoch
$$;
REVOKE ALL ON FUNCTION slotwire.hold_availability FROM PUBLIC;

-- End it.
CREATE FUNCTION slotwire.leave_availability(p_org text, p_epoch bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE slotwire.availability_writers SET held_until = NULL WHERE org = p_org AND epoch = p_epoch
$$;
REVOKE ALL ON FUNCTION slotwire.leave_availability FROM PUBLIC;

-- Something happened that may have changed when a user can be booked: what is known of them is read again soon. With an
-- event type, of that alone; with neither, the list of event types is read again.
CREATE FUNCTION slotwire.availability_changed(p_org text, p_user text, p_event_type text, p_now timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_user IS NULL THEN
        UPDATE slotwire.availability_writers SET list_due_since = coalesce(list_due_since, p_now) WHERE org = p_org;
    END IF;
    UPDATE slotwire.availability SET due_since = coalesce(due_since, p_now)
    WHERE org = p_org AND NOT gone AND (user_uri = p_user OR event_type = p_event_type);
END
$$;
REVOKE ALL ON FUNCTION slotwire.availability_changed FROM PUBLIC;

-- Write what was read, as the writer of an epoch; answers false where another one has taken over.
CREATE FUNCTION slotwire.write_availability(p_org text, p_epoch bigint, p_begun timestamptz, p_listed boolean, p_rows jsonb,
                                            p_until timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE slotwire.availability_writers SET
        held_until = p_until,
        listed_at = CASE WHEN p_listed THEN p_begun ELSE listed_at END,
        -- What was noticed after that began is still to be read.
        list_due_since = CASE WHEN NOT p_listed OR list_due_since > p_begun THEN list_due_since END
    WHERE org = p_org AND epoch = p_epoch;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO slotwire.availability AS a (org, user_uri, event_type, ends, slots, busy, read_at, gone, version)
    SELECT p_org, r.user_uri, r.event_type, r.ends, r.slots, r.busy, r.read_at, r.gone, r.changed::int
    FROM jsonb_to_recordset(p_rows) AS r (user_uri text, event_type text, ends timestamptz, slots jsonb, busy jsonb,
                                          read_at timestamptz, gone boolean, changed boolean)
    ON CONFLICT (org, user_uri, event_type) DO UPDATE SET
        ends = excluded.ends, slots = excluded.slots, busy = excluded.busy, read_at = excluded.read_at,
        gone = excluded.gone, version = a.version + excluded.version,
        due_since = CASE WHEN a.due_since > p_begun THEN a.due_since END;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION slotwire.write_availability FROM PUBLIC;

-- What the topic does not have yet, if this is still the writer's epoch: asked after the broker has shut out all others.
CREATE FUNCTION slotwire.unpublished_availability(p_org text, p_epoch bigint, p_limit integer)
RETURNS SETOF slotwire.availability
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.* FROM slotwire.availability a
    JOIN slotwire.availability_writers w ON w.org = a.org AND w.epoch = p_epoch
    WHERE a.org = p_org AND a.version > a.published ORDER BY a.user_uri, a.event_type LIMIT p_limit
$$;
REVOKE ALL ON FUNCTION slotwire.unpublished_availability FROM PUBLIC;

-- Note what the topic has; what is gone, and has its tombstone there, is removed.
CREATE FUNCTION slotwire.published_availability(p_org text, p_epoch bigint, p_rows jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM slotwire.availability_writers WHERE org = p_org AND epoch = p_epoch FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE slotwire.availability a SET published = r.version
    FROM jsonb_to_recordset(p_rows) AS r (user_uri text, event_type text, version bigint)
    WHERE a.org = p_org AND (a.user_uri, a.event_type) = (r.user_uri, r.event_type);
    DELETE FROM slotwire.availability WHERE org = p_org AND gone AND published = version;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION slotwire.published_availability FROM PUBLIC;

GRANT SELECT ON slotwire.availability, slotwire.availability_writers TO {agents}, {control};
GRANT EXECUTE ON FUNCTION slotwire.hold_availability, slotwire.leave_availability, slotwire.availability_changed,
    slotwire.write_availability, slotwire.unpublished_availability, slotwire.published_availability TO {agents};
