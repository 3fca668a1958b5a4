"""What a join leads to: rows as they become, and events to write. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from slotwire.ingest.log.booking import Booking
from slotwire.schemas.events import EventData
from slotwire.schemas.ids import EventId


class NewEvent(NamedTuple):
    """An event to append to the log.

    Attributes:
        inferred: Calendly did not tell of it: it follows from a payload that told of something later, or from what
            REST does not show any more.
        late: it is written long after its delivery came, because that had to wait.
    """

    id: EventId
    data: EventData
    subject: str
    key: str
    time: datetime
    inferred: bool = False
    late: bool = False


@dataclass(slots=True)
class JoinResult:
    """The new rows and events that a fact leads to.

    Attributes:
        primary: the id of the fact's own event; None while a clear waits for its mark.
        bookings: the changed rows, by invitee.
        events: in the order in which they are written.
        roots: chain roots that are no longer the oldest, each with the root that is.
    """

    primary: EventId | None
    bookings: dict[str, Booking] = field(default_factory=dict)
    events: list[NewEvent] = field(default_factory=list)
    roots: list[tuple[str, str]] = field(default_factory=list)
