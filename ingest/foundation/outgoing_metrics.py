"""Metrics of requests to addresses that somebody else names; part of `telemetry`, which declares them with all others.

No label names a destination: tenants make as many of them as they like.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from slotwire.ingest.foundation.exposition import of

OUTGOING_REQUESTS = Counter(
    "slotwire_outgoing_requests",
    "Requests to addresses that customers or operators name, by what they are for and by outcome: 2xx, 3xx, 4xx, 5xx;"
    " refused ones by rule (url, scheme, userinfo, fragment, address); failed ones by cause (name_unknown,"
    " connection_refused, unreachable, tls_error, timeout, disconnected, answer_unreadable, limited); and interrupted.",
    ["purpose", "outcome"],
    registry=of("agents", "mcp"),
)
OUTGOING_SECONDS = Histogram(
    "slotwire_outgoing_seconds",
    "Time of one such request, in seconds; the wait for a turn at its destination is part of it.",
    ["purpose"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    registry=of("agents", "mcp"),
)
DIGESTS = Counter(
    "slotwire_digests",
    "Digests of `nightly-digest`, by way (mail, file, webhook, host) and outcome: sent, failed, dry_run.",
    ["way", "outcome"],
    registry=of("agents"),
)
