-- Statements of `ingest/control/calendly_client`: the rate budgets of Calendly's users.

-- name: lease_calls
-- Tells what a process waits for and what Calendly said to it; returns the slots given to it, in seconds from `at`.
SELECT at, slots, again, blocked, calls_limit, calls_left
FROM slotwire.lease_calls($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- name: prune_budgets
-- Removes the budgets of users whom nobody acts as any more.
SELECT slotwire.prune_budgets($1)
