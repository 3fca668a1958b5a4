"""Metrics of agents' runs as `control` reads them; part of `telemetry`, which declares them with all others."""

from __future__ import annotations

from slotwire.ingest.foundation.exposition import Readings, of

AGENT_RUNS = Readings(
    "slotwire_runs",
    "Runs of agents that have steps or waits and are not done, by state; `overdue`: one that should have gone on ten"
    " minutes ago.",
    ["agent", "state"],
    fresh_seconds=30,
    registry=of("control"),
)
AGENT_RUN_OLDEST = Readings(
    "slotwire_run_oldest_timestamp_seconds",
    "Since when the oldest run of each state is in it.",
    ["agent", "state"],
    fresh_seconds=30,
    registry=of("control"),
)
