"""An event with its context, as a consumer gets it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from .events import EventData

D_co = TypeVar("D_co", bound=EventData, covariant=True)


@dataclass(frozen=True)
class Event(Generic[D_co]):
    """One event with its context. Frozen.

    Attributes:
        id: deterministic: the same fact always has the same id.
        type: for example `com.calendly.invitee.created.v1`.
        source: `/organizations/{org}`.
        subject: the URI of the resource it is about; for invitee events the invitee.
        time: when it happened, as far as Calendly says.
        key: the record's key; records of one key come in order.
        sequence: the position in the log.
        data: the event itself.
        recorded_time: when Slotwire received its delivery.
        dataref: the reference to the data if the event was too large for a record; `data` was fetched from there.
        traceparent: the trace of its delivery (W3C).
        inferred: whether Slotwire inferred it from a later event.
        origin: how its delivery came in: `webhook`, `backfill`, `reconcile`, `retry` or `own`.
        replay: the replay that published it again, if any.
        tenant: the organization's `external_id`.
    """

    id: UUID
    type: str
    source: str
    subject: str
    time: datetime
    key: str
    sequence: int
    data: D_co
    recorded_time: datetime | None = None
    dataref: str | None = None
    traceparent: str | None = None
    inferred: bool = False
    origin: str | None = None
    replay: str | None = None
    tenant: str | None = None

    @property
    def organization(self) -> str:
        """The organization's identifier: the last segment of its URI."""
        return self.source.rpartition("/")[2]
