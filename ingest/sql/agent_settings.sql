-- Statements of the settings of agents that come with Slotwire.

-- name: agent_settings_page
-- Settings after an id, without their secrets.
SELECT id, agent, org, version, document, secret_names, changed_at, changed_by, disabled_at, disabled_why
FROM slotwire.agent_settings
WHERE ($1::text IS NULL OR org = $1) AND ($2::text IS NULL OR agent = $2) AND ($3::uuid IS NULL OR id > $3)
ORDER BY id LIMIT $4

-- name: one_agent_settings
-- One row, of an organization or of any.
SELECT id, agent, org, version, document, secret_names, changed_at, changed_by, disabled_at, disabled_why
FROM slotwire.agent_settings WHERE id = $1 AND ($2::text IS NULL OR org = $2)

-- name: sealed_agent_settings
-- What is set now for an agent and an organization, secrets included, to change a part of it.
SELECT agent, org, version, document, sealed, disabled_at, disabled_why
FROM slotwire.agent_settings WHERE agent = $1 AND org = $2

-- name: disabled_agent_settings
-- How many settings are not used, by agent, and the first of the organizations.
SELECT agent, count(*) AS settings, min(org) AS org
FROM slotwire.agent_settings WHERE disabled_at IS NOT NULL GROUP BY agent ORDER BY agent

-- name: latest_sealed_agent_settings
-- Secrets that were sealed last, to see whether they open.
SELECT agent, org, sealed FROM slotwire.agent_settings WHERE sealed IS NOT NULL ORDER BY changed_at DESC LIMIT $1

-- name: knows_organization
-- Whether an organization was ever added.
SELECT EXISTS (SELECT FROM slotwire.organizations WHERE org = $1)

-- name: set_agent_settings
-- Set them in place of a version (0: of none); the row's id, or null where somebody else was first.
SELECT slotwire.set_agent_settings($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: unset_agent_settings
-- Remove them.
SELECT slotwire.unset_agent_settings($1, $2)
