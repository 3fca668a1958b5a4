-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_waiting ON slotwire.runs (agent, due_at, began_at) WHERE state = 'waiting';
