-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS subscription_watch_due ON slotwire.subscription_watch (next_at, org);
