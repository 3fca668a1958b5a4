-- squawk-ignore-file require-concurrent-index-creation
-- The table has a row for each customer: its indexes are built in a moment.

-- Most organizations may be removed ones.
CREATE INDEX organizations_here ON slotwire.organizations (org) WHERE ended_at IS NULL;
CREATE INDEX organizations_since ON slotwire.organizations (created_at, org) WHERE ended_at IS NULL;
CREATE INDEX organizations_backfill ON slotwire.organizations (org) WHERE backfill_from IS NOT NULL;
