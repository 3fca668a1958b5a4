"""An event as a consumer holds it."""

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
        id: deterministic: the same fact always has the same one.
        type: for example `com.calendly.invitee.created.v1`.
        source: `/organizations/{org}`.
        subject: the URI of what it is about; the invitee for invitee events.
        time: when it happened, as far as Calendly says.
        key: the record's key; records of one key come in order.
        sequence: the position in the log.
        data: the event itself.
        recorded_time: when its delivery arrived here.
        dataref: where the data is, when it was too large to travel (`data` is then fetched from there).
        traceparent: the trace of the delivery it came from.
        inferred: whether we concluded it from a later event.
        replay: the replay that sent it again, if one did.
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
    replay: str | None = None
    tenant: str | None = None

    @property
    def organization(self) -> str:
        """The organization's identifier: the last segment of its URI."""
        return self.source.rpartition("/")[2]
