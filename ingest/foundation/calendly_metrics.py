"""Metrics of calls to Calendly; part of `telemetry`, which declares them with all others."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from slotwire.ingest.foundation.exposition import Readings, of

CALENDLY_CALLS = Counter(
    "slotwire_calendly_calls",
    "Calls to Calendly's API, by the status of the answer; `none` where no answer came.",
    ["status"],
    registry=of("control"),
)
CALENDLY_CALL_SECONDS = Histogram(
    "slotwire_calendly_call_seconds",
    "Duration of one call to Calendly's API, in seconds.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0),
    registry=of("control"),
)
CALENDLY_TURN_SECONDS = Histogram(
    "slotwire_calendly_turn_seconds",
    "Time that a call to Calendly waited for its turn within its user's rate limit, in seconds, by priority: person,"
    " repair, sweep.",
    ["priority"],
    buckets=(0.01, 0.05, 0.125, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
    registry=of("control"),
)
CALENDLY_CALLS_LEFT = Histogram(
    "slotwire_calendly_calls_left",
    "The share of a user's rate limit at Calendly that was left, each time that turns were asked for.",
    buckets=(0.0, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0),
    registry=of("control"),
)
CALENDLY_CALLS_WITHHELD = Counter(
    "slotwire_calendly_calls_withheld",
    "Calls to Calendly that were not made, by priority and reason: limit (no turn in time), booking (the plan's limit"
    " of bookings by the API), database (Postgres was away).",
    ["priority", "reason"],
    registry=of("control"),
)
CALENDLY_USES_LOST = Counter(
    "slotwire_calendly_uses_lost",
    "Ends of calls to Calendly that the audit of credential uses lacks, because Postgres was away for too long; what"
    " was committed before these calls is there.",
    registry=of("control"),
)
CHANGE_SWEEPS = Counter(
    "slotwire_change_sweeps",
    "Sweeps of an organization's upcoming meetings for changes that Calendly does not tell: ended, lost (another"
    " process has it), paused (no connection can act), failed.",
    ["result"],
    registry=of("control"),
)
CHANGES_TOLD = Counter(
    "slotwire_changes_told",
    "Changes of scheduled events that were found and told, by field: hosts, start_time, end_time, guests, location.",
    ["field"],
    registry=of("control"),
)
CHANGE_SWEEP_OLDEST = Readings(
    "slotwire_change_sweep_oldest_timestamp_seconds",
    "When the organization was last swept for changes that has waited longest since.",
    [],
    fresh_seconds=30,
    registry=of("control"),
)
CHANGE_SWEEP_LATE = Readings(
    "slotwire_change_sweep_late_seconds",
    "How much longer than the interval the organization was not swept for changes that has waited longest, in seconds;"
    " missing where none is swept.",
    [],
    fresh_seconds=30,
    registry=of("control"),
)
ACTIONS = Counter(
    "slotwire_actions",
    "Actions of which it was found out what became of them, by verb and state: done, probable, done_by_other, refused,"
    " not_seen, person, not_done. One that is settled again counts again.",
    ["verb", "state"],
    registry=of("control"),
)
ACTION_SETTLE_SECONDS = Histogram(
    "slotwire_action_settle_seconds",
    "Time from the commit of an action's intent until it was found out what became of it, in seconds.",
    ["verb"],
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 3600.0),
    registry=of("control"),
)
ACTIONS_WAITING = Readings(
    "slotwire_actions_waiting",
    "Actions that are not settled (open; not_sent; held: not sent because a limit of Calendly's holds them back), or"
    " wait for a person (person).",
    ["state"],
    fresh_seconds=30,
    registry=of("control"),
)
ACTION_OLDEST = Readings(
    "slotwire_action_oldest_timestamp_seconds",
    "When the oldest of those was intended.",
    ["state"],
    fresh_seconds=30,
    registry=of("control"),
)
