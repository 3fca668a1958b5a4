"""What is known of the chain that an event belongs to: its bookings, and what the agent itself remembers of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from slotwire.handlers.batching import CallBatcher, Reply
from slotwire.handlers.database import DatabaseConnection, DatabaseRow
from slotwire.handlers.reach.bookings import BookingSource, MemoryBookings, PostgresBookings
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated

MAX_CHAIN = 100
"""Bookings of a chain that are read; of a longer one the oldest."""
MAX_STATE_BYTES = 65_536
"""Of an agent's state of one chain, as JSON."""
_QUERIES = read_queries("slotwire.handlers.sql", "inbox.sql")


@dataclass(frozen=True, slots=True)
class BookingSnapshot:
    """A booking as it is known now, which may be later than the event.

    Attributes:
        invitee: its URI.
        state: `active` or `canceled`; `named` where only a neighbour in the chain told of it.
        provider_status: Calendly's own word for it, as last told.
        no_show: whether the invitee is marked as not having come.
        scheduled_event: the URI of the meeting.
        start_time: of the meeting.
        end_time: of the meeting.
        hosts: the URIs of the users that host it.
        location_type: in Calendly's words.
        old_invitee: the booking that it replaced.
        new_invitee: the booking that replaced it.
        booked_at: when it was made.
        revision: grows with each change.
    """

    invitee: str
    state: str
    provider_status: str | None = None
    no_show: bool = False
    scheduled_event: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    hosts: tuple[str, ...] = ()
    location_type: str | None = None
    old_invitee: str | None = None
    new_invitee: str | None = None
    booked_at: datetime | None = None
    revision: int = 1


@dataclass(frozen=True, slots=True)
class BookingChain:
    """A booking, and all that are known of its chain: what it was moved from and to.

    Attributes:
        booking: the one the event is about.
        chain: all of them, it included, the oldest first; at most `MAX_CHAIN`.
    """

    booking: BookingSnapshot
    chain: tuple[BookingSnapshot, ...]


@dataclass(frozen=True, slots=True)
class BookingTimes:
    """What says whether a moment still belongs to its booking; see `BookingSnapshot`."""

    state: str
    start_time: datetime | None
    end_time: datetime | None


class Chains(Protocol):
    """Where the runtime finds what is known of chains: in Postgres, or in memory for an agent's own tests.

    `within` is the connection of a transaction that is open: to wait for another one there could be to wait for ever.
    """

    @property
    def beyond(self) -> BookingSource:
        """The bookings of organizations, beyond the chain of an event."""
        ...

    async def bookings(
        self, organization: str, invitee: str, within: DatabaseConnection | None
    ) -> tuple[BookingSnapshot, ...]:
        """Read the chain of a booking; nothing where the booking is not known."""
        ...

    async def times(self, organization: str, invitee: str, within: DatabaseConnection | None) -> BookingTimes | None:
        """Read whether a booking is active, and its times; None where it is not known."""
        ...

    async def state(self, organization: str, key: str, within: DatabaseConnection | None) -> dict[str, Any]:
        """Read what the agent remembers of a chain; empty at first."""
        ...

    async def remember(self, connection: DatabaseConnection, organization: str, key: str, value: str) -> None:
        """Write what the agent remembers, as JSON, in the transaction of a connection."""
        ...

    async def first(self, organization: str, key: str, value: str) -> str:
        """Remember an object at once, unless one with the same `about` is remembered; return what is remembered."""
        ...


class ChainState:
    """What an agent remembers of the chain that an event belongs to: a JSON object, `ctx.state`.

    It is written by the transaction that marks the event as done, so it agrees with the effects.
    """

    def __init__(self, chains: Chains, organization: str, key: str, check: Callable[[], None]) -> None:
        """Take what it needs.

        Args:
            chains: where it is.
            organization: the event's.
            key: the event's.
            check: raises where nothing may be asked any more.
        """
        self._chains = chains
        self._check = check
        self._organization = organization
        self._key = key
        self._written: str | None = None
        self._within: DatabaseConnection | None = None

    async def get(self) -> dict[str, Any]:
        """Return what was last set; empty at first.

        Raises:
            DatabaseUnavailable: Postgres is away. Do not catch it.
        """
        self._check()
        if self._written is not None:
            return _read(self._written)
        return await self._chains.state(self._organization, self._key, self._within)

    def set(self, value: Mapping[str, Any]) -> None:
        """Set it, when the transaction that is open commits.

        Raises:
            RuntimeError: no `ctx.transaction()` is open.
            ValueError: it is not JSON, or longer than `MAX_STATE_BYTES`.
        """
        if self._within is None:
            raise RuntimeError("set the state inside `async with ctx.transaction():`, whose commit writes it")
        try:
            text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False)
            size = len(text.encode())
        except (TypeError, UnicodeEncodeError) as error:
            raise ValueError(f"the state is not JSON: {error}") from error
        if size > MAX_STATE_BYTES:
            raise ValueError(f"the state has {size} bytes of JSON: at most {MAX_STATE_BYTES}")
        self._written = text

    def opened(self, connection: DatabaseConnection) -> None:
        """Note that a transaction is open. Called by the runtime."""
        self._within = connection

    async def written(self, connection: DatabaseConnection) -> None:
        """Write what was set, last in its transaction. Called by the runtime."""
        self._within = None
        if self._written is not None:
            await self._chains.remember(connection, self._organization, self._key, self._written)

    def closed(self) -> None:
        """Forget what was set: its transaction is over. Called by the runtime."""
        self._within = None
        self._written = None


