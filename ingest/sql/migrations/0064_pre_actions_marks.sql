-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS actions_marks ON slotwire.actions (org, target)
WHERE verb = 'mark_no_show' AND state = 'done' AND mark IS NOT NULL;
