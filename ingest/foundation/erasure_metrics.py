"""Metrics of erasures; part of `telemetry`, which declares them with all others."""

from __future__ import annotations

from slotwire.ingest.foundation.exposition import Readings, of

ERASURES_OPEN = Readings(
    "slotwire_erasures_open",
    "Erasures of a person that were asked for and did not end.",
    [],
    fresh_seconds=30,
    registry=of("control"),
)
ERASURE_OLDEST = Readings(
    "slotwire_erasure_oldest_timestamp_seconds",
    "When the oldest of those was asked for; missing where none is open.",
    [],
    fresh_seconds=30,
    registry=of("control"),
)
