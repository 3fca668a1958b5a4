-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_began ON slotwire.runs (began_at, id);
