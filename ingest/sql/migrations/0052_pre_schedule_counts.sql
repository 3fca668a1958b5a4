-- What became of the moments of each organization's bookings: slotwire.agent_schedules counts those of all together.
CREATE TABLE slotwire.agent_schedule_counts (
    agent text NOT NULL,
    schedule text NOT NULL,
    org text NOT NULL,
    fired bigint NOT NULL,
    fired_due timestamptz, -- when the last one that fired was due
    passed bigint NOT NULL, -- missed and not done late, or one too many at once
    passed_due timestamptz, -- when the last one of these was due
    PRIMARY KEY (agent, schedule, org)
);
GRANT SELECT, INSERT, UPDATE ON slotwire.agent_schedule_counts TO {agents};
GRANT SELECT ON slotwire.agent_schedule_counts TO {control};
