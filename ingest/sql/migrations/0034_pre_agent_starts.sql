-- Where an agent begins in each partition: decided once for a whole topic, and committed by whichever member of its group
-- is first assigned the partition. From then on a place that Kafka forgot is a loss, and no new beginning.
CREATE TABLE slotwire.agent_starts (
    agent text NOT NULL,
    topic text NOT NULL, -- its full name
    partition integer NOT NULL,
    start_offset bigint NOT NULL, -- where it begins; of an agent that had begun before, where it continued when this was written
    decided_at timestamptz NOT NULL,
    begun_at timestamptz, -- when the group's offset was committed; null: not yet
    PRIMARY KEY (agent, topic, partition)
);
GRANT SELECT, INSERT, UPDATE (begun_at) ON slotwire.agent_starts TO {agents};
