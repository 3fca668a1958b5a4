"""Handles records in turn with those that wait in the agent's queue.

A lane in which something waits is fenced: what comes from the topic is put behind it and counts as settled, so that the
offsets go on. The first record of a fenced lane is handled when it is due, as a turn of the lane among its records: so
nothing of a lane runs beside it. An empty lane is fenced no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import TypeVar
from uuid import UUID

from slotwire.handlers.dispatch.handle import Handling
from slotwire.handlers.dispatch.runs import Runs
from slotwire.handlers.patience import Interrupted
from slotwire.handlers.problems import Problems
from slotwire.handlers.records import Lane, LaneTurn, Partition, Record, SetAsideRecord, sequence_of
from slotwire.handlers.results import RecordResult, RecordStatus
from slotwire.handlers.settle.agent_queue import HEADS_AT_ONCE, Place, PostgresQueue, QueuedRecord
from slotwire.ingest.foundation.agent_metrics import FIRINGS_WAITING
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.telemetry import CONSUMER_QUEUE_FULL, CONSUMER_QUEUED

T = TypeVar("T")

FULL_SECONDS = 1.0
"""How often a full queue is asked for room."""
_HANDED_BACK = RecordResult(RecordStatus.HANDED_BACK)


class Queueing:
    """Handles the records of one agent, and those that wait in its queue.

    Attributes:
        waiting: how many of the loaded partitions waited, when it was last asked what is due.
    """

    def __init__(
        self,
        handling: Handling,
        queue: PostgresQueue,
        *,
        runs: Runs,
        agent: str,
        problems: Problems,
        clock: Clock,
        firings: bool = False,
    ) -> None:
        self._handling = handling
        self.waiting = 0
        self._queue = queue
        self._runs = runs
        self._problems = problems
        self._clock = clock
        self._fenced: dict[Partition, set[Lane]] = {}
        self._lettered: dict[Partition, set[Lane]] = {}
        self._turning: set[Place] = set()
        self._behind: dict[Place, set[UUID]] = {}
        self._without_room = 0
        self._full = CONSUMER_QUEUE_FULL.labels(agent)
        self._queued = (FIRINGS_WAITING if firings else CONSUMER_QUEUED).labels(agent)

    async def load(self, partitions: Collection[Partition]) -> Callable[[], None]:
        """Learn which lanes of partitions are fenced, and if there are runs, before their first records are handled.

        Returns:
            What puts that in force. Call it only while nothing was forgotten since.

        Raises:
            DatabaseUnavailable, SchemaMismatch, ConfigurationError: nothing of them may be handled yet.
        """
        fenced, lettered = await self._queue.lanes(partitions), await self._queue.lettered(partitions)
        await self._runs.learn()

        def put_in_force() -> None:
            for partition in partitions:
                self._fenced[partition] = {lane for each, lane in fenced if each == partition}
                self._lettered[partition] = {lane for each, lane in lettered if each == partition}

        return put_in_force

    async def beware(
        self,
        offsets: Mapping[Partition, int],
        died: Mapping[Partition, UUID],
        ends: Mapping[Partition, int] = MappingProxyType({}),
    ) -> None:
        """Learn with which events of partitions processes have died, before their first records are handled.

        Args:
            offsets: those that the group had committed.
            died: the process that worked there before and has died, of each of which one has.
            ends: where these partitions end: it has read nothing from there on.

        Raises:
            DatabaseUnavailable, SchemaMismatch, ConfigurationError: nothing of them may be handled yet.
        """
        if self._handling.careful is not None:
            await self._handling.careful.beware(offsets, died, ends)

    def passed(self, offsets: Mapping[Partition, int]) -> Collection[Partition]:
        """Return the partitions in which nothing is left of what a process that died may have had in work.

        Args:
            offsets: those that may be committed.
        """
        return () if self._handling.careful is None else self._handling.careful.passed(offsets)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Let go of partitions; nothing of theirs begins any more."""
        if self._handling.careful is not None:
            self._handling.careful.forget(partitions)
        for partition in partitions:
            self._fenced.pop(partition, None)
            self._lettered.pop(partition, None)
        self._turning = {place for place in self._turning if place[0] in self._fenced}
        self._behind = {place: runs for place, runs in self._behind.items() if place[0] in self._fenced}
        if not self._fenced:
            self.waiting = 0
            self._queued.set(0)

    async def due(self, partitions: Collection[Partition], *, at_once: int = HEADS_AT_ONCE) -> list[LaneTurn]:
        """Return the turns of loaded partitions that have come, and not those that were returned and have not ended.

        Args:
            partitions: which.
            at_once: how many lanes are looked at, at most, with those that have their turn.

        Raises:
            DatabaseUnavailable, SchemaMismatch, ConfigurationError: ask again later.
        """
        ours = [each for each in partitions if each in self._fenced]
        found = await self._queue.due(ours, at_once) - self._turning if ours else set()
        self.waiting = await self._queue.length(ours) if found or any(self._fenced.values()) else 0
        self._queued.set(self.waiting)
        if not self.waiting:  # what waited may also have been discarded
            self._pass(*self._behind)
        turns = [LaneTurn(partition, lane) for partition, lane in found if partition in self._fenced]
        self._turning.update((turn.partition, turn.lane) for turn in turns)
        return turns

    async def handle(self, record: Record, stopping: asyncio.Event) -> RecordResult:
        """Handle a record, or put it behind what waits in its lane."""
        if stopping.is_set():
            return _HANDED_BACK  # the partition may be another member's already
        fenced = self._fenced[record.partition]
        lane = record.lane if fenced else b""
        if isinstance(record, SetAsideRecord):
            return await self._go_on(record, stopping, fenced=lane in fenced)
        try:
            if lane in fenced and await self._put_behind(record, lane, stopping):
                return RecordResult(RecordStatus.POSTPONED)
            queued = None
            while True:
                result = await self._handling.handle(record, stopping, queued=queued)
                if result.status is not RecordStatus.POSTPONED:
                    if self._lettered.get(record.partition) or result.status is RecordStatus.DEAD_LETTERED:
                        await self._remember(record, result, stopping)
                    return result
                queued = QueuedRecord(record, result.attempts, self._clock.now() + timedelta(seconds=result.pause))
                if await self._put_first(queued, stopping):
                    fenced.add(record.lane)
                    return result
        except Interrupted:
            return _HANDED_BACK

    async def _go_on(self, record: SetAsideRecord, stopping: asyncio.Event, *, fenced: bool) -> RecordResult:
        """Let a run go on that was found due, unless something waits in its lane: that came before, and may answer it.

        Such a run is found due again when nothing waits there any more.
        """
        if fenced:
            self._behind.setdefault((record.partition, record.lane), set()).add(record.event_id)
            return RecordResult(RecordStatus.SKIPPED)
        try:
            return await self._handling.handle(record, stopping)
        finally:
            self._runs.queued.discard(record.event_id)

    def _pass(self, *places: Place) -> None:
        """Let runs be found due again that were behind what waited in lanes."""
        for place in places:
            self._runs.queued -= self._behind.pop(place, set())

    async def take_turn(self, turn: LaneTurn, stopping: asyncio.Event) -> RecordResult:
        """Handle the records that wait in a lane, as long as the first one is due."""
        try:
            return _HANDED_BACK if stopping.is_set() else await self._take_turn(turn, stopping)
        except Interrupted:
            return _HANDED_BACK
        finally:
            self._turning.discard((turn.partition, turn.lane))

    async def _take_turn(self, turn: LaneTurn, stopping: asyncio.Event) -> RecordResult:
        fenced = self._fenced[turn.partition]
        fenced.add(turn.lane)
        while True:
            queued = await self._ask(lambda: self._queue.head(turn.partition, turn.lane), stopping)
            if queued is None:
                fenced.discard(turn.lane)
                self._pass((turn.partition, turn.lane))
                return RecordResult(RecordStatus.DONE)
            if queued.due_at > self._clock.now():
                return RecordResult(RecordStatus.POSTPONED)
            result = await self._handling.handle(queued.record, stopping, queued=queued)
            if result.status is RecordStatus.HANDED_BACK:
                return result
            if result.status is RecordStatus.POSTPONED:
                await self._postpone(queued, result, stopping)
                return result
            if queued.letter is None or result.status is RecordStatus.DEAD_LETTERED:
                await self._remember(queued.record, result, stopping)
            await self._ask(partial(self._queue.settle, queued), stopping)

    async def _postpone(self, queued: QueuedRecord, result: RecordResult, stopping: asyncio.Event) -> None:
        due_at = self._clock.now() + timedelta(seconds=result.pause)
        await self._ask(lambda: self._queue.postpone(queued.record, attempts=result.attempts, due_at=due_at), stopping)

    async def _put_first(self, queued: QueuedRecord, stopping: asyncio.Event) -> bool:
        """Put a record into an empty lane of the queue; returns False if there was no room until it was due."""
        with self._held() as hold:
            while not await self._put(queued, stopping):
                hold()
                await self._wait(stopping)
                if self._clock.now() >= queued.due_at:
                    return False
        return True

    async def _put_behind(self, record: Record, lane: Lane, stopping: asyncio.Event) -> bool:
        """Put a record behind what waits in its lane; returns False if nothing waits there any more.

        While there is no room, what is due of the lane is handled here: its turn would come behind this record.
        """
        queued = QueuedRecord(record, 0, self._clock.now())
        with self._held() as hold:
            while not await self._put(queued, stopping):
                hold()
                result = await self._take_turn(LaneTurn(record.partition, lane), stopping)
                if result.status is RecordStatus.HANDED_BACK:
                    raise Interrupted
                if lane not in self._fenced[record.partition]:
                    return False
                await self._wait(stopping)
        return True

    async def _put(self, queued: QueuedRecord, stopping: asyncio.Event) -> bool:
        put = partial(self._queue.put, queued.record, attempts=queued.attempts, due_at=queued.due_at)
        return await self._ask(put, stopping)

    async def _wait(self, stopping: asyncio.Event) -> None:
        if await wait_for(stopping, FULL_SECONDS):
            raise Interrupted

    @contextmanager
    def _held(self) -> Iterator[Callable[[], None]]:
        """Tell, from the first call of what is yielded to the end of the block, that a record finds no room."""
        told = False

        def tell() -> None:
            nonlocal told
            if not told:
                told = True
                self._hold(1)

        try:
            yield tell
        finally:
            if told:
                self._hold(-1)

    def _hold(self, change: int) -> None:
        self._without_room += change
        self._full.set(min(1, self._without_room))
        if self._without_room:
            self._problems.begin(
                "queue",
                "the agent's queue is full: too many events wait for a later attempt, or behind one. Nothing is lost:"
                " their partitions are held until some are done. The log says why they fail.",
            )
        else:
            self._problems.end("queue")

    async def _remember(self, record: Record, result: RecordResult, stopping: asyncio.Event) -> None:
        """Note what a settled record means for the dead letters of its lane."""
        lettered = self._lettered.get(record.partition)
        if lettered is None:
            return  # the partition is another member's by now
        if result.status is RecordStatus.DEAD_LETTERED:
            lettered.add(record.lane)
        elif result.status is RecordStatus.DONE and lettered and (lane := record.lane) in lettered:
            sequence = sequence_of(record)
            try:
                if sequence is None or not await self._ask(lambda: self._queue.passed(record, sequence), stopping):
                    lettered.discard(lane)
            except Interrupted:
                return  # the record is settled all the same

    async def _ask(self, call: Callable[[], Awaitable[T]], stopping: asyncio.Event) -> T:
        return await self._handling.patience.until_answered("postgres", call, stopping)
