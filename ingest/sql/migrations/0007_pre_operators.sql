-- What operators see of agents and of parked events, so that no runbook needs a program of the server's.

GRANT SELECT ON slotwire.inbox TO {control};
-- A parked event whose readers have been told. The event itself stays in the log.
GRANT DELETE ON slotwire.parked_events TO {control};
