-- slotwire: outside a transaction
-- Those that wait are the many.
CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_of_state ON slotwire.runs (state, began_at, id) WHERE state <> 'waiting';
