-- Which process works on a partition of an agent. One that leaves in order takes its name away: whoever takes the partition and
-- finds a name of another one knows that its process has died.
ALTER TABLE slotwire.agent_starts ADD COLUMN process uuid;
GRANT UPDATE (process) ON slotwire.agent_starts TO {agents};

-- Runs that began where a process had died before: which of them ends processes. Nothing is noted in the usual case.
CREATE TABLE slotwire.noted_runs (
    agent text NOT NULL,
    topic text NOT NULL, -- its full name
    partition integer NOT NULL,
    event_id uuid NOT NULL,
    process uuid NOT NULL, -- that ran it last
    state text NOT NULL CHECK (state IN ('running', 'ended', 'died')), -- how that run is; `died`: with its process
    at timestamptz NOT NULL, -- since when it is so
    seen integer NOT NULL DEFAULT 0, -- processes that died while it ran
    deaths integer NOT NULL DEFAULT 0, -- those of them in which nothing else that was suspected ran
    PRIMARY KEY (agent, topic, partition, event_id)
);
CREATE INDEX noted_runs_process ON slotwire.noted_runs (process);
GRANT SELECT, INSERT, UPDATE, DELETE ON slotwire.noted_runs TO {agents};
GRANT SELECT ON slotwire.noted_runs TO {control};
