-- Connections that a customer makes in the browser (OAuth), and events for every change of a connection's state.

-- It makes room for one kind more, and the next statement puts it back: nothing that holds today stops holding.
-- squawk-ignore ban-drop-constraint
ALTER TABLE slotwire.connections DROP CONSTRAINT connections_kind;
ALTER TABLE slotwire.connections ADD CONSTRAINT connections_kind
    CHECK (kind IN ('personal_access_token', 'oauth')) NOT VALID;
-- `sealed` is the token to call with, of either kind. An OAuth connection has a refresh token beside it, which works
-- once: each refresh replaces both.
ALTER TABLE slotwire.connections ADD COLUMN refresh_sealed bytea;
ALTER TABLE slotwire.connections ADD COLUMN access_expires_at timestamptz; -- of an OAuth connection: of `sealed`
ALTER TABLE slotwire.connections ADD COLUMN refresh_at timestamptz; -- half of its life
ALTER TABLE slotwire.connections ADD COLUMN changes integer NOT NULL DEFAULT 0; -- of its state: names their events
ALTER TABLE slotwire.connections ADD CONSTRAINT connections_oauth_whole
    CHECK (kind <> 'oauth' OR (refresh_sealed IS NOT NULL AND access_expires_at IS NOT NULL AND refresh_at IS NOT NULL))
    NOT VALID;

-- Refreshes that are under way. The row is committed before Calendly is asked: if it is still there past its deadline,
-- nobody knows whether the refresh token was spent, and Calendly is asked that first.
CREATE TABLE slotwire.oauth_refreshes (
    connection_id uuid PRIMARY KEY REFERENCES slotwire.connections (id) ON DELETE CASCADE,
    credential_id uuid NOT NULL, -- the one that is being replaced
    attempt uuid NOT NULL,
    owner text NOT NULL, -- the process
    deadline timestamptz NOT NULL
);

-- Links under which somebody connects a Calendly user in the browser. Of the ticket in it only a hash is kept. `org` is
-- null while nobody knows which organization the customer has.
CREATE TABLE slotwire.connect_links (
    id uuid PRIMARY KEY,
    ticket_hash bytea NOT NULL UNIQUE,
    org text REFERENCES slotwire.organizations (org),
    external_id text CONSTRAINT connect_links_external_id_short CHECK (length(external_id) <= 200),
    customer text CONSTRAINT connect_links_customer_short CHECK (length(customer) <= 200), -- shown on the page
    return_url text CONSTRAINT connect_links_return_short CHECK (length(return_url) <= 2000),
    backfill_from timestamptz, -- meetings that start then or later are fetched once it is connected
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    spent_at timestamptz, -- by the first callback that succeeded
    connection_id uuid, -- what came of it
    CONSTRAINT connect_links_for_somebody CHECK (org IS NOT NULL OR external_id IS NOT NULL),
    CONSTRAINT connect_links_spent CHECK (connection_id IS NULL OR spent_at IS NOT NULL)
);
CREATE INDEX connect_links_created ON slotwire.connect_links (created_at, id);
CREATE INDEX connect_links_org ON slotwire.connect_links (org, created_at, id);

