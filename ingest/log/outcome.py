"""The outcomes of a delivery: values of `slotwire.results.outcome`, and labels of metrics. Pure."""

from __future__ import annotations

from enum import StrEnum


class DeliveryOutcome(StrEnum):
    """What became of an authentic delivery. The join decides, and the log may still find a duplicate."""

    STORED = "stored"
    """It reported something new, which is now an event or waits for one."""
    DUPLICATE = "duplicate"
    """It reported what was known already."""
    QUARANTINED = "quarantined"
    """It could not be understood; its body is stored raw, with a reason."""
