-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS uses_of_agent ON slotwire.uses (agent, id) WHERE agent IS NOT NULL;
