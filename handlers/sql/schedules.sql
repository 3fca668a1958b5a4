-- The scheduled work of an agent.

-- name: take_firing
-- Begin or go on to be the process of an agent that fires: where there is none, or one at a beat where it stands still.
-- Answers the offset of the next firing.
INSERT INTO slotwire.agent_firers AS f (agent, owner, seen_at) VALUES ($1, $2, $5)
ON CONFLICT (agent) DO UPDATE SET owner = excluded.owner, beat = f.beat + 1, seen_at = excluded.seen_at
WHERE f.owner IS NULL OR f.owner = excluded.owner OR (f.owner = $3 AND f.beat = $4)
RETURNING next_offset

-- name: firer
-- Which process of an agent fires, and its beat.
SELECT owner, beat FROM slotwire.agent_firers WHERE agent = $1

-- name: leave_firing
-- Let another process fire at once.
UPDATE slotwire.agent_firers SET owner = NULL WHERE agent = $1 AND owner = $2

-- name: declare_schedules
-- Note what an agent's code declares. New work begins now, and so does what is due in another way than before.
INSERT INTO slotwire.agent_schedules AS s (agent, schedule, kind, times, away_seconds, missed, declared, begun_at, reached,
    reached_key, looked_at, next_at)
SELECT $1, d.schedule, d.kind, d.times, d.away_seconds, d.missed, true, $7, $7, '', $7, d.next_at
FROM unnest($2::text[], $3::text[], $4::text[], $5::double precision[], $6::text[], $8::timestamptz[])
    AS d (schedule, kind, times, away_seconds, missed, next_at)
ON CONFLICT (agent, schedule) DO UPDATE
SET times = excluded.times, away_seconds = excluded.away_seconds, missed = excluded.missed, declared = true, next_at = excluded.next_at,
    kind = excluded.kind,
    begun_at = CASE WHEN s.kind = excluded.kind THEN s.begun_at ELSE excluded.begun_at END,
    reached = CASE WHEN s.kind = excluded.kind THEN s.reached ELSE excluded.reached END,
    reached_key = CASE WHEN s.kind = excluded.kind THEN s.reached_key ELSE '' END,
    looked_at = CASE WHEN s.kind = excluded.kind THEN s.looked_at ELSE excluded.looked_at END

-- name: undeclare_schedules
-- Note that an agent's code has some work no more.
UPDATE slotwire.agent_schedules SET declared = false WHERE agent = $1 AND schedule <> ALL ($2::text[]) AND declared

-- name: schedules
-- Up to where an agent's schedules have come.
SELECT schedule, begun_at, reached, reached_key, looked_at FROM slotwire.agent_schedules WHERE agent = $1 AND declared

-- name: lock_schedule
-- Hold a schedule while it moves on, unless another process has moved it.
SELECT true FROM slotwire.agent_schedules
WHERE agent = $1 AND schedule = $2 AND reached = $3 AND reached_key = $4 FOR UPDATE

-- name: advance_schedule
-- Note how far a schedule has come.
UPDATE slotwire.agent_schedules
SET reached = $3, reached_key = $4, looked_at = $5, next_at = $6, fired = fired + $7,
    fired_due = coalesce($8, fired_due), passed = passed + $9, passed_due = coalesce($10, passed_due)
WHERE agent = $1 AND schedule = $2

-- name: turn_back
-- Have a schedule go on from a time that is earlier than it has come to.
UPDATE slotwire.agent_schedules
SET begun_at = least(begun_at, $5), reached = $5, reached_key = '', looked_at = least(looked_at, $5), next_at = $6
WHERE agent = $1 AND schedule = $2 AND reached = $3 AND reached_key = $4 AND reached > $5

-- name: reserve_offsets
-- Take so many offsets for firings of an agent; answers the first.
UPDATE slotwire.agent_firers SET next_offset = next_offset + $2 WHERE agent = $1 RETURNING next_offset - $2

-- name: plan_anew
-- Have the statements of this transaction planned for the sizes that their tables have now.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true)

