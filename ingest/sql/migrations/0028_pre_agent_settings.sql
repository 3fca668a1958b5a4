-- What agents that come with Slotwire do, for each organization. Whoever manages sets it; an agent reads what is for an
-- organization, by its own name, and may only say that its receiver is gone. `org` is empty for the settings of all
-- organizations that have none of their own. What is secret is sealed with keys that are not the vault's.
CREATE TABLE slotwire.agent_settings (
    id uuid PRIMARY KEY,
    agent text NOT NULL,
    org text NOT NULL CONSTRAINT agent_settings_org_form CHECK (org ~ '^[A-Za-z0-9_-]{0,200}$'),
    version bigint NOT NULL DEFAULT 1,
    document text NOT NULL CONSTRAINT agent_settings_document_short CHECK (length(document) <= 65536), -- JSON
    secret_names text[] NOT NULL DEFAULT '{}',
    sealed bytea,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    disabled_at timestamptz,
    disabled_why text CONSTRAINT agent_settings_why_short CHECK (length(disabled_why) <= 500),
    CONSTRAINT agent_settings_one UNIQUE (agent, org),
    CONSTRAINT agent_settings_sealed CHECK ((sealed IS NULL) = (cardinality(secret_names) = 0)),
    CONSTRAINT agent_settings_disabled CHECK ((disabled_at IS NULL) = (disabled_why IS NULL))
);

GRANT SELECT ON slotwire.agent_settings TO {control};

-- Set them: the first ones, or in place of the version that was read; they are used again. Answers the row's id, or null
-- where somebody else was first.
CREATE FUNCTION slotwire.set_agent_settings(
    p_id uuid, p_agent text, p_org text, p_version bigint, p_document text, p_secret_names text[], p_sealed bytea,
    p_by text, p_now timestamptz
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id uuid;
BEGIN
    IF p_version = 0 THEN
        INSERT INTO slotwire.agent_settings (id, agent, org, document, secret_names, sealed, changed_at, changed_by)
        VALUES (p_id, p_agent, p_org, p_document, p_secret_names, p_sealed, p_now, p_by)
        ON CONFLICT (agent, org) DO NOTHING
        RETURNING id INTO v_id;
        RETURN v_id;
    END IF;
    UPDATE slotwire.agent_settings
    SET version = version + 1, document = p_document, secret_names = p_secret_names, sealed = p_sealed,
        changed_at = p_now, changed_by = p_by, disabled_at = NULL, disabled_why = NULL
    WHERE agent = p_agent AND org = p_org AND version = p_version
    RETURNING id INTO v_id;
    RETURN v_id;
END
$$;
REVOKE ALL ON FUNCTION slotwire.set_agent_settings FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.set_agent_settings TO {control};

-- Remove them, of an organization or of any; answers whether they were there.
CREATE FUNCTION slotwire.unset_agent_settings(p_id uuid, p_org text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM slotwire.agent_settings WHERE id = p_id AND (p_org IS NULL OR org = p_org);
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION slotwire.unset_agent_settings FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.unset_agent_settings TO {control};

-- The settings of an agent for an organization: its own, else those of everybody.
CREATE FUNCTION slotwire.agent_settings_for(p_agent text, p_org text)
RETURNS TABLE (org text, version bigint, document text, sealed bytea, disabled_at timestamptz, disabled_why text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.org, s.version, s.document, s.sealed, s.disabled_at, s.disabled_why
    FROM slotwire.agent_settings s
    WHERE s.agent = p_agent AND s.org IN (p_org, '')
    ORDER BY s.org DESC LIMIT 1
$$;
REVOKE ALL ON FUNCTION slotwire.agent_settings_for FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.agent_settings_for TO {agents};

-- An agent's receiver is gone: the settings of the version that it read are not used until a person sets them again.
CREATE FUNCTION slotwire.disable_agent_settings(
    p_agent text, p_org text, p_version bigint, p_why text, p_now timestamptz
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE slotwire.agent_settings SET disabled_at = p_now, disabled_why = p_why
    WHERE agent = p_agent AND org = p_org AND version = p_version AND disabled_at IS NULL;
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION slotwire.disable_agent_settings FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slotwire.disable_agent_settings TO {agents};
