-- Where each agent has begun to read a topic: once it has, a place that Kafka forgot is a loss, and no new beginning.
CREATE TABLE slotwire.agent_topics (
    agent text NOT NULL,
    topic text NOT NULL, -- its full name
    start text NOT NULL, -- earliest, latest, or a time
    begun_at timestamptz NOT NULL,
    PRIMARY KEY (agent, topic)
);
GRANT SELECT, INSERT ON slotwire.agent_topics TO {agents};
