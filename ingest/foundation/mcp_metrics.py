"""Metrics of `slotwire mcp serve`; part of `telemetry`, which declares them with all others."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from slotwire.ingest.foundation.exposition import of

MCP_REQUESTS = Counter(
    "slotwire_mcp_requests",
    "Requests to the MCP listener, by what they were for (token, metadata, mcp) and the status of the answer.",
    ["what", "status"],
    registry=of("mcp"),
)
MCP_CALLS = Counter(
    "slotwire_mcp_calls",
    "Calls of tools, by tool (`unknown`: one that the agent does not have) and result: done, refused, failed, or gone:"
    " the client went away before the answer.",
    ["tool", "result"],
    registry=of("mcp"),
)
MCP_CALL_SECONDS = Histogram(
    "slotwire_mcp_call_seconds",
    "Time that a call of a tool took, in seconds.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    registry=of("mcp"),
)
