-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS actions_org_state ON slotwire.actions (org, state, id);
