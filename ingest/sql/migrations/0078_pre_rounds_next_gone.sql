-- slotwire: outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS slotwire.subscription_watch_next;
