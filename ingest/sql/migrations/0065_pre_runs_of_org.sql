-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_of_org ON slotwire.runs (org, began_at, id);
