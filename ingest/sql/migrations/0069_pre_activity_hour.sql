-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS activity_hour ON slotwire.activity (hour);
