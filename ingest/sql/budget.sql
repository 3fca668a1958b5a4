-- Statements of `ingest/control/calendly_client`: the rate budgets of Calendly's users.

-- name: lease_calls
-- Tells what a process waits for and what Calendly said to it; returns the slots given to it, in seconds from `at`. They
-- are in the audit from then on, as the beginning of the calls that take them.
WITH given AS MATERIALIZED (
    SELECT * FROM slotwire.lease_calls($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
), noted AS (
    INSERT INTO slotwire.uses (id, at, user_uri, org, action, result, times)
    SELECT $16, $17, $1, $18, 'lease', 'leased', cardinality(slots) FROM given WHERE cardinality(slots) > 0
)
SELECT at, slots, again, blocked, calls_limit, calls_left FROM given

-- name: insert_uses
-- Uses of credentials, for the audit.
INSERT INTO slotwire.uses (
    id, begun, lease, at, user_uri, org, connection, action, target, people, actor, agent, event, result, status, code,
    times
)
SELECT id, begun, lease, at, user_uri, org, connection, action, target,
       coalesce(string_to_array(nullif(people, ''), ' '), '{}'), actor, agent, event, result, status, code, times
FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::uuid[], $8::text[], $9::text[],
    $10::text[], $11::text[], $12::text[], $13::uuid[], $14::text[], $15::smallint[], $16::text[], $17::integer[]
) AS u (
    id, begun, lease, at, user_uri, org, connection, action, target, people, actor, agent, event, result, status, code,
    times
)

-- name: crowded_budgets
-- Connections whose user's calls are refused, or spent for the greater part by other programs; with how many there are.
SELECT c.id, b.calls_limit, b.others, greatest(b.blocked_until - b.at, 0) AS blocked, count(*) OVER () AS users
FROM slotwire.rate_budgets b JOIN slotwire.connections c USING (user_uri)
WHERE b.kind = 'api' AND b.at > $1 AND (b.blocked_until > b.at OR b.others * 2 > b.calls_limit)
ORDER BY b.others DESC, c.id LIMIT $2

-- name: prune_budgets
-- Removes the budgets of users whom nobody acts as any more.
SELECT slotwire.prune_budgets($1)

-- name: booking_plan
-- The plan of a user's organization, as it was last asked.
SELECT k.plan, k.stage FROM slotwire.connections c JOIN slotwire.connection_capabilities k ON k.connection = c.id
WHERE c.user_uri = $1 ORDER BY k.probed_at DESC LIMIT 1

-- name: take_booking_turn
-- Takes a turn to book; the seconds until there is one, 0 where it is taken.
SELECT slotwire.take_booking_turn($1, $2, $3, $4)

-- name: booking_wait
-- The seconds until a user has a turn to book, 0 where there is one; none is taken.
SELECT slotwire.booking_wait($1, $2, $3, $4)

-- name: block_bookings
-- Nobody books as a user for so many seconds.
SELECT slotwire.block_bookings($1, $2, $3)

-- name: prune_booking_turns
-- Removes what no limit counts any more.
SELECT slotwire.prune_booking_turns($1)
