"""What is published, read from Postgres: never ahead of Kafka, because agents that read both must see one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

import asyncpg

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import SchemaMismatch
from slotwire.ingest.foundation.postgres import Pool, borrowed, read_queries
from slotwire.ingest.mcp.events.occurrences import LogEvent, WantedEvents
from slotwire.ingest.mcp.events.together import Together

READ_EVENTS = 500
"""Events that are read at once."""
READ_BYTES = 4_194_304
"""Their data, about; one event may be larger."""
RANGE = 1_000_000_000
"""Positions of a day: see `slotwire.append`."""
SKEW = timedelta(hours=1)
"""By how much the clocks of two processes may differ around midnight."""
QUERIES = read_queries("slotwire.ingest.sql", "mcp_events.sql")


@dataclass(frozen=True)
class ShardHead:
    """How far a shard is published.

    Attributes:
        position: of the last event that is.
        seen_at: when it was the last of the log; None where more is written already.
    """

    position: int
    seen_at: datetime | None


@dataclass(frozen=True)
class LogHeads:
    """How far a log is published, by shard."""

    log_id: UUID
    shards: Mapping[int, ShardHead]


@dataclass(frozen=True)
class UserSight:
    """What a connected user sees.

    Attributes:
        shard: of their organization.
        whole: all of it, as its owners and admins do; else what they host.
    """

    shard: int
    whole: bool


class LogPage(NamedTuple):
    """Some events in their order.

    Attributes:
        events: whether they are wanted or not.
        reached: everything up to here is among them, or was before.
    """

    events: Sequence[LogEvent]
    reached: int


class PublishedLog:
    """Reads what is published.

    Attributes:
        log_id: the log, once `heads` has asked.
    """

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self.log_id = UUID(int=0)
        self._pool = pool
        self._clock = clock
        self._sights: Together[tuple[str, str], UserSight | None] = Together(self._see)
        self._pages: dict[tuple[int, str, str], Together[tuple[int, int], LogPage]] = {}
        self._heads: Together[None, LogHeads] = Together(self._ends)
        self._kept: Together[None, asyncpg.Record | None] = Together(self._first_range)

    async def heads(self) -> LogHeads:
        """Ask how far each shard is published.

        Raises:
            DatabaseUnavailable: Postgres is away.
            SchemaMismatch: there is no log yet.
        """
        return await self._heads(None)

    async def _ends(self, asked: Sequence[None]) -> Sequence[LogHeads]:
        now = self._clock.now()
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(QUERIES["heads"])
        if not rows:
            raise SchemaMismatch("the log has not been made", remedy="Run `slotwire migrate`.")
        shards = {row["shard"]: ShardHead(row["position"], now if row["complete"] else None) for row in rows}
        self.log_id = rows[0]["log_id"]
        return [LogHeads(self.log_id, MappingProxyType(shards))] * len(asked)

    async def sight(self, org: str, user: str) -> UserSight | None:
        """Ask what a user sees; None: they are not connected."""
        return await self._sights((org, user))

    async def everything(self, shard: int, after: int, upto: int) -> LogPage:
        """Read the next events of a shard, of all organizations."""
        return await self._read(shard, None, None, after, upto)

    async def of(self, wanted: WantedEvents, shard: int, after: int, upto: int) -> LogPage:
        """Read the next events of the type that is wanted, of its organization, whether they are wanted or not.

        Those who ask for the same at the same time, and stand near each other, share one reading.
        """
        key = (shard, wanted.org, wanted.name)
        shared = self._pages.setdefault(key, Together(partial(self._shared, key)))
        try:
            return await shared((after, upto))
        finally:
            if shared.is_idle:
                self._pages.pop(key, None)

    async def _shared(self, key: tuple[int, str, str], asked: Sequence[tuple[int, int]]) -> Sequence[LogPage]:
        upto = max(each for _, each in asked)
        pages: dict[int, LogPage] = {}
        page: LogPage | None = None
        for after in sorted({each for each, _ in asked}):
            if page is None or after >= page.reached:
                page = await self._read(*key, after, upto)
            pages[after] = LogPage([event for event in page.events if event.position > after], page.reached)
        return [pages[after] for after, _ in asked]

    async def _see(self, asked: Sequence[tuple[str, str]]) -> Sequence[UserSight | None]:
        orgs, users = zip(*asked, strict=True)
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(QUERIES["sights"], orgs, users)
        found = {row["place"]: UserSight(row["shard"], row["whole"]) for row in rows}
        return [found.get(place) for place in range(1, len(asked) + 1)]

    async def _read(self, shard: int, org: str | None, name: str | None, after: int, upto: int) -> LogPage:
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(QUERIES["published"], shard, org, name, after, upto, READ_EVENTS, READ_BYTES)
        events = [LogEvent.from_row(dict(row)) for row in rows]
        is_full = len(events) == READ_EVENTS or sum(len(event.raw) for event in events) >= READ_BYTES
        return LogPage(events, events[-1].position if is_full else max(after, upto))

    async def first_kept(self, position: int, seen_at: datetime | None, head: int) -> int | None:
        """Say where to go on if events after a position may have been dropped by retention; None: none was.

        Whoever saw that a position was the last of the log, at a time from which on all is kept, has missed nothing,
        however old the position is.
        """
        if position // RANGE >= head // RANGE or position >= head:
            return None
        kept = await self._kept(None)
        if kept is None or position >= kept["position"]:
            return None
        if seen_at is not None and seen_at >= kept["since"] + SKEW:
            return None
        first: int = kept["position"]
        return first

    async def _first_range(self, asked: Sequence[None]) -> Sequence[asyncpg.Record | None]:
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(QUERIES["kept"], self._clock.now())
        return [row for _ in asked]
