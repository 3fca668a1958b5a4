-- Statements of `ingest/control/calendly_client`: the rate budgets of Calendly's users.

-- name: lease_calls
-- Tells what a process waits for and what Calendly said to it; returns the slots given to it, in seconds from `at`.
SELECT at, slots, again, blocked, calls_limit, calls_left
FROM slotwire.lease_calls($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- name: crowded_budgets
-- Connections whose user's calls are refused, or spent for the greater part by other programs; with how many there are.
SELECT c.id, b.calls_limit, b.others, greatest(b.blocked_until - b.at, 0) AS blocked, count(*) OVER () AS users
FROM slotwire.rate_budgets b JOIN slotwire.connections c USING (user_uri)
WHERE b.kind = 'api' AND b.at > $1 AND (b.blocked_until > b.at OR b.others * 2 > b.calls_limit)
ORDER BY b.others DESC, c.id LIMIT $2

-- name: prune_budgets
-- Removes the budgets of users whom nobody acts as any more.
SELECT slotwire.prune_budgets($1)
