"""Loggers, and the metrics, declared in one place.

Log events have static names and carry their data in fields. All metrics are declared here. Neither logs nor metrics
ever carry a secret, a hook, a capability URL or personal data.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter, Gauge, Histogram

from slotwire.ingest.foundation import (
    agent_metrics,  # noqa: F401 -- declared with all others
    calendly_metrics,  # noqa: F401 -- declared with all others
    erasure_metrics,  # noqa: F401 -- declared with all others
    exposition,
    mcp_events_metrics,  # noqa: F401 -- declared with all others
    mcp_metrics,  # noqa: F401 -- declared with all others
    outgoing_metrics,  # noqa: F401 -- declared with all others
)
from slotwire.ingest.foundation.exposition import Readings, of

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

REGISTRY = exposition.REGISTRY
_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 8.0)

DELIVERIES = Counter(
    "slotwire_deliveries",
    "Deliveries answered, by outcome: accepted, refused, unavailable, rejected.",
    ["outcome", "reason"],
    registry=of("serve"),
)
DELIVERY_SECONDS = Histogram(
    "slotwire_delivery_seconds",
    "Time from the first byte of the body to the answer, in seconds.",
    ["outcome"],
    buckets=_LATENCY,
    registry=of("serve"),
)
SIGNATURE_AGE_SECONDS = Histogram(
    "slotwire_signature_age_seconds",
    "Age of an authentic signature on arrival, in seconds.",
    buckets=(1, 3, 10, 60, 180, 300, 900, 3600, 21600, 86400, 172800),
    registry=of("serve"),
)
BATCH_DELIVERIES = Histogram(
    "slotwire_batch_deliveries",
    "Deliveries committed together.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 200),
    registry=of("serve"),
)
COMMIT_SECONDS = Histogram(
    "slotwire_commit_seconds",
    "Duration of a group commit of `serve`, in seconds.",
    buckets=_LATENCY,
    registry=of("serve"),
)
PENDING_DELIVERIES = Gauge(
    "slotwire_pending_deliveries", "Deliveries that wait for their commit.", registry=of("serve")
)
CONNECTIONS_REFUSED = Counter(
    "slotwire_connections_refused",
    "Connections that a listener (hooks, admin, health, mcp) closed: no_room, made_room (for a newcomer, by whoever"
    " waited longest), header_time, header_size, framing, unread (answers), unreadable (not HTTP/1).",
    ["listener", "reason"],
    registry=of("serve", "relay", "control", "agents", "mcp"),
)
LISTENER_CONNECTIONS = Gauge(
    "slotwire_listener_connections", "Open connections of the listener for Calendly.", registry=of("serve")
)
LISTENER_CONNECTIONS_LIMIT = Gauge(
    "slotwire_listener_connections_limit",
    "The most open connections that the listener for Calendly takes; for a further one, another is closed.",
    registry=of("serve"),
)
POOL_CONNECTIONS = Gauge(
    "slotwire_pool_connections",
    "Connections to Postgres in the process's pool, by state: used, idle.",
    ["state"],
    registry=of("serve", "control", "agents", "mcp"),
)
POOL_CONNECTIONS_LIMIT = Gauge(
    "slotwire_pool_connections_limit",
    "The most connections in the process's pool.",
    registry=of("serve", "control", "agents", "mcp"),
)
POOL_WAIT_SECONDS = Histogram(
    "slotwire_pool_wait_seconds",
    "Time until the pool gave a connection, in seconds; opening a new one is part of it.",
    buckets=_LATENCY,
    registry=of("serve", "control", "agents", "mcp"),
)
SETTLED = Counter(
    "slotwire_settled",
    "Deliveries settled by the writer, by outcome: stored, duplicate, quarantined (with its reason).",
    ["outcome", "reason"],
    registry=of("relay"),
)
APPEND_SECONDS = Histogram(
    "slotwire_append_seconds",
    "One step of the writer: read, normalize, join, append.",
    buckets=_LATENCY,
    registry=of("relay"),
)
CROSS_TENANT = Counter(
    "slotwire_cross_tenant",
    "Deliveries about a booking that another organization was told of, too. Any is an alarm.",
    registry=of("relay"),
)
DRIFTED_FIELDS = Counter(
    "slotwire_drifted_fields",
    "Deliveries with a field that is not as documented, by field; their events have it under `extra`, as it came.",
    ["field"],
    registry=of("relay"),
)
UNWRITTEN_BYTES = Readings(
    "slotwire_unwritten_bytes",
    "Bytes that are accepted and not yet written to the log, as the shard's leader reads them.",
    ["shard"],
    fresh_seconds=15,
    registry=of("relay"),
)
UNWRITTEN_LIMIT_BYTES = Gauge(
    "slotwire_unwritten_limit_bytes",
    "The most bytes of a shard that may be accepted and not yet written; past them deliveries are answered 503.",
    registry=of("serve"),
)
UNWRITTEN_SECONDS = Readings(
    "slotwire_unwritten_seconds",
    "Age of the oldest delivery that is accepted and not yet written, as the shard's leader reads it.",
    ["shard"],
    fresh_seconds=15,
    registry=of("relay"),
)
WAITING = Readings(
    "slotwire_waiting",
    "Bookings that have waited too long, by what they wait for: clear (its mark), reschedule (the other half).",
    ["shard", "kind"],
    fresh_seconds=180,
    registry=of("relay"),
)
ADMIN_REQUESTS = Counter(
    "slotwire_admin_requests",
    "Requests to the management API, by route; the route is empty if none matched.",
    ["method", "route", "status"],
    registry=of("control"),
)
SUBSCRIPTION_ROUNDS = Counter(
    "slotwire_subscription_rounds",
    "Organizations in the subscription manager's rounds: unchanged, changed, paused (no connection can act), failed,"
    " elsewhere (another process changes them).",
    ["result"],
    registry=of("control"),
)
SUBSCRIPTIONS_UNSERVED = Readings(
    "slotwire_subscriptions_unserved",
    "Wanted subscriptions that no subscription at Calendly serves, as of each organization's last round.",
    fresh_seconds=900,
    registry=of("control"),
)
SUBSCRIPTION_FINDINGS = Readings(
    "slotwire_subscription_findings",
    "What is wrong with subscriptions at Calendly, as of each organization's last round; `slotwire subscriptions check`"
    " lists it with what mends it.",
    ["finding"],
    fresh_seconds=900,
    registry=of("control"),
)
SUBSCRIPTIONS_LISTED = Readings(
    "slotwire_subscriptions_listed_timestamp_seconds",
    "When the subscriptions of the organization that waits longest were last listed at Calendly.",
    fresh_seconds=900,
    registry=of("control"),
)
HOLE_FETCHES = Counter(
    "slotwire_hole_fetches",
    "Turns of fetches that fill holes: ended, turn_over and unwritten (it goes on), lost (another process has it),"
    " paused (no connection can act), failed.",
    ["result"],
    registry=of("control"),
)
HOLE_EVENTS_RECOVERED = Counter(
    "slotwire_hole_events_recovered", "Events that fetches of holes have written.", ["type"], registry=of("control")
)
HOLES_OPEN = Readings(
    "slotwire_holes_open", "Holes that are not closed.", ["cause"], fresh_seconds=30, registry=of("control")
)
HOLE_OLDEST = Readings(
    "slotwire_hole_oldest_timestamp_seconds",
    "When the oldest hole that is not closed was noticed.",
    ["cause"],
    fresh_seconds=30,
    registry=of("control"),
)
CONNECTION_REFRESHES = Counter(
    "slotwire_connection_refreshes",
    "Refreshes of OAuth connections by outcome; `lost` and `revoked` need the customer's consent again.",
    ["outcome"],
    registry=of("control"),
)
OAUTH_REQUESTS = Counter(
    "slotwire_oauth_requests",
    "Requests to the pages on which customers connect, by outcome: `ok`, or why it did not go on.",
    ["outcome"],
    registry=of("control"),
)
CONNECTIONS = Readings(
    "slotwire_connections",
    "Connections to Calendly, by state: active, expiring, needs_reauth, revoked, error.",
    ["state"],
    fresh_seconds=30,
    registry=of("control"),
)
TOKEN_EXPIRY = Readings(
    "slotwire_token_expiry_timestamp_seconds",
    "When the first of the tokens expires that are in use and say when, as Unix time; of OAuth connections those whose"
    " refreshes fail.",
    fresh_seconds=30,
    registry=of("control"),
)
PRUNED = Counter(
    "slotwire_pruned",
    "Ranges (bodies, results, events) and rows (inbox, quarantine, dead letters, audit, uses) that retention removed.",
    ["kind"],
    registry=of("control"),
)
RETAINED_DAYS = Readings(
    "slotwire_retained_days",
    "For how many days each kind goes back that is kept for a time.",
    ["kind"],
    fresh_seconds=30,
    registry=of("control"),
)
RANGES_HELD = Readings(
    "slotwire_ranges_held",
    "Days that are older than their retention and still needed: not written, not published, parked or waiting.",
    ["kind"],
    fresh_seconds=30,
    registry=of("control"),
)
RANGES_AHEAD = Readings(
    "slotwire_ranges_ahead",
    "Days for which partitions of the log are made ahead. Below 2 is an alarm.",
    fresh_seconds=30,
    registry=of("control"),
)
PARKED_EVENTS = Readings(
    "slotwire_parked_events",
    "Events that the broker refused and that wait in Postgres. Any is an alarm.",
    fresh_seconds=30,
    registry=of("control"),
)
QUARANTINE_WAITING = Readings(
    "slotwire_quarantine_waiting",
    "Deliveries in quarantine that wait for a decision, by reason; counted up to 100,000.",
    ["reason"],
    fresh_seconds=30,
    registry=of("control"),
)
POSTGRES_CONNECTIONS = Readings(
    "slotwire_postgres_connections",
    "Connections to the Postgres server, of whatever program.",
    fresh_seconds=30,
    registry=of("control"),
)
POSTGRES_CONNECTIONS_LIMIT = Readings(
    "slotwire_postgres_connections_limit",
    "Connections that the Postgres server takes from ordinary roles: `max_connections` less what it reserves.",
    fresh_seconds=30,
    registry=of("control"),
)
LAST_DELIVERY = Readings(
    "slotwire_last_delivery_timestamp_seconds",
    "When an organization's last webhook came, as Unix time; of an organization with subscriptions and no webhook yet,"
    " when the first subscription was made. Beyond `SLOTWIRE_METRICS__ORGANIZATIONS`, `others` has the newest.",
    ["organization"],
    fresh_seconds=30,
    registry=of("control"),
)
SILENCE_PROBABILITY = Readings(
    "slotwire_silence_probability",
    "How usual a silence as long as the present one is, by the hours of the week in which the organization's last weeks"
    " had webhooks: near 1 is usual, below 0.001 is an alarm. Missing until two weeks are known, and after four of"
    " silence. Beyond `SLOTWIRE_METRICS__ORGANIZATIONS`, `others` has the least.",
    ["organization"],
    fresh_seconds=30,
    registry=of("control"),
)
ORGANIZATIONS_SILENT = Readings(
    "slotwire_organizations_silent",
    "Organizations whose silence has a probability below 0.001, of all of them.",
    fresh_seconds=30,
    registry=of("control"),
)
RELAY_LEADER = Gauge("slotwire_relay_leader", "1 while this process leads the shard.", ["shard"], registry=of("relay"))
RELAY_LAG_EVENTS = Readings(
    "slotwire_relay_lag_events",
    "Events in the log that are not published yet, as the shard's leader reads them; counted up to 100,000.",
    ["shard"],
    fresh_seconds=15,
    registry=of("relay"),
)
RELAY_LAG_SECONDS = Readings(
    "slotwire_relay_lag_seconds",
    "Age of the oldest event that is not published yet, as the shard's leader reads it.",
    ["shard"],
    fresh_seconds=15,
    registry=of("relay"),
)
RELAY_PUBLISHED = Counter("slotwire_relay_published", "Events published.", ["topic"], registry=of("relay"))
RELAY_HOLDING = Gauge(
    "slotwire_relay_holding",
    "1 while the relay holds, by reason: topic, cursor, broker, refused, database.",
    ["reason"],
    registry=of("relay"),
)
RELAY_TRANSACTION_SECONDS = Histogram(
    "slotwire_relay_transaction_seconds",
    "Duration of a transaction at the broker, in seconds.",
    buckets=_LATENCY,
    registry=of("relay"),
)
HANDLED = Counter(
    "slotwire_handled",
    "Events handled, by outcome: done, skipped, filtered, dead_lettered; and failed runs to be retried: retried.",
    ["agent", "type", "outcome"],
    registry=of("agents"),
)
HANDLER_SECONDS = Histogram(
    "slotwire_handler_seconds",
    "Duration of one run of a handler, in seconds.",
    ["agent", "type"],
    buckets=_LATENCY,
    registry=of("agents"),
)
POST_TO_HANDLER_SECONDS = Histogram(
    "slotwire_post_to_handler_seconds",
    "Time from the arrival of a webhook to the first run of its handler, in seconds; without replays and backfills.",
    ["agent"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 10800.0),
    registry=of("agents"),
)
CONSUMER_LAG_RECORDS = Readings(
    "slotwire_consumer_lag_records",
    "Records up to the last stable offset that are not settled yet, of the partitions that this member has.",
    ["agent", "topic", "partition"],
    fresh_seconds=60,
    registry=of("agents"),
)
CONSUMER_IN_FLIGHT = Gauge(
    "slotwire_consumer_in_flight", "Records being handled or held.", ["agent"], registry=of("agents")
)
DEAD_LETTERS = Counter(
    "slotwire_dead_letters", "Records sent to the dead letter topic.", ["agent", "topic"], registry=of("agents")
)
CONSUMER_QUEUED = Gauge(
    "slotwire_consumer_queued",
    "Records that wait in Postgres for a later attempt, or behind one, of the partitions that this member has.",
    ["agent"],
    registry=of("agents"),
)
CONSUMER_QUEUE_FULL = Gauge(
    "slotwire_consumer_queue_full",
    "1 while a record finds no room in the agent's queue.",
    ["agent"],
    registry=of("agents"),
)
CONSUMER_STUCK = Gauge(
    "slotwire_consumer_stuck", "1 while there is lag and no progress.", ["agent"], registry=of("agents")
)


@cache
def _delivery_metrics(outcome: str, reason: str) -> tuple[Counter, Histogram]:
    """Cache the labelled children: looking them up costs more than counting."""
    return DELIVERIES.labels(outcome, reason), DELIVERY_SECONDS.labels(outcome)


def count_delivery(outcome: str, reason: str, seconds: float) -> None:
    """Count an answered delivery. Outcomes and reasons come from short fixed lists."""
    counted, timed = _delivery_metrics(outcome, reason)
    counted.inc()
    timed.observe(seconds)


def get_logger(name: str, **values: str) -> FilteringBoundLogger:
    """Return a logger whose events carry this name as `stage`, and these values; costs nothing until it is used."""
    logger: FilteringBoundLogger = structlog.get_logger(stage=name, **values)
    return logger
