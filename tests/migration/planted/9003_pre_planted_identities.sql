-- slotwire: outside a transaction
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS planted_identities ON slotwire.identities (shard, position);
