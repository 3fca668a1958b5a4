-- slotwire: outside a transaction
-- URIs are long, and no two entries would share one.
CREATE INDEX CONCURRENTLY IF NOT EXISTS uses_of_target ON slotwire.uses (hashtextextended(target, 0), id)
WHERE target IS NOT NULL;
