-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_of_agent ON slotwire.runs (agent, began_at, id);
