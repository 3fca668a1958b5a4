-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS uses_of_event ON slotwire.uses (event, id) WHERE event IS NOT NULL;
