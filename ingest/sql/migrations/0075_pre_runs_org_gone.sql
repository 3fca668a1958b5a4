-- slotwire: outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS slotwire.runs_org;
