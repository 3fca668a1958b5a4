"""What is known of an invitee: a row of `slotwire.bookings`, and what can be read from it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from slotwire.schemas.calendly import InviteePayload, ScheduledEvent


@dataclass(frozen=True, slots=True)
class Mark:
    """A no-show mark; `cleared_at` is the second of the clear that took it away."""

    uri: str
    created_at: datetime
    cleared_at: datetime | None = None

    @property
    def second(self) -> datetime:
        """The mark's time as far as it can be compared with a clear's, which has whole seconds."""
        return self.created_at.replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Clear:
    """A no-show mark was taken away; Calendly does not say which.

    Attributes:
        at: the second.
        delivery: what told it first.
        alone: it was published under its own second, because no mark at or before it had been told in time.
    """

    at: datetime
    delivery: UUID
    alone: bool = False


class Booking(NamedTuple):
    """What we know of one invitee.

    Attributes:
        revision: 0 for one that is not stored yet.
        state: `named` is known from a neighbour only.
        old_invitees: whom it replaced; more than one only where payloads contradict each other.
        new_invitees: who replaced it; as above.
        marks: by time.
        clears: by time, whether or not their marks are known.
        told_at: `updated_at` of the payload that told `provider_status`.
        event_told_at: `updated_at` of the scheduled event that told times, hosts and place.
        waits_since: when it began to wait for the mark of a clear, or as the newer half of a reschedule
            for the other one; None while it waits for nothing.
    """

    invitee: str
    org: str
    chain_key: str
    chain_root: str
    revision: int = 0
    state: Literal["named", "active", "canceled"] = "named"
    provider_status: str | None = None
    old_invitees: tuple[str, ...] = ()
    new_invitees: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    clears: tuple[Clear, ...] = ()
    told_at: datetime | None = None
    booked_at: datetime | None = None
    scheduled_event: str | None = None
    event_told_at: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    hosts: tuple[str, ...] = ()
    location_type: str | None = None
    waits_since: datetime | None = None

    @property
    def no_show(self) -> bool:
        """Whether a mark is set."""
        return any(mark.cleared_at is None for mark in self.marks)

    @property
    def waiting_clears(self) -> tuple[Clear, ...]:
        """The clears for which no event was written: no mark at or before them is known."""
        first = self.marks[0].second if self.marks else None
        return tuple(clear for clear in self.clears if not clear.alone and (first is None or clear.at < first))

    def clear_of(self, mark: Mark) -> Clear | None:
        """Return the clear that took a mark away: the first one at or after its time."""
        return next((clear for clear in self.clears if clear.at >= mark.second), None)


def first_told(invitee: str, org: str, key: str, payload: InviteePayload) -> Booking:
    """Make the row of an invitee nobody has named yet: what `retold` makes of a blank one, in one step."""
    event, status = payload.scheduled_event, payload.status
    told_at, start_time, end_time, hosts, place = _meeting(event, payload) if event else (None, None, None, (), None)
    return Booking(
        invitee=invitee,
        org=org,
        chain_key=key,
        chain_root=invitee,
        provider_status=status,
        told_at=None if status is None else payload.updated_at,
        booked_at=payload.created_at,
        scheduled_event=payload.event or (event.uri if event else None),
        event_told_at=told_at,
        start_time=start_time,
        end_time=end_time,
        hosts=hosts,
        location_type=place,
    )


def moved(older: Booking, newer: Booking) -> bool:
    """Whether both halves of the reschedule from one to the other are known."""
    return newer.invitee in older.new_invitees and older.state == "canceled" and newer.state != "named"


def half_moved(older: Booking, newer: Booking) -> bool:
    """Whether just one half of the reschedule from one to the other is known."""
    return newer.invitee in older.new_invitees and (older.state == "canceled") != (newer.state != "named")


def by_time(marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
    """Sort marks by time; two of one time by name."""
    return tuple(sorted(marks, key=lambda each: (each.created_at, each.uri)))


def retold(row: Booking, payload: InviteePayload) -> Booking:
    """Keep what the newest payload says of status, and what the newest scheduled event says of itself.

    What is not told changes nothing. Of two words of one time the greater counts, `canceled` before all, so
    that the order of arrival does not.
    """
    event, status = payload.scheduled_event, payload.status
    changes: dict[str, Any] = {
        "booked_at": _greater(row.booked_at, payload.created_at),
        "scheduled_event": _greater(row.scheduled_event, payload.event or (event.uri if event else None)),
    }
    if status is not None and _newer(
        (payload.updated_at, status == "canceled", status),
        (row.told_at, row.provider_status == "canceled", row.provider_status),
    ):
        changes |= {"told_at": payload.updated_at, "provider_status": status}
    if event is not None:
        words = _meeting(event, payload)
        if _newer(words, (row.event_told_at, row.start_time, row.end_time, row.hosts, row.location_type)):
            changes |= zip(_MEETING, words, strict=True)
    return row._replace(**changes)


_MEETING = ("event_told_at", "start_time", "end_time", "hosts", "location_type")


def _meeting(event: ScheduledEvent, payload: InviteePayload) -> tuple[Any, ...]:
    """Read what a scheduled event says of itself, in the order of `_MEETING`."""
    hosts = tuple([host.user for host in event.event_memberships if host.user])
    place = event.location.type if event.location else None
    return event.updated_at or payload.updated_at, event.start_time, event.end_time, hosts, place


def _greater(known: Any, told: Any) -> Any:
    """Choose of what never changes: what is told, and where two contradict each other, the greater."""
    return told if known is None or (told is not None and told > known) else known


def _newer(told: tuple[Any, ...], known: tuple[Any, ...]) -> bool:
    """Compare words item by item, the time first; what is not told comes before all else."""
    return told != known and [(item is not None, item) for item in told] > [(item is not None, item) for item in known]
