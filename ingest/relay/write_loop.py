"""The leader's writing: step after step while there is something, its chores now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing, suppress
from datetime import timedelta

from slotwire.ingest.errors import DatabaseUnavailable, SchemaMismatch, SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.log.writer import Appended, Writer
from slotwire.ingest.relay.handoff import Handoff
from slotwire.ingest.relay.lease import Lease
from slotwire.ingest.relay.shard import ShardRelay
from slotwire.ingest.relay.status import WRITE, RelayStatus

HOLD_SECONDS = 1.0
"""How often a writer that waits for a newer version looks whether it may go on."""
CURSOR_SECONDS = 2.0
"""How long the writer waits for the cursor. A broker that is away does not keep it from writing."""
RETRY_SECONDS = 0.2
"""How long the writer waits before it takes over again after a failure; the lease says whether it still may."""
GAUGE_SECONDS = 1.0
GATHER_FROM = 32
"""Events of one append that say that there is load."""
GATHER_SECONDS = 0.02
"""How long small appends are gathered under load: one costs Postgres as much as thirty rows do."""

_log = get_logger("writer")


class WriteLoop:
    """Writes one shard while its lease holds."""

    def __init__(
        self,
        settings: Settings,
        lease: Lease,
        handoff: Handoff,
        stop: asyncio.Event,
        status: RelayStatus,
        clock: Clock,
        writer: Writer,
    ) -> None:
        self._settings, self._lease, self._handoff = settings, lease, handoff
        self._stop, self._status, self._clock = stop, status, clock
        self._writer = writer
        self._next_chores = 0.0
        self._next_gauges = 0.0

    async def take_over(self) -> None:
        """Commit a new epoch, then read the head: what anybody earlier has in flight is in the log, or never will be.

        Raises:
            DatabaseUnavailable: Postgres does not answer.
        """
        head = await self._writer.take_over()
        self._handoff.begin(head.last_event)
        _log.info("writer_took_over", shard=self._lease.shard, epoch=head.epoch, position=head.place.position)

    async def run(self, relay: ShardRelay) -> None:
        """Write until a stop is asked for.

        Args:
            relay: tells what was published, where the log is on another server than before.

        Raises:
            LeadershipLost: somebody else writes this shard now.
        """
        try:
            # A cursor beyond the log says that the log was restored, and then nothing is appended.
            await wait_for(self._handoff.placed, CURSOR_SECONDS)
            while not self._stop.is_set():
                try:
                    pause = await self._turn(relay)
                    self._status.flow(self._lease.shard, part=WRITE)
                except SchemaMismatch as problem:
                    self._status.hold(self._lease.shard, "database", problem, part=WRITE)
                    await self._again(HOLD_SECONDS)
                except DatabaseUnavailable as problem:
                    self._status.hold(self._lease.shard, "database", problem, part=WRITE)
                    await self._again(RETRY_SECONDS)
                else:
                    if pause and not self._stop.is_set():
                        await wait_for(self._lease.woken, pause)
            if not self._lease.lost.is_set():
                with suppress(DatabaseUnavailable):
                    await self._writer.leave()
        finally:
            self._handoff.closed.set()
            self._handoff.arrived.set()

    async def close(self) -> None:
        """Let go of the connection."""
        await self._writer.close()

    async def _turn(self, relay: ShardRelay) -> float:
        """Write once, and see to the chores; return how long to wait for more, in seconds."""
        if not self._writer.head.same_server and not await self._adopted(relay):
            return 0.0
        self._lease.woken.clear()
        appended = await self._step()
        now = asyncio.get_running_loop().time()
        if now >= self._next_chores:
            self._next_chores = now + self._settings.waiting.interval_seconds
            before = self._clock.now() - timedelta(seconds=self._settings.waiting.publish_after_seconds)
            async with aclosing(self._writer.publish_overdue(before)) as pages:
                async for page in pages:
                    self._hand_over(page)
                    await self._step()
        if now >= self._next_gauges:
            self._next_gauges = now + GAUGE_SECONDS
            self._status.unwritten(self._lease.shard, *await self._writer.unwritten())
        if self._writer.behind:
            return 0.0
        if sum(len(each.rows) for each in appended) >= GATHER_FROM:
            await wait_for(self._stop, GATHER_SECONDS)
        return self._settings.relay.poll_interval_seconds  # what came since the read rings, or has rung

    async def _step(self) -> list[Appended]:
        appended = await self._writer.step()
        self._hand_over(appended)
        return appended

    def _hand_over(self, appended: Iterable[Appended]) -> None:
        for each in appended:
            self._handoff.add(each)

    async def _adopted(self, relay: ShardRelay) -> bool:
        """On another server than before, append nothing until it is known what was published; False at a stop."""
        while relay.cursor is None:
            if await wait_for(self._stop, RETRY_SECONDS):
                return False
        await self._writer.adopt_server(relay.cursor.position)
        return True

    async def _again(self, seconds: float) -> None:
        """Wait, then begin again from what is committed, for as long as this process leads."""
        while not self._stop.is_set():
            await wait_for(self._stop, seconds)
            try:
                await self._lease.confirm()
                await self.take_over()
            except SlotwireError as problem:
                if self._lease.lost.is_set() or not isinstance(problem, DatabaseUnavailable):
                    raise
            else:
                return
