"""Logs and metrics, declared in one place.

Log events have static names and carry their data in fields. All metrics are declared here. Neither logs nor metrics
ever carry a secret, a hook, a capability URL or personal data.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from slotwire.ingest.foundation.settings import LogSettings

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

REGISTRY = CollectorRegistry()
_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 8.0)

DELIVERIES = Counter(
    "slotwire_deliveries",
    "Deliveries answered, by outcome: accepted, refused, unavailable, rejected.",
    ["outcome", "reason"],
    registry=REGISTRY,
)
DELIVERY_SECONDS = Histogram(
    "slotwire_delivery_seconds",
    "Time from the first byte of the body to the answer, in seconds.",
    ["outcome"],
    buckets=_LATENCY,
    registry=REGISTRY,
)
SIGNATURE_AGE_SECONDS = Histogram(
    "slotwire_signature_age_seconds",
    "Age of an authentic signature on arrival, in seconds.",
    buckets=(1, 3, 10, 60, 180, 300, 900, 3600, 21600, 86400, 172800),
    registry=REGISTRY,
)
BATCH_DELIVERIES = Histogram(
    "slotwire_batch_deliveries",
    "Deliveries committed together.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 200),
    registry=REGISTRY,
)
COMMIT_SECONDS = Histogram(
    "slotwire_commit_seconds",
    "Duration of a group commit of `serve`, in seconds.",
    buckets=_LATENCY,
    registry=REGISTRY,
)
PENDING_DELIVERIES = Gauge("slotwire_pending_deliveries", "Deliveries that wait for their commit.", registry=REGISTRY)
CONNECTIONS_REFUSED = Counter(
    "slotwire_connections_refused", "Connections closed at once because too many were open.", registry=REGISTRY
)
SETTLED = Counter(
    "slotwire_settled",
    "Deliveries settled by the writer, by outcome: stored, duplicate, quarantined (with its reason).",
    ["outcome", "reason"],
    registry=REGISTRY,
)
APPEND_SECONDS = Histogram(
    "slotwire_append_seconds",
    "One step of the writer: read, normalize, join, append.",
    buckets=_LATENCY,
    registry=REGISTRY,
)
CROSS_TENANT = Counter(
    "slotwire_cross_tenant",
    "Deliveries about a booking that another organization was told of, too. Any is an alarm.",
    registry=REGISTRY,
)
DRIFTED_FIELDS = Counter(
    "slotwire_drifted_fields",
    "Deliveries with a field that is not as documented, by field; their events have it under `extra`, as it came.",
    ["field"],
    registry=REGISTRY,
)
RANGES_AHEAD = Gauge(
    "slotwire_ranges_ahead",
    "Days for which partitions of the log are made ahead. Below 2 is an alarm.",
    registry=REGISTRY,
)
UNWRITTEN_BYTES = Gauge(
    "slotwire_unwritten_bytes",
    "Bytes that are accepted and not yet written to the log.",
    ["shard"],
    registry=REGISTRY,
)
UNWRITTEN_SECONDS = Gauge(
    "slotwire_unwritten_seconds",
    "Age of the oldest delivery that is accepted and not yet written. Above 60 is an alarm.",
    ["shard"],
    registry=REGISTRY,
)
ADMIN_REQUESTS = Counter(
    "slotwire_admin_requests",
    "Requests to the management API, by route; the route is empty if none matched.",
    ["method", "route", "status"],
    registry=REGISTRY,
)
WAITING = Gauge(
    "slotwire_waiting",
    "Bookings that have waited too long, by what they wait for: the mark of a clear, the other half of a reschedule.",
    ["shard", "kind"],
    registry=REGISTRY,
)
SUBSCRIPTION_ROUNDS = Counter(
    "slotwire_subscription_rounds",
    "Organizations in the subscription manager's rounds: unchanged, changed, paused (no connection can act), failed.",
    ["result"],
    registry=REGISTRY,
)
SUBSCRIPTIONS_UNSERVED = Gauge(
    "slotwire_subscriptions_unserved",
    "Wanted subscriptions that no subscription at Calendly serves, as of the last round.",
    registry=REGISTRY,
)
CONNECTIONS = Gauge(
    "slotwire_connections",
    "Connections to Calendly, by state: active, expiring, needs_reauth, revoked, error.",
    ["state"],
    registry=REGISTRY,
)
RELAY_LEADER = Gauge("slotwire_relay_leader", "1 while this process leads the shard.", ["shard"], registry=REGISTRY)
RELAY_LAG_EVENTS = Gauge(
    "slotwire_relay_lag_events", "Events in the log that are not published yet.", ["shard"], registry=REGISTRY
)
RELAY_LAG_SECONDS = Gauge(
    "slotwire_relay_lag_seconds",
    "Age of the oldest event that is not published yet, in seconds.",
    ["shard"],
    registry=REGISTRY,
)
RELAY_PUBLISHED = Counter("slotwire_relay_published", "Events published.", ["topic"], registry=REGISTRY)
RELAY_PARKED = Counter(
    "slotwire_relay_parked",
    "Events the broker refused, which stay in Postgres. Alert on any.",
    registry=REGISTRY,
)
RELAY_HOLDING = Gauge(
    "slotwire_relay_holding",
    "1 while the relay holds, by reason: topic, cursor, broker, refused, database.",
    ["reason"],
    registry=REGISTRY,
)
RELAY_TRANSACTION_SECONDS = Histogram(
    "slotwire_relay_transaction_seconds",
    "Duration of a transaction at the broker, in seconds.",
    buckets=_LATENCY,
    registry=REGISTRY,
)
HANDLED = Counter(
    "slotwire_handled",
    "Events handled, by outcome: done, skipped, dead_lettered; and failed runs that will be retried: retried.",
    ["agent", "type", "outcome"],
    registry=REGISTRY,
)
HANDLER_SECONDS = Histogram(
    "slotwire_handler_seconds",
    "Duration of one run of a handler, in seconds.",
    ["agent", "type"],
    buckets=_LATENCY,
    registry=REGISTRY,
)
CONSUMER_LAG_RECORDS = Gauge(
    "slotwire_consumer_lag_records",
    "Records up to the last stable offset that are not settled yet.",
    ["agent", "topic", "partition"],
    registry=REGISTRY,
)
CONSUMER_IN_FLIGHT = Gauge(
    "slotwire_consumer_in_flight", "Records being handled or held.", ["agent"], registry=REGISTRY
)
DEAD_LETTERS = Counter(
    "slotwire_dead_letters", "Records sent to the dead letter topic.", ["agent", "topic"], registry=REGISTRY
)
CONSUMER_STUCK = Gauge("slotwire_consumer_stuck", "1 while there is lag and no progress.", ["agent"], registry=REGISTRY)


@cache
def _delivery_metrics(outcome: str, reason: str) -> tuple[Counter, Histogram]:
    """Cache the labelled children: looking them up costs more than counting."""
    return DELIVERIES.labels(outcome, reason), DELIVERY_SECONDS.labels(outcome)


def count_delivery(outcome: str, reason: str, seconds: float) -> None:
    """Count an answered delivery. Outcomes and reasons come from short fixed lists."""
    counted, timed = _delivery_metrics(outcome, reason)
    counted.inc()
    timed.observe(seconds)


def configure_logging(settings: LogSettings, *, process: str) -> None:
    """Set up structlog once, at the start of a process. Logs go to stderr."""
    renderer: Any
    factory: Any
    if settings.format == "json":
        renderer = structlog.processors.JSONRenderer(serializer=orjson.dumps)
        factory = structlog.BytesLoggerFactory(file=sys.stderr.buffer)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        factory = structlog.WriteLoggerFactory(file=sys.stderr)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
            if settings.format == "json"
            else structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    # aiokafka repeats itself ten times a second while a broker is away; our own log events say what matters.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.contextvars.bind_contextvars(process=process)


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose events carry this name as `stage`."""
    logger: FilteringBoundLogger = structlog.get_logger(stage=name)
    return logger
