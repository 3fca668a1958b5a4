-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS moves_since ON slotwire.moves (since);
