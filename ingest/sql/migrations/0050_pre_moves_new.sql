-- slotwire: outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS moves_new ON slotwire.moves (new_invitee, org);
