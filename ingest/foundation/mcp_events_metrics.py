"""Metrics of MCP Events; part of `telemetry`, which declares them with all others. No label names an agent."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from slotwire.ingest.foundation.exposition import of

MCP_EVENT_TRIES = Counter(
    "slotwire_mcp_event_tries",
    "Messages sent to webhooks of MCP Events, by what they were (event, gap, terminated) and what came back:"
    " acknowledged, refused for good (`final`), or failed.",
    ["message", "result"],
    registry=of("mcp"),
)
MCP_EVENTS_GIVEN_UP = Counter(
    "slotwire_mcp_events_given_up",
    "Events that a subscription of MCP Events was not told of: its client learns of a gap.",
    registry=of("mcp"),
)
MCP_EVENT_SECONDS = Histogram(
    "slotwire_mcp_event_seconds",
    "Time from the arrival of an event's delivery to the acknowledgement of a webhook of MCP Events, in seconds.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0),
    registry=of("mcp"),
)
MCP_EVENT_SUBSCRIPTIONS = Gauge(
    "slotwire_mcp_event_subscriptions", "Subscriptions of MCP Events that this process delivers.", registry=of("mcp")
)
MCP_EVENT_BUSY = Gauge(
    "slotwire_mcp_event_subscriptions_busy",
    "Subscriptions of MCP Events that are read or sent to at this moment: after a start all are, until they catch up.",
    registry=of("mcp"),
)
MCP_EVENT_STREAMS = Gauge("slotwire_mcp_event_streams", "Open streams of MCP Events.", registry=of("mcp"))