def _read(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(text)
    return value


class PostgresChains:
    """Chains of one agent in Postgres."""

    def __init__(self, database: Pool | Connection, *, agent: str, clock: Clock) -> None:
        self._database = database
        self._agent = agent
        self._clock = clock
        self.beyond = PostgresBookings(database, clock=clock)
        # Many moments have come at once, where many meetings start at once.
        self._times = CallBatcher(self._load_times)

    async def bookings(
        self, organization: str, invitee: str, within: DatabaseConnection | None
    ) -> tuple[BookingSnapshot, ...]:
        """Read the chain of a booking; nothing where the booking is not known."""
        with translated():
            rows = await (within or self._database).fetch(_QUERIES["chain"], organization, invitee, MAX_CHAIN)
        return tuple(BookingSnapshot(**{**row, "hosts": tuple(row["hosts"])}) for row in map(dict, rows))

    async def times(self, organization: str, invitee: str, within: DatabaseConnection | None) -> BookingTimes | None:
        """Read whether a booking is active, and its times, with those of others that are asked for meanwhile."""
        if within is None:
            return await self._times((organization, invitee))
        with translated():
            rows = await within.fetch(_QUERIES["bookings_now"], [organization], [invitee])
        return next(iter(_times(rows).values()), None)

    async def _load_times(
        self, places: tuple[tuple[str, str], ...], reply: Reply[tuple[str, str], BookingTimes | None]
    ) -> None:
        asked = [list(column) for column in zip(*places, strict=True)]
        with translated():
            found = _times(await self._database.fetch(_QUERIES["bookings_now"], *asked))
        reply({place: found.get(place) for place in places})

    async def state(self, organization: str, key: str, within: DatabaseConnection | None) -> dict[str, Any]:
        """Read what the agent remembers of a chain."""
        with translated():
            text = await (within or self._database).fetchval(_QUERIES["read_state"], self._agent, organization, key)
        return {} if text is None else _read(text)

    async def remember(self, connection: DatabaseConnection, organization: str, key: str, value: str) -> None:
        """Write what the agent remembers, in the transaction of a connection."""
        with translated():
            await connection.execute(_QUERIES["write_state"], self._agent, organization, key, value, self._clock.now())

    async def first(self, organization: str, key: str, value: str) -> str:
        """Remember an object at once, unless one with the same `about` is remembered."""
        asked = (self._agent, organization, key, value, self._clock.now())
        with translated():
            return str(await self._database.fetchval(_QUERIES["say_first"], *asked))


def _times(rows: Iterable[DatabaseRow]) -> dict[tuple[str, str], BookingTimes]:
    return {
        (row["org"], row["invitee"]): BookingTimes(row["state"], row["start_time"], row["end_time"]) for row in rows
    }


@dataclass
class MemoryChains:
    """Chains of a trial, in memory.

    Attributes:
        known: the bookings of each chain, by organization and invitee: a test may set them.
        remembered: the agent's states as JSON, by organization and key.
        beyond: the bookings that `ctx.bookings` finds.
    """

    known: dict[tuple[str, str], tuple[BookingSnapshot, ...]] = field(default_factory=dict)
    remembered: dict[tuple[str, str], str] = field(default_factory=dict)
    beyond: MemoryBookings = field(default_factory=MemoryBookings)

    async def bookings(
        self, organization: str, invitee: str, within: DatabaseConnection | None
    ) -> tuple[BookingSnapshot, ...]:
        """Return what the test has set."""
        del within
        return self.known.get((organization, invitee), ())

    async def times(self, organization: str, invitee: str, within: DatabaseConnection | None) -> BookingTimes | None:
        """Return those of a booking that the test has set."""
        chain = await self.bookings(organization, invitee, within)
        found = next((each for each in chain if each.invitee == invitee), None)
        return None if found is None else BookingTimes(found.state, found.start_time, found.end_time)

    async def state(self, organization: str, key: str, within: DatabaseConnection | None) -> dict[str, Any]:
        """Return what the agent remembers of a chain."""
        del within
        return _read(self.remembered.get((organization, key), "{}"))

    async def remember(self, connection: DatabaseConnection, organization: str, key: str, value: str) -> None:
        """Remember it."""
        del connection
        self.remembered[organization, key] = value

    async def first(self, organization: str, key: str, value: str) -> str:
        """Remember an object at once, unless one with the same `about` is remembered."""
        if (await self.state(organization, key, None)).get("about") != _read(value).get("about"):
            self.remembered[organization, key] = value
        return self.remembered[organization, key]
