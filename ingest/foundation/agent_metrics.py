"""Metrics of agents' scheduled work, and of their runs and settings as `control` reads them; part of `telemetry`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from slotwire.ingest.foundation.exposition import Readings, of

AGENT_RUNS = Readings(
    "slotwire_runs",
    "Runs of agents that have steps or waits and are not done, by state; `overdue`: one that should have gone on ten"
    " minutes ago.",
    ["agent", "state"],
    fresh_seconds=30,
    registry=of("control"),
)
AGENT_RUN_DEATHS = Readings(
    "slotwire_run_deaths",
    "How many processes of an agent have died while one and the same event ran, and nothing else that was suspected; of"
    " the worst event that is not settled, until an hour after it ran last.",
    ["agent"],
    fresh_seconds=30,
    registry=of("control"),
)
AGENT_SETTINGS_DISABLED = Readings(
    "slotwire_agent_settings_disabled",
    "Settings of shipped agents that are not used any more, because their receiver is gone, until somebody sets them.",
    ["agent"],
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
SCHEDULE_LATE = Readings(
    "slotwire_schedule_late_seconds",
    "For how long scheduled work is due that no process of its agent has fired, in seconds; without agents that have"
    " fired nothing for a week.",
    ["agent", "schedule"],
    fresh_seconds=30,
    registry=of("control"),
)
CONSUMER_OFFSETS_LOST = Gauge(
    "slotwire_consumer_offsets_lost",
    "1 while an agent holds because Kafka has lost where it continues, or the records that come next.",
    ["agent"],
    registry=of("agents"),
)
RUNS_ABANDONED = Counter(
    "slotwire_runs_abandoned",
    "Runs that did not end when they were interrupted, by what went on: `handler`, which caught the interruption and is"
    " not run on; `thread`, which nothing can end: the next run of its key waits for it.",
    ["agent", "left"],
    registry=of("agents"),
)
FIRINGS = Counter(
    "slotwire_firings",
    "Firings of scheduled work, by outcome: fired; passed: missed or too many at once, and not done late.",
    ["agent", "schedule", "outcome"],
    registry=of("agents"),
)
FIRING_LATE_SECONDS = Histogram(
    "slotwire_firing_late_seconds",
    "Time from when scheduled work was due to its first run, in seconds.",
    ["agent", "schedule"],
    buckets=(0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 10800.0, 86400.0),
    registry=of("agents"),
)
FIRINGS_WAITING = Gauge(
    "slotwire_firings_waiting",
    "Firings of scheduled work that are due and not done, if this process is the one of its agent that fires.",
    ["agent"],
    registry=of("agents"),
)
LETTERS_OPEN = Readings(
    "slotwire_dead_letters_open",
    "Dead letters that nobody has driven again or discarded.",
    ["agent"],
    fresh_seconds=30,
    registry=of("control"),
)
LETTER_OLDEST = Readings(
    "slotwire_dead_letter_oldest_timestamp_seconds",
    "When the oldest open dead letter of each agent was given up.",
    ["agent"],
    fresh_seconds=30,
    registry=of("control"),
)
APPROVAL_PAGES = Counter(
    "slotwire_approval_pages",
    "Requests to the pages on which people decide about what agents ask for, by outcome: `ok`, or why nothing was"
    " decided.",
    ["outcome"],
    registry=of("control"),
)
AVAILABILITY_READ = Readings(
    "slotwire_availability_read_timestamp_seconds",
    "When the availability was read at Calendly that has not been read for longest; missing where none is kept.",
    fresh_seconds=30,
    registry=of("control"),
)
AVAILABILITY_UNPUBLISHED = Readings(
    "slotwire_availability_unpublished",
    "Availability, by user and event type, of which the topic does not have the last change.",
    fresh_seconds=30,
    registry=of("control"),
)
