"""Runs lanes: an organization's records of one key in order, lanes of a partition concurrently, within a limit.

Retries happen inside a record's own turn, so they delay their lane only. A partition has at most its share of the
agent's limits: of lanes in work, and of records that it holds, with their bytes. So one slow key cannot take the room
of other partitions; and as long as what waits behind it fits in the second share, not that of other keys either.

Lanes are worked on by tasks. As long as what they do waits for nothing, one task works on lane after lane, since a task
costs as much as many a handler; else each lane has one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from time import monotonic
from typing import Any

from slotwire.handlers.dispatch.interruption import interrupt, let_go
from slotwire.handlers.dispatch.lanes import Lanes
from slotwire.handlers.records import Lane, LaneTurn, Partition, Record, SetAsideRecord
from slotwire.handlers.results import RecordResult, RecordStatus
from slotwire.handlers.settle.ledger import MAX_TRACKED, OffsetLedger
from slotwire.ingest.foundation.telemetry import CONSUMER_IN_FLIGHT

CANCEL_SECONDS = 2.0
"""How long an interrupted handler may take to end when the process stops, before it is interrupted again."""
AGAIN_SECONDS = 0.5
"""How long after that; then it is let go."""
MAX_HELD_BYTES = 32 * 1024 * 1024
"""Bytes of the records in work, or behind one of their lane; past its share a partition gets no further one."""
ELSEWHERE_BYTES = 1024 * 1024
"""What a record without a value counts as: its data is fetched from the log when it is handled, and is large."""
HOG_SECONDS = 0.01
"""After how long a worker begins no further lane, and lets others have the loop."""

Handle = Callable[[Record, asyncio.Event], Awaitable[RecordResult]]
TakeTurn = Callable[[LaneTurn, asyncio.Event], Awaitable[RecordResult]]
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class _OpenPartition:
    """A partition that is assigned to us.

    Attributes:
        ready: whether its records may be handled.
        due: the lanes that nobody works on yet, each with its first job.
        workers: the tasks that work on lanes.
        spare: how many of them have not begun.
        held_bytes: of the records that are not settled.
        waits: whether jobs wait for something: then each lane gets a worker at once.
        before: the tasks of an earlier assignment that were interrupted: nothing begins beside them.
        resumed: set but while partitions move: meanwhile nothing of it begins.
        idle: set while nothing of it runs.
    """

    def __init__(self, *, ready: bool, before: AbstractSet[asyncio.Task[None]]) -> None:
        self.ready = ready
        self.ledger = OffsetLedger()
        self.lanes: Lanes[Lane, Record | LaneTurn] = Lanes()
        self.due: deque[tuple[Lane, Record | LaneTurn]] = deque()
        self.workers: set[asyncio.Task[None]] = set()
        self.spare = 0
        self.held_bytes = 0
        self.waits = False
        self.stopping = asyncio.Event()
        self.resumed, self.idle = asyncio.Event(), asyncio.Event()
        self.resumed.set()
        self.idle.set()
        self.running = 0
        self.before = before


class Dispatcher:
    """Takes delivered records of the open partitions, and settles them.

    Attributes:
        changed: set when a job has ended, and when partitions were opened or closed. The one who waits clears it.
    """

    def __init__(
        self,
        handle: Handle,
        *,
        agent: str,
        max_in_flight: int,
        spawn: Spawn,
        max_held: int = 0,
        take_turn: TakeTurn | None = None,
        counted: bool = True,
    ) -> None:
        """Make a dispatcher without partitions.

        Args:
            handle: handles one record and returns the result.
            agent: the agent's name, for metrics.
            max_in_flight: lanes in work in all partitions together; each has an equal share, at least 1.
            spawn: starts a task that its owner waits for, for example a TaskGroup's `create_task`.
            max_held: records in work, or behind one of their lane, likewise; never less than may be in work.
            take_turn: handles what waits in a lane's queue; its result says whether the lane goes on.
            counted: whether the metric of the agent is of this one.
        """
        self.changed = asyncio.Event()
        self._handle = handle
        self._take_turn = take_turn
        self._max_in_flight = max_in_flight
        self._max_held = max(max_in_flight, max_held)
        self._spawn = spawn
        self._open: dict[Partition, _OpenPartition] = {}
        self._ending: dict[Partition, frozenset[asyncio.Task[None]]] = {}
        # Asked for when somebody looks, since setting it costs as much as many a handler.
        if counted:
            CONSUMER_IN_FLIGHT.labels(agent).set_function(lambda: self.in_flight)

    @property
    def partitions(self) -> AbstractSet[Partition]:
        """The partitions that are open."""
        return self._open.keys()

    @property
    def in_flight(self) -> int:
        """Count the records in flight."""
        return sum(item.ledger.unsettled for item in self._open.values())

    @property
    def is_pressed(self) -> bool:
        """Whether a partition has more than half of its share in work."""
        half = self._share(self._max_in_flight) // 2
        return any(item.lanes.keys > half for item in self._open.values())

    @property
    def wide(self) -> int:
        """How much room is much: a quarter of a partition's share."""
        return max(1, self._share(self._max_in_flight) // 4)

    def _share(self, limit: int) -> int:
        return max(1, limit // max(1, len(self._open)))

    @property
    def unready(self) -> Collection[Partition]:
        """The open partitions that are not ready yet."""
        return [partition for partition, item in self._open.items() if not item.ready]

    def open(self, partitions: Iterable[Partition], *, ready: bool = True) -> None:
        """Open partitions that were just assigned; those already open do not change.

        Args:
            partitions: which.
            ready: whether their records may be handled now; else `make_ready` says when.
        """
        for partition in partitions:
            if partition not in self._open:
                before = self._ending.pop(partition, frozenset())
                self._open[partition] = _OpenPartition(ready=ready, before=before)
        self.changed.set()

    def make_ready(self, partitions: Mapping[Partition, AbstractSet[int]]) -> None:
        """Have the records of partitions be handled from now on, of those that are still open.

        Args:
            partitions: which, each with the offsets that an earlier member had settled.
        """
        for partition, settled in partitions.items():
            if partition in self._open:
                self._open[partition].ledger.remember(settled)
                self._open[partition].ready = True
        self.changed.set()

    def turn(self, turn: LaneTurn | SetAsideRecord) -> None:
        """Give a lane its turn, or let a record that was set aside have one, if its partition is still open."""
        item = self._open.get(turn.partition)
        if item is not None and not item.stopping.is_set():
            self._start(item, turn)

    def rooms(self) -> Mapping[Partition, int]:
        """Return how many more records each partition may be given; partitions without room are left out."""
        share, held = self._share(self._max_in_flight), self._share(self._max_held)
        held_bytes = self._share(MAX_HELD_BYTES)
        rooms: dict[Partition, int] = {}
        for partition, item in self._open.items():
            room = min(share - item.lanes.keys, held - item.ledger.unsettled, MAX_TRACKED - len(item.ledger))
            if (
                room > 0
                and item.held_bytes < held_bytes
                and item.ready
                and item.resumed.is_set()
                and not item.stopping.is_set()
            ):
                rooms[partition] = room
        return rooms

    def deliver(self, partition: Partition, records: Iterable[Record], *, position: int) -> None:
        """Take records in the order they were read.

        Args:
            partition: where they come from.
            records: the records.
            position: the offset at which reading continues after them.

        Raises:
            KeyError: the partition is not open.
        """
        item = self._open[partition]
        for record in records:
            if item.ledger.deliver(record.offset):
                item.held_bytes += _bytes_of(record)
                self._start(item, record)
        item.ledger.advance(position)

    def reads(self, partition: Partition) -> bool:
        """Whether records of a partition may be delivered now."""
        item = self._open.get(partition)
        return item is not None and item.ready and item.resumed.is_set()

    def advance(self, partition: Partition, position: int) -> None:
        """Note the offset at which reading continues in a partition, if it is ours now: markers move it, too."""
        if self.reads(partition):
            self._open[partition].ledger.advance(position)

    def position(self, partition: Partition) -> int:
        """Return the offset up to which an open partition was read; -1 where that is not known."""
        item = self._open.get(partition)
        return -1 if item is None or item.ledger.position is None else item.ledger.position

    def committable(self) -> dict[Partition, int]:
        """Return the offset that may be committed now, for each partition that has one."""
        offsets = {partition: item.ledger.committable() for partition, item in self._open.items()}
        return {partition: offset for partition, offset in offsets.items() if offset is not None}

    def commits(self) -> dict[Partition, tuple[int, str]]:
        """Return what `committable` does, each with what is settled behind it."""
        return {
            partition: (offset, self._open[partition].ledger.settled_behind())
            for partition, offset in self.committable().items()
        }

    async def pause(self, grace: float) -> None:
        """Begin nothing further until `resume`; wait for what runs, at most `grace` seconds."""
        for item in self._open.values():
            item.resumed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                for item in tuple(self._open.values()):
                    await item.idle.wait()

    def resume(self, kept: Collection[Partition]) -> dict[Partition, int]:
        """Go on with partitions that were kept, and interrupt the work of all others, which are forgotten.

        Returns:
            The offset at which reading continues, of each of the kept ones that were read before.
        """
        for partition, item in tuple(self._open.items()):
            if partition not in kept or not item.ready or item.ledger.position is None:
                del self._open[partition]
                item.stopping.set()
                item.due.clear()
                for task in tuple(item.workers):
                    interrupt(task)
                self._ending[partition] = frozenset({*item.workers, *item.before})
            item.resumed.set()
        self.changed.set()
        return {partition: self.position(partition) for partition in self._open}

    def begin_stop(self) -> None:
        """Start no further record, nor another step of one that runs."""
        for item in self._open.values():
            item.stopping.set()
            item.resumed.set()

    async def stop(self, grace: float) -> None:
        """Start no further record; let running ones finish for `grace` seconds, then interrupt them.

        The partitions stay open, so that settled records can still be committed; `close` closes them.
        """
        self.begin_stop()
        running = {task for item in self._open.values() for task in item.workers}
        left = {task for tasks in self._ending.values() for task in tasks}
        left |= {task for item in self._open.values() for task in item.before}
        if running:
            _, running = await asyncio.wait(running, timeout=grace)
        left = {task for task in running | left if not task.done()}
        for end, seconds in ((interrupt, CANCEL_SECONDS), (interrupt, AGAIN_SECONDS), (let_go, AGAIN_SECONDS)):
            for task in left:
                end(task)
            if left:
                _, left = await asyncio.wait(left, timeout=seconds)

    def close(self) -> None:
        """Forget all partitions. Records that were not settled will be delivered again, here or elsewhere."""
        self._open.clear()
        self._ending.clear()
        self.changed.set()

    def _start(self, item: _OpenPartition, job: Record | LaneTurn) -> None:
        lane = job.lane
        if item.lanes.add(lane, job):
            item.due.append((lane, job))
            if item.waits or not item.spare:
                self._add_worker(item)

    def _add_worker(self, item: _OpenPartition) -> None:
        item.spare += 1
        item.workers.add(self._spawn(self._work(item)))

    async def _work(self, item: _OpenPartition) -> None:
        """Work on lanes until none is due. While one works, another one is there to begin if it waits."""
        task = asyncio.current_task()
        if item.before:
            await self._until_ended(item)
        item.spare -= 1
        item.waits = item.running > 0
        try:
            for _ in range(len(item.due) - 1 - item.spare if item.waits else 0):
                self._add_worker(item)
            began = monotonic()
            while item.due and monotonic() - began < HOG_SECONDS:
                lane, job = item.due.popleft()
                if item.due and not item.spare:
                    self._add_worker(item)
                await self._work_on(item, lane, job)
        finally:
            item.workers.discard(task)
        if item.due and not item.spare:
            self._add_worker(item)

    async def _until_ended(self, item: _OpenPartition) -> None:
        """Wait for what an earlier assignment has left, so that no key has two events in work."""
        try:
            await asyncio.wait(item.before)
        except asyncio.CancelledError:
            item.workers.discard(asyncio.current_task())
            raise
        item.before = frozenset()

    async def _work_on(self, item: _OpenPartition, lane: Lane, first: Record | LaneTurn) -> None:
        """Handle the records and turns of a lane until none is left."""
        job: Record | LaneTurn | None = first
        while job is not None:
            while not item.resumed.is_set():
                await item.resumed.wait()
            item.running += 1
            item.idle.clear()
            try:
                result = await self._done(job, item.stopping)
            finally:
                item.running -= 1
                if not item.running:
                    item.idle.set()
            self.changed.set()
            if result.status is RecordStatus.HANDED_BACK:
                item.lanes.abandon(lane)
                return
            if isinstance(job, Record) and not isinstance(job, SetAsideRecord):
                item.ledger.settle(job.offset)
                item.held_bytes -= _bytes_of(job)
            job = item.lanes.finish(lane)

    def _done(self, job: Record | LaneTurn, stopping: asyncio.Event) -> Awaitable[RecordResult]:
        if isinstance(job, Record):
            return self._handle(job, stopping)
        if self._take_turn is None:  # pragma: no cover - nobody gives a turn without it
            raise AssertionError
        return self._take_turn(job, stopping)


def _bytes_of(record: Record) -> int:
    return ELSEWHERE_BYTES if record.value is None else len(record.value)
