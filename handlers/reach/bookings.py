"""What an agent may read of an organization's bookings beyond the event it handles: `ctx.bookings`.

The functions of the database that it reads through answer for one organization; a context has that of its event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, cast

from pydantic import ValidationError

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated
from slotwire.schemas.event_data import EventData
from slotwire.schemas.events import BY_TYPE, InviteeCreated

MAX_BOOKINGS = 300
"""Bookings, or changes, that one question answers with."""
_QUERIES = read_queries("slotwire.handlers.sql", "bookings.sql")


@dataclass(frozen=True, slots=True)
class OrganizationBooking:
    """An active booking.

    Attributes:
        invitee: its URI.
        scheduled_event: the URI of the meeting.
        start_time: of the meeting.
        end_time: of the meeting.
        hosts: the URIs of the users that host it.
        location_type: in Calendly's words.
        no_show: whether the invitee is marked as not having come.
        created: what the invitee told; None where the log does not have it any more, or it is longer than 64 KiB.
    """

    invitee: str
    scheduled_event: str | None
    start_time: datetime
    end_time: datetime | None = None
    hosts: tuple[str, ...] = ()
    location_type: str | None = None
    no_show: bool = False
    created: InviteeCreated | None = None


@dataclass(frozen=True, slots=True)
class BookingChange:
    """Something that happened to a booking.

    Attributes:
        position: of the event in the log.
        type: of the event.
        invitee: its URI.
        start_time: of the meeting, as it is now.
        data: the event's; None where it is longer than 64 KiB.
        created: of a move, what the new invitee told; else None.
    """

    position: int
    type: str
    invitee: str
    start_time: datetime | None = None
    data: EventData | None = None
    created: InviteeCreated | None = None


@dataclass(frozen=True, slots=True)
class WaitingForPerson:
    """Something of the organization that waits for a person.

    Attributes:
        kind: `subscriptions`, `connections`, `expiring`, `holes`, `quarantine`, `dead_letters`, `runs`, `approvals` or
            `actions`.
        number: how many.
        since: since when the oldest of them does.
    """

    kind: str
    number: int
    since: datetime | None = None


class BookingSource(Protocol):
    """Where the runtime finds bookings of organizations: in Postgres, or in memory for an agent's own tests."""

    async def last_event(self, organization: str) -> int:
        """Return the place of the newest event in the log; 0 if there is none."""
        ...

    async def between(
        self, organization: str, start: datetime, end: datetime, host: str | None
    ) -> Sequence[OrganizationBooking]:
        """Read the active bookings whose meetings start in a stretch of time."""
        ...

    async def changes(
        self, organization: str, after: int | None, until: int, since: datetime, host: str | None
    ) -> Sequence[BookingChange]:
        """Read what happened to bookings between two places in the log."""
        ...

    async def created(self, organization: str, invitee: str) -> InviteeCreated | None:
        """Read what an invitee told when they booked."""
        ...

    async def waiting(self, organization: str) -> Sequence[WaitingForPerson]:
        """Read what waits for a person."""
        ...


class OrganizationBookings:
    """The bookings of one organization: `ctx.bookings`.

    Raises:
        DatabaseUnavailable: Postgres is away. Do not catch it.
    """

    def __init__(self, source: BookingSource, organization: str) -> None:
        self._source = source
        self._organization = organization

    async def last_event(self) -> int:
        """Return the place of the organization's newest event in the log; 0 if there is none."""
        return await self._source.last_event(self._organization)

    async def between(
        self, start: datetime, end: datetime, *, host: str | None = None
    ) -> Sequence[OrganizationBooking]:
        """Read the active bookings whose meetings start from one time on and before another, in that order.

        Args:
            start: with a zone.
            end: with a zone.
            host: the URI of a user: only what they host.

        Returns:
            At most `MAX_BOOKINGS`, and one more where there are more.
        """
        return await self._source.between(self._organization, start, end, host)

    async def changes(
        self, after: int | None, until: int, *, since: datetime, host: str | None = None
    ) -> Sequence[BookingChange]:
        """Read what happened to bookings: made, moved, canceled, marked as no-show, and such a mark cleared.

        Args:
            after: the place of an event in the log; None: what was recorded at `since` or later is read.
            until: the place of another event, which is read too.
            since: with a zone. What was fetched when the organization was connected is left out, if it is older.
            host: the URI of a user: only what they host.

        Returns:
            At most `MAX_BOOKINGS` in the log's order, and one more where there are more.
        """
        return await self._source.changes(self._organization, after, until, since, host)

    async def created(self, invitee: str) -> InviteeCreated | None:
        """Read what an invitee told when they booked; None where the log does not have it any more."""
        return await self._source.created(self._organization, invitee)

    async def waiting(self) -> Sequence[WaitingForPerson]:
        """Read what of the organization waits for a person, whatever it is: numbers and times."""
        return await self._source.waiting(self._organization)


