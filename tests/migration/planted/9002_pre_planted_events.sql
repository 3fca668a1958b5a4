-- slotwire: outside a transaction
-- Events are partitioned: an index for each partition.
CREATE INDEX CONCURRENTLY IF NOT EXISTS planted_events ON slotwire.events (org, time);
