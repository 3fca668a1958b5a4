-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS actions_state ON slotwire.actions (state, id);
