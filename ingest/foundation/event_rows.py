"""An event's context, as a row of the log has it: the relay publishes it, and an author tries a past event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg

from slotwire.schemas.codec import Attributes


def attributes_of(row: Mapping[str, Any] | asyncpg.Record, event_id: UUID, *, dataref: str | None = None) -> Attributes:
    """Read the context of an event.

    Args:
        row: with the columns of `slotwire.events`.
        event_id: the event's id.
        dataref: the reference to data that is too large for a record.
    """
    return Attributes(
        id=event_id,
        type=row["type"],
        organization=row["org"],
        subject=row["subject"],
        time=row["time"],
        key=row["key"],
        sequence=row["position"],
        recorded_time=row["recorded_at"],
        traceparent=row["traceparent"],
        inferred=row["inferred"],
        origin=row["origin"],
        tenant=row["tenant"],
        dataref=dataref,
    )
