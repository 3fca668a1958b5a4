-- What the subscription manager remembers from round to round: what a subscription replaces and what became of it, who
-- may change an organization's subscriptions now, and on which server deletions were confirmed.

ALTER TABLE slotwire.subscriptions
    ADD COLUMN replaces uuid, -- the one whose place it takes
    ADD COLUMN retrying_since timestamptz, -- as Calendly last listed it
    ADD COLUMN lost_at timestamptz, -- when it was found disabled or gone
    ADD COLUMN lost_reason text CONSTRAINT subscriptions_lost_reason CHECK (lost_reason IN ('disabled', 'gone')),
    ADD COLUMN restored_by uuid, -- of a lost one: which one serves its place since
    ADD COLUMN deleting_at timestamptz, -- when its deletion at Calendly began
    ADD COLUMN renew_at timestamptz; -- when another signing key was asked for

-- Events that Calendly refused for a wanted subscription, and since when nothing is made for it any more.
ALTER TABLE slotwire.wanted_subscriptions
    ADD COLUMN refused_for_plan text[] NOT NULL DEFAULT '{}',
    ADD COLUMN refused_for_scope text[] NOT NULL DEFAULT '{}',
    ADD COLUMN refused_at timestamptz,
    ADD COLUMN contested_at timestamptz,
    ADD COLUMN resumed_at timestamptz;

-- When the first and the last webhook came over a subscription, counted with `activity`.
CREATE TABLE slotwire.hook_activity (
    subscription_id uuid PRIMARY KEY,
    org text NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL
);

-- One row an organization: who may change its subscriptions, and what its last round found. Whoever holds the claim has
-- its epoch; a change of state names it, so that nobody who lost the claim changes anything.
CREATE TABLE slotwire.subscription_watch (
    org text PRIMARY KEY REFERENCES slotwire.organizations (org),
    epoch bigint NOT NULL DEFAULT 0, -- grows with each claim
    until timestamptz NOT NULL DEFAULT '-infinity', -- the end of the claim
    next_at timestamptz NOT NULL DEFAULT '-infinity', -- when the next round is due
    silent boolean NOT NULL DEFAULT false, -- whether its silence is unusual
    listed_at timestamptz, -- when all of a round was last listed
    well_at timestamptz, -- when a whole rotation began that found nothing disabled, gone or retrying
    after_place text NOT NULL DEFAULT '', -- where the rotation over users and groups goes on
    cycle_at timestamptz, -- when the rotation last began
    cycle_well boolean NOT NULL DEFAULT true, -- whether it found nothing disabled, gone or retrying so far
    rate_limit integer, -- calls a minute, as Calendly last said
    departed text[] NOT NULL DEFAULT '{}', -- creators of subscriptions who left the organization
    creators_at timestamptz, -- when that was last asked
    unserved integer NOT NULL DEFAULT 0,
    findings text[] NOT NULL DEFAULT '{}' -- kinds, one for each finding
);
CREATE INDEX subscription_watch_next ON slotwire.subscription_watch (next_at);

-- The server on which deletions at Calendly are carried out. On another one (a restore, a copy, a failover) they are
-- proposed until somebody confirms: two installations may use the same subscriptions.
CREATE TABLE slotwire.deletions (
    singleton boolean PRIMARY KEY DEFAULT true CONSTRAINT deletions_is_one CHECK (singleton),
    server text NOT NULL, -- system identifier and timeline
    confirmed_at timestamptz
);
INSERT INTO slotwire.deletions (server) VALUES (slotwire.server_identity());

CREATE FUNCTION slotwire.deletions_confirmed() RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT server = slotwire.server_identity() FROM slotwire.deletions
$$;
REVOKE ALL ON FUNCTION slotwire.deletions_confirmed FROM PUBLIC;

-- Answers whether deletions were only proposed before.
CREATE FUNCTION slotwire.confirm_deletions(p_now timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE slotwire.deletions SET server = slotwire.server_identity(), confirmed_at = p_now
    WHERE server <> slotwire.server_identity();
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION slotwire.confirm_deletions FROM PUBLIC;

-- A subscription was found disabled or gone: it is noted, one that is gone ends, and the event that says so is accepted,
-- all or nothing. Answers the event's position; 0 where the claim is another's; null where it was noted before.
CREATE FUNCTION slotwire.lose_subscription(
    p_subscription uuid,
    p_epoch bigint,
    p_reason text,
    p_now timestamptz,
    p_event slotwire.accepting
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
BEGIN
    PERFORM FROM slotwire.subscription_watch WHERE org = p_event.org AND epoch = p_epoch FOR SHARE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    UPDATE slotwire.subscriptions s SET lost_at = p_now, lost_reason = p_reason,
        state = CASE p_reason WHEN 'gone' THEN 'ended' ELSE s.state END,
        ended_at = CASE p_reason WHEN 'gone' THEN p_now ELSE s.ended_at END
    FROM slotwire.organizations o
    WHERE s.id = p_subscription AND s.org = p_event.org AND s.state = 'active' AND s.lost_at IS NULL AND o.org = s.org
    RETURNING o.shard INTO v_shard;
    IF NOT FOUND THEN
        -- One that is disabled already and then gone ends without a second event.
        UPDATE slotwire.subscriptions s SET state = 'ended', ended_at = p_now
        WHERE s.id = p_subscription AND s.org = p_event.org AND s.state = 'active' AND p_reason = 'gone';
        RETURN NULL;
    END IF;
    RETURN (slotwire.accept(v_shard, p_now, NULL, ARRAY[p_event])).last;
END
$$;
REVOKE ALL ON FUNCTION slotwire.lose_subscription FROM PUBLIC;

-- The place of a lost subscription is served again: noted with the event that says so. Answers as the function above.
CREATE FUNCTION slotwire.restore_subscription(
    p_lost uuid,
    p_by uuid,
    p_epoch bigint,
    p_now timestamptz,
    p_event slotwire.accepting
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
BEGIN
    PERFORM FROM slotwire.subscription_watch WHERE org = p_event.org AND epoch = p_epoch FOR SHARE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    UPDATE slotwire.subscriptions s SET restored_by = p_by
    FROM slotwire.organizations o
    WHERE s.id = p_lost AND s.org = p_event.org AND s.lost_at IS NOT NULL AND s.restored_by IS NULL AND o.org = s.org
    RETURNING o.shard INTO v_shard;
    RETURN CASE WHEN FOUND THEN (slotwire.accept(v_shard, p_now, NULL, ARRAY[p_event])).last END;
END
$$;
REVOKE ALL ON FUNCTION slotwire.restore_subscription FROM PUBLIC;

GRANT SELECT, INSERT, UPDATE ON slotwire.hook_activity, slotwire.subscription_watch TO {control};
GRANT EXECUTE ON FUNCTION slotwire.deletions_confirmed, slotwire.confirm_deletions, slotwire.lose_subscription,
    slotwire.restore_subscription TO {control};
