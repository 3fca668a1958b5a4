-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS moves_tag ON slotwire.moves (tag, org);