-- What a link with a return address brought, until the integrator's backend has exchanged the code that went there.
-- Nothing is read or subscribed with it before. Sealed: the pair of tokens.
CREATE TABLE slotwire.pending_connections (
    link_id uuid PRIMARY KEY REFERENCES slotwire.connect_links (id) ON DELETE CASCADE,
    code_hash bytea NOT NULL UNIQUE,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

-- The keys with which Calendly signs for our OAuth app: the valid ones. Each subscription that the app made has a row in
-- `signing_keys` for each, so that `serve` and `accept` need not know of them.
CREATE TABLE slotwire.app_signing_keys (
    id uuid PRIMARY KEY,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL
);
ALTER TABLE slotwire.signing_keys ADD COLUMN app_key uuid; -- null where we minted it for this subscription alone
ALTER TABLE slotwire.subscriptions ADD COLUMN app_signed boolean NOT NULL DEFAULT false;
ALTER TABLE slotwire.subscriptions ADD COLUMN connection_id uuid; -- through which it was made; null where unknown

-- Store a credential, new or in place of another one, with the event that says what that changed; both or neither. Of a
-- known connection only while it is as it was read (p_was, p_changes). An OAuth credential's refresh is over with that.
-- Answers 'stored', 'stale' (read again), or 'unknown': there is no such organization, or it was removed.
CREATE FUNCTION slotwire.store_connection(
    p_connection uuid,
    p_was uuid, -- the credential that is replaced; null for a new connection
    p_changes integer,
    p_org text,
    p_kind text,
    p_user text,
    p_role text,
    p_credential uuid,
    p_sealed bytea,
    p_refresh_sealed bytea,
    p_access_expires_at timestamptz,
    p_refresh_at timestamptz,
    p_scopes text[],
    p_expires_at timestamptz,
    p_state text,
    p_reason text,
    p_now timestamptz,
    p_event slotwire.accepting -- null: its state stays as it was
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
BEGIN
    SELECT o.shard INTO v_shard FROM slotwire.organizations o WHERE o.org = p_org AND o.ended_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    IF p_was IS NULL THEN
        INSERT INTO slotwire.connections (id, org, kind, user_uri, role, credential_id, sealed, refresh_sealed,
                                          access_expires_at, refresh_at, scopes, expires_at, state, reason, checked_at,
                                          created_at, changed_at)
        VALUES (p_connection, p_org, p_kind, p_user, p_role, p_credential, p_sealed, p_refresh_sealed,
                p_access_expires_at, p_refresh_at, p_scopes, p_expires_at, p_state, p_reason, p_now, p_now, p_now)
        ON CONFLICT (org, user_uri) DO NOTHING;
    ELSE
        UPDATE slotwire.connections c SET
            kind = p_kind, role = coalesce(p_role, c.role), credential_id = p_credential, sealed = p_sealed,
            refresh_sealed = p_refresh_sealed, access_expires_at = p_access_expires_at, refresh_at = p_refresh_at,
            scopes = p_scopes, expires_at = p_expires_at, state = p_state, reason = p_reason, checked_at = p_now,
            changed_at = p_now, changes = c.changes + (p_event IS DISTINCT FROM NULL)::integer
        WHERE c.id = p_connection AND c.org = p_org AND c.credential_id = p_was AND c.changes = p_changes;
    END IF;
    IF NOT FOUND THEN
        RETURN 'stale';
    END IF;
    DELETE FROM slotwire.oauth_refreshes r WHERE r.connection_id = p_connection;
    IF p_event IS DISTINCT FROM NULL THEN
        PERFORM slotwire.accept(v_shard, p_now, NULL, ARRAY[p_event]);
    END IF;
    RETURN 'stored';
END
$$;
REVOKE ALL ON FUNCTION slotwire.store_connection FROM PUBLIC;

-- Change the state of a connection whose credential stays, with the event that says so; both or neither. Answers whether
-- it was still as it was read. (A credential that Calendly refuses: `revoke_connection`.)
CREATE FUNCTION slotwire.change_connection(
    p_connection uuid,
    p_credential uuid,
    p_changes integer,
    p_state text,
    p_reason text,
    p_role text, -- null: as it was
    p_checked boolean, -- whether Calendly answered
    p_now timestamptz,
    p_event slotwire.accepting
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
BEGIN
    UPDATE slotwire.connections c SET
        state = p_state, reason = p_reason, role = coalesce(p_role, c.role), changed_at = p_now,
        checked_at = CASE WHEN p_checked THEN p_now ELSE c.checked_at END, changes = c.changes + 1
    FROM slotwire.organizations o
    WHERE c.id = p_connection AND c.credential_id = p_credential AND c.changes = p_changes AND c.state <> 'revoked'
      AND c.org = p_event.org AND o.org = c.org
    RETURNING o.shard INTO v_shard;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM slotwire.accept(v_shard, p_now, NULL, ARRAY[p_event]);
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION slotwire.change_connection FROM PUBLIC;

-- Delete an OAuth connection, with the event that says that it is gone; both or neither. Answers whether it was there.
CREATE FUNCTION slotwire.disconnect(p_connection uuid, p_now timestamptz, p_event slotwire.accepting) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_shard smallint;
BEGIN
    DELETE FROM slotwire.connections c USING slotwire.organizations o
    WHERE c.id = p_connection AND c.org = p_event.org AND o.org = c.org
    RETURNING o.shard INTO v_shard;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM slotwire.accept(v_shard, p_now, NULL, ARRAY[p_event]);
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION slotwire.disconnect FROM PUBLIC;

GRANT SELECT, INSERT, UPDATE, DELETE ON slotwire.oauth_refreshes, slotwire.connect_links, slotwire.pending_connections,
    slotwire.app_signing_keys TO {control};
GRANT EXECUTE ON FUNCTION slotwire.store_connection, slotwire.change_connection, slotwire.disconnect TO {control};
