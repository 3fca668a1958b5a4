"""Writes the audit of credential uses.

    a call that changes something   begin ──commit──▶ the call ──▶ its end, within a second
    a call that reads               its lease ──commit──▶ the call ──▶ what it was and how it ended, within a second

So whatever was done with a credential, something was committed before it. A beginning without an end says that the
process ended first: of a lease that up to so many calls were made as that user, and nobody wrote which.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from slotwire.ingest.control.calendly_client.uses import TurnLease, Use, UseEnd
from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.calendly_metrics import CALENDLY_USES_LOST
from slotwire.ingest.foundation.clock import Clock, ordered_id
from slotwire.ingest.foundation.defects import defect
from slotwire.ingest.foundation.postgres import Pool, borrowed, read_queries
from slotwire.ingest.foundation.telemetry import get_logger

WRITE_SECONDS = 1.0
"""How long an end waits to be written."""
MAX_HELD = 10_000
"""Ends that wait to be written while Postgres is away; the oldest are lost then, counted and logged."""
ACQUIRE_SECONDS = 3.0
"""How long to wait for a connection of the pool."""
CLOSE_SECONDS = 5.0
"""How long a process that stops tries to write what is left."""

_SQL = read_queries("slotwire.ingest.sql", "budget.sql")
_log = get_logger("uses")

Pause = Callable[[asyncio.Event, float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Read:
    """What calls that read have in common when one row stands for them."""

    use: Use
    end: UseEnd
    lease: UUID | None


@dataclass(frozen=True, slots=True)
class _Row:
    id: UUID
    begun: UUID | None
    lease: UUID | None
    at: datetime
    use: Use | None
    user: str | None
    org: str | None
    end: UseEnd
    times: int


class PostgresUseLog:
    """Writes uses into Postgres; see `UseLog`."""

    def __init__(self, pool: Pool, clock: Clock, pause: Pause) -> None:
        self._pool = pool
        self._clock = clock
        self._pause = pause
        self._reads: OrderedDict[_Read, tuple[datetime, int]] = OrderedDict()
        self._ends: list[_Row] = []
        self._over: list[TurnLease] = []
        self._late: list[Callable[[], bool]] = []
        self._closing = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def begin(self, use: Use) -> UUID:
        """Write a call before it is made; see `UseLog`."""
        now = self._clock.now()
        row = _Row(ordered_id(now), None, None, now, use, use.user, use.org, UseEnd("started"), 1)
        await self._insert([row])
        return row.id

    def note(self, use: Use, end: UseEnd, *, begun: UUID | None, lease: TurnLease | None) -> None:
        """Keep how a call ended; see `UseLog`."""
        now, of = self._clock.now(), None if lease is None else lease.id
        if begun is not None:
            self._ends.append(_Row(ordered_id(now), begun, of, now, use, use.user, use.org, end, 1))
        else:
            alike = _Read(use, end, of)
            _, times = self._reads.get(alike, (now, 0))
            self._reads[alike] = (now, times + 1)
        if lease is not None:
            lease.open -= 1
            self._end(lease)
        if len(self._reads) + len(self._ends) > MAX_HELD:
            self._lose()
        self._wake()

    def drop(self, lease: TurnLease, *, taken: bool) -> None:
        """Take note of a turn without a call; see `UseLog`."""
        if taken:
            lease.open -= 1
        else:
            lease.left -= 1
        self._end(lease)

    def watch(self, drop_late: Callable[[], bool]) -> None:
        """Call it each second until nothing is left; see `UseLog`."""
        if drop_late not in self._late:
            self._late.append(drop_late)
        self._wake()

    async def aclose(self) -> None:
        """Write what is left, in a bounded time."""
        self._closing.set()
        if self._writer is not None:
            await self._writer
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._write()
        except (SlotwireError, TimeoutError) as problem:
            CALENDLY_USES_LOST.inc(len(self._reads) + len(self._ends))
            _log.error("uses_lost", count=len(self._reads) + len(self._ends), error=str(problem))

    def _end(self, lease: TurnLease) -> None:
        if lease.over:
            self._over.append(lease)
            self._wake()

    def _wake(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._run(), name="calendly-uses")

    async def _run(self) -> None:
        """Write each second while there is something to write, or may be soon."""
        while (self._reads or self._ends or self._over or self._late) and not self._closing.is_set():
            await self._pause(self._closing, WRITE_SECONDS)
            self._late = [each for each in self._late if not each()]
            try:
                await self._write()
            except SlotwireError as problem:
                _log.warning("uses_not_written", held=len(self._reads) + len(self._ends), error=problem.message)
            except Exception as error:  # noqa: BLE001 -- the next round tries again; what is held is bounded
                _log.error("uses_not_written", **defect(error))

    async def _write(self) -> None:
        """Write what is held; if that fails it stays held."""
        reads, ends, over = list(self._reads.items()), len(self._ends), len(self._over)
        if not (reads or ends or over):
            return
        finished = {lease.id: lease for lease in self._over}
        rows = list(self._ends)
        for alike, (at, times) in reads:
            # A lease that is over needs no row of its own where the row of a call can say so.
            whole = alike.lease is not None and finished.pop(alike.lease, None) is not None
            begun = alike.lease if whole else None
            rows.append(
                _Row(ordered_id(at), begun, alike.lease, at, alike.use, alike.use.user, alike.use.org, alike.end, times)
            )
        now = self._clock.now()
        rows += [
            _Row(ordered_id(now), each.id, None, now, None, each.user, each.org, UseEnd("ended"), 0)
            for each in finished.values()
        ]
        await self._insert(rows)
        del self._ends[:ends], self._over[:over]
        for alike, (_, times) in reads:
            at, held = self._reads.get(alike, (now, times))
            if held == times:
                self._reads.pop(alike, None)
            else:
                self._reads[alike] = (at, held - times)

    async def _insert(self, rows: Sequence[_Row]) -> None:
        uses = [row.use for row in rows]
        async with borrowed(self._pool, seconds=ACQUIRE_SECONDS) as connection:
            await connection.execute(
                _SQL["insert_uses"],
                [row.id for row in rows],
                [row.begun for row in rows],
                [row.lease for row in rows],
                [row.at for row in rows],
                [row.user for row in rows],
                [row.org for row in rows],
                [None if use is None else use.connection for use in uses],
                ["lease" if use is None else use.action for use in uses],
                [None if use is None else use.target for use in uses],
                ["" if use is None else " ".join(use.people) for use in uses],
                [None if use is None else use.behalf.actor for use in uses],
                [None if use is None else use.behalf.agent for use in uses],
                [None if use is None else use.behalf.event for use in uses],
                [row.end.result for row in rows],
                [row.end.status for row in rows],
                [row.end.code for row in rows],
                [row.times for row in rows],
            )

    def _lose(self) -> None:
        """Forget the oldest: memory is bounded."""
        if self._reads:
            self._reads.popitem(last=False)
        else:
            self._ends.pop(0)
        CALENDLY_USES_LOST.inc()