-- name: put_firings
-- Put firings into the agent's queue, but those that are there, were done or given up, and where too many wait in a lane;
-- answers how many were put, and how many were not because too many wait. Of moments ($9) that is noted by organization.
WITH fresh AS MATERIALIZED (
    SELECT r.*, (SELECT count(*) FROM slotwire.agent_queue q
                 WHERE q.agent = $1 AND q.topic = $2 AND q.partition = $3 AND q.lane = decode(r.lane, 'hex')) AS waiting
    FROM jsonb_to_recordset($4::jsonb) AS r (
        number bigint, org text, lane text, event_id uuid, key text, value text, names jsonb, contents jsonb,
        due_at timestamptz)
    WHERE NOT EXISTS (SELECT FROM slotwire.inbox i WHERE i.agent = $1 AND i.event_id = r.event_id)
      AND NOT EXISTS (SELECT FROM slotwire.agent_queue q WHERE q.agent = $1 AND q.event_id = r.event_id)
      AND NOT EXISTS (SELECT FROM slotwire.dead_letters d WHERE d.agent = $1 AND d.event_id = r.event_id)
      AND NOT EXISTS (SELECT FROM slotwire.runs k WHERE k.agent = $1 AND k.event_id = r.event_id)
), put AS (
    INSERT INTO slotwire.agent_queue (agent, topic, partition, record_offset, lane, event_id, key, value, header_names,
        header_values, published_at, due_at, queued_at)
    SELECT $1, $2, $3, $5 + r.number, decode(r.lane, 'hex'), r.event_id, convert_to(r.key, 'UTF8'),
        convert_to(r.value, 'UTF8'),
        ARRAY(SELECT convert_to(h.name, 'UTF8')
              FROM jsonb_array_elements_text(r.names) WITH ORDINALITY AS h (name, place) ORDER BY h.place),
        ARRAY(SELECT convert_to(h.value, 'UTF8')
              FROM jsonb_array_elements_text(r.contents) WITH ORDINALITY AS h (value, place) ORDER BY h.place),
        r.due_at, r.due_at, $6
    FROM fresh r WHERE r.waiting < $7
), noted AS (
    INSERT INTO slotwire.agent_schedule_counts AS c (agent, schedule, org, fired, fired_due, passed, passed_due)
    SELECT $1, $8, r.org, count(*) FILTER (WHERE r.waiting < $7), max(r.due_at) FILTER (WHERE r.waiting < $7),
           count(*) FILTER (WHERE r.waiting >= $7), max(r.due_at) FILTER (WHERE r.waiting >= $7)
    FROM fresh r WHERE $9 GROUP BY r.org
    ON CONFLICT (agent, schedule, org) DO UPDATE
    SET fired = c.fired + excluded.fired, fired_due = greatest(c.fired_due, excluded.fired_due),
        passed = c.passed + excluded.passed, passed_due = greatest(c.passed_due, excluded.passed_due)
)
SELECT count(*) FILTER (WHERE waiting < $7) AS put, count(*) FILTER (WHERE waiting >= $7) AS crowded FROM fresh

-- name: note_missed
-- Note for each organization which moments of its bookings were missed and are not done late.
INSERT INTO slotwire.agent_schedule_counts AS c (agent, schedule, org, fired, fired_due, passed, passed_due)
SELECT $1, $2, p.org, 0, NULL, count(*), max(p.due_at)
FROM unnest($3::text[], $4::timestamptz[]) AS p (org, due_at) GROUP BY p.org
ON CONFLICT (agent, schedule, org) DO UPDATE
SET passed = c.passed + excluded.passed, passed_due = greatest(c.passed_due, excluded.passed_due)

-- name: organizations_served
-- Some of the organizations that a firing of the clock is for.
SELECT org, tenant FROM slotwire.organizations_served($1, $2, $3)

-- name: meetings_between
-- Some of the meetings whose moments may have come.
SELECT * FROM slotwire.meetings_between($1, $2, $3, $4, $5, $6, $7)

-- name: grant_firing_calls
-- Have `slotwire control` make calls to Calendly for a firing; whether there are such a firing and user.
SELECT slotwire.grant_firing_calls($1, $2, $3, $4, $5)
