-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_changed ON slotwire.bookings
USING brin (changed_at) WITH (pages_per_range = 16, autosummarize = on);
