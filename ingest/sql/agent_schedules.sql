-- The scheduled work of agents, as operators see it.

-- name: schedules_page
-- Scheduled work behind a place, with what is due next for each organization that there is. What waits is counted once for
-- the whole page.
WITH waiting AS MATERIALIZED (
    SELECT q.agent, q.header_values[4] AS type, q.header_values[3] AS source, count(*) AS firings
    FROM slotwire.agent_queue q
    WHERE ($2::text IS NULL OR q.agent = $2) AND q.topic LIKE '%slotwire.firings' GROUP BY 1, 2, 3
)
SELECT s.agent, s.schedule, o.org AS organization, s.kind, s.times, s.missed, s.reached,
       CASE WHEN s.kind = 'clock' THEN s.fired ELSE coalesce(c.fired, 0) END AS fired,
       CASE WHEN s.kind = 'clock' THEN s.fired_due ELSE c.fired_due END AS fired_due,
       CASE WHEN s.kind = 'clock' THEN s.passed ELSE coalesce(c.passed, 0) END AS passed,
       CASE WHEN s.kind = 'clock' THEN s.passed_due ELSE c.passed_due END AS passed_due,
       coalesce((SELECT q.firings FROM waiting q
                 WHERE q.agent = s.agent AND q.type = convert_to('io.slotwire.firing.' || s.schedule, 'UTF8')
                   AND q.source = convert_to('/organizations/' || o.org, 'UTF8')), 0) AS waiting,
       CASE WHEN s.kind = 'clock' THEN s.next_at ELSE (
           SELECT CASE WHEN s.kind = 'after_end' THEN b.end_time ELSE b.start_time END
                  + s.away_seconds * interval '1 second'
           FROM slotwire.bookings b
           WHERE b.org = o.org AND b.state = 'active' AND b.scheduled_event IS NOT NULL
             AND b.start_time > s.reached - s.away_seconds * interval '1 second' - interval '1 day'
             AND CASE WHEN s.kind = 'after_end' THEN b.end_time ELSE b.start_time END
                 > s.reached - s.away_seconds * interval '1 second'
           ORDER BY b.start_time LIMIT 1
       ) END AS due_at
FROM slotwire.agent_schedules s CROSS JOIN slotwire.organizations o
LEFT JOIN slotwire.agent_schedule_counts c ON c.agent = s.agent AND c.schedule = s.schedule AND c.org = o.org
WHERE s.declared AND o.ended_at IS NULL
  AND ($1::text IS NULL OR o.org = $1) AND ($2::text IS NULL OR s.agent = $2)
  AND ($3::text IS NULL OR (s.agent, s.schedule, o.org) > ($3, $4::text, $5::text))
ORDER BY s.agent, s.schedule, o.org LIMIT $6

-- name: scheduled_agents
-- Each agent with scheduled work: how much, since when the latest of it is due, and which process of it fires.
SELECT s.agent, count(*) AS schedules, min(s.since) AS since, (array_agg(s.schedule ORDER BY s.since))[1] AS latest,
       f.owner IS NOT NULL AS taken, f.seen_at
FROM (SELECT agent, schedule, CASE WHEN kind = 'clock' THEN coalesce(next_at, reached) ELSE reached END AS since
      FROM slotwire.agent_schedules WHERE declared) AS s
LEFT JOIN slotwire.agent_firers f ON f.agent = s.agent
GROUP BY s.agent, f.owner, f.seen_at ORDER BY s.agent

-- name: late_schedules
-- For how long scheduled work is due that nobody has fired, in seconds, of agents that fired within a week.
SELECT agent, schedule, extract(epoch FROM greatest($1 - since, interval '0')) AS seconds
FROM (SELECT agent, schedule, CASE WHEN kind = 'clock' THEN next_at ELSE reached END AS since
      FROM slotwire.agent_schedules WHERE declared) AS found
WHERE since > $1::timestamptz - interval '7 days'
