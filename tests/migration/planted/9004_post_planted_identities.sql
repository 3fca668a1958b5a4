-- slotwire: outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS slotwire.planted_identities;