class PostgresBookings:
    """Bookings in Postgres."""

    def __init__(self, database: Pool | Connection, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def last_event(self, organization: str) -> int:
        """Return the place of the newest event in the log; 0 if there is none."""
        with translated():
            return int(await self._database.fetchval(_QUERIES["last_event"], organization) or 0)

    async def between(
        self, organization: str, start: datetime, end: datetime, host: str | None
    ) -> Sequence[OrganizationBooking]:
        """Read the active bookings whose meetings start in a stretch of time."""
        with translated():
            rows = await self._database.fetch(_QUERIES["bookings"], organization, start, end, host, MAX_BOOKINGS + 1)
        return [
            OrganizationBooking(
                row["invitee"],
                row["scheduled_event"],
                row["start_time"],
                row["end_time"],
                tuple(row["hosts"]),
                row["location_type"],
                row["no_show"],
                _created(row["data"]),
            )
            for row in rows
        ]

    async def changes(
        self, organization: str, after: int | None, until: int, since: datetime, host: str | None
    ) -> Sequence[BookingChange]:
        """Read what happened to bookings between two places in the log."""
        with translated():
            rows = await self._database.fetch(
                _QUERIES["changes"], organization, after, until, since, host, MAX_BOOKINGS + 1
            )
        return [
            BookingChange(
                row["position"],
                row["type"],
                row["subject"],
                row["start_time"],
                _data(row["type"], row["data"]),
                _created(row["booked"]),
            )
            for row in rows
        ]

    async def created(self, organization: str, invitee: str) -> InviteeCreated | None:
        """Read what an invitee told when they booked."""
        with translated():
            return _created(await self._database.fetchval(_QUERIES["created"], organization, invitee))

    async def waiting(self, organization: str) -> Sequence[WaitingForPerson]:
        """Read what waits for a person."""
        with translated():
            rows = await self._database.fetch(_QUERIES["attention"], organization, self._clock.now())
        return [WaitingForPerson(row["kind"], row["number"], row["since"]) for row in rows]


@dataclass
class MemoryBookings:
    """Bookings of a trial, in memory: a test sets them, for its one organization.

    Attributes:
        known: the active bookings.
        changed: what happened to bookings.
        told: what invitees told, by their URIs.
        waits: what waits for a person.
    """

    known: list[OrganizationBooking] = field(default_factory=list)
    changed: list[BookingChange] = field(default_factory=list)
    told: dict[str, InviteeCreated] = field(default_factory=dict)
    waits: list[WaitingForPerson] = field(default_factory=list)

    async def last_event(self, organization: str) -> int:
        """Return the place of the newest change."""
        del organization
        return max((change.position for change in self.changed), default=0)

    async def between(
        self, organization: str, start: datetime, end: datetime, host: str | None
    ) -> Sequence[OrganizationBooking]:
        """Return those that the test has set."""
        del organization
        found = [each for each in self.known if start <= each.start_time < end and (host is None or host in each.hosts)]
        return sorted(found, key=lambda each: each.start_time)[: MAX_BOOKINGS + 1]

    async def changes(
        self, organization: str, after: int | None, until: int, since: datetime, host: str | None
    ) -> Sequence[BookingChange]:
        """Return those that the test has set, whoever hosts them."""
        del organization, since, host
        return [each for each in self.changed if (after or 0) < each.position <= until][: MAX_BOOKINGS + 1]

    async def created(self, organization: str, invitee: str) -> InviteeCreated | None:
        """Return what the test has set."""
        del organization
        return self.told.get(invitee)

    async def waiting(self, organization: str) -> Sequence[WaitingForPerson]:
        """Return what the test has set."""
        del organization
        return tuple(self.waits)


def _created(data: bytes | None) -> InviteeCreated | None:
    return cast("InviteeCreated | None", _data(InviteeCreated.type, data))


def _data(kind: str, data: bytes | None) -> EventData | None:
    """Read an event's data; None where it is not there, or of a version whose data this one cannot read."""
    cls = BY_TYPE.get(kind)
    if cls is None or data is None:
        return None
    try:
        return cls.model_validate_json(data)
    except ValidationError:
        return None
