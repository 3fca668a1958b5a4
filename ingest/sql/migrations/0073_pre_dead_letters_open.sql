-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS dead_letters_open ON slotwire.dead_letters (agent, at) WHERE state = 'open';
