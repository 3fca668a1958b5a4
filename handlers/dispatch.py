"""Runs lanes: an organization's records of one key in order, lanes of a partition concurrently, within a limit.

Retries happen inside a record's own turn, so they delay their lane only. A partition has at most its share of the
agent's limit in flight, so one slow key cannot take the room of other partitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any

from slotwire.handlers.handle import RecordResult, RecordStatus
from slotwire.handlers.lanes import Lanes
from slotwire.handlers.records import Lane, Partition, Record
from slotwire.handlers.settle import MAX_TRACKED, OffsetLedger
from slotwire.ingest.foundation.telemetry import CONSUMER_IN_FLIGHT

CANCEL_SECONDS = 2.0
"""How long an interrupted handler may take to end before the dispatcher stops waiting for it."""

Handle = Callable[[Record, asyncio.Event], Awaitable[RecordResult]]
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class _OpenPartition:
    """A partition that is assigned to us."""

    def __init__(self) -> None:
        self.ledger = OffsetLedger()
        self.lanes: Lanes[Lane, Record] = Lanes()
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()


class Dispatcher:
    """Takes delivered records of the open partitions, and settles them.

    Attributes:
        changed: set when a record was settled, and when partitions were opened or closed. The one who waits clears it.
    """

    def __init__(self, handle: Handle, *, agent: str, max_in_flight: int, spawn: Spawn) -> None:
        """Make a dispatcher without partitions.

        Args:
            handle: handles one record and returns the result.
            agent: the agent's name, for metrics.
            max_in_flight: records in flight in all partitions together; each has an equal share, at least 1.
            spawn: starts a task that its owner waits for, for example a TaskGroup's `create_task`.
        """
        self.changed = asyncio.Event()
        self._handle = handle
        self._max_in_flight = max_in_flight
        self._spawn = spawn
        self._open: dict[Partition, _OpenPartition] = {}
        self._gauge = CONSUMER_IN_FLIGHT.labels(agent)

    @property
    def partitions(self) -> Collection[Partition]:
        """The partitions that are open."""
        return self._open.keys()

    @property
    def in_flight(self) -> int:
        """Count the records in flight."""
        return sum(item.ledger.unsettled for item in self._open.values())

    def open(self, partitions: Iterable[Partition]) -> None:
        """Open partitions that were just assigned; those already open do not change."""
        for partition in partitions:
            self._open.setdefault(partition, _OpenPartition())
        self.changed.set()

    def rooms(self) -> Mapping[Partition, int]:
        """Return how many more records each partition may have in flight; partitions without room are left out."""
        share = max(1, self._max_in_flight // max(1, len(self._open)))
        rooms: dict[Partition, int] = {}
        for partition, item in self._open.items():
            room = min(share - item.ledger.unsettled, MAX_TRACKED - len(item.ledger))
            if room > 0 and not item.stopping.is_set():
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
            item.ledger.deliver(record.offset)
            if item.lanes.add(record.lane, record):
                task = self._spawn(self._work(item, record))
                item.tasks.add(task)
                task.add_done_callback(item.tasks.discard)
        item.ledger.advance(position)
        self._gauge.set(self.in_flight)

    def advance(self, partition: Partition, position: int) -> None:
        """Note the offset at which reading continues in a partition, if it is still open: markers move it, too."""
        if partition in self._open:
            self._open[partition].ledger.advance(position)

    def committable(self) -> dict[Partition, int]:
        """Return the offset that may be committed now, for each partition that has one."""
        offsets = {partition: item.ledger.committable() for partition, item in self._open.items()}
        return {partition: offset for partition, offset in offsets.items() if offset is not None}

    async def stop(self, grace: float) -> None:
        """Start no further record; let running ones finish for `grace` seconds, then interrupt them.

        The partitions stay open, so that settled records can still be committed; `close` closes them.
        """
        for item in self._open.values():
            item.stopping.set()
        running = {task for item in self._open.values() for task in item.tasks}
        if running:
            _, running = await asyncio.wait(running, timeout=grace)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=CANCEL_SECONDS)

    def close(self) -> None:
        """Forget all partitions. Records that were not settled will be delivered again, here or elsewhere."""
        self._open.clear()
        self._gauge.set(0)
        self.changed.set()

    async def _work(self, item: _OpenPartition, first: Record) -> None:
        """Handle the records of a lane until none is left."""
        record: Record | None = first
        while record is not None:
            result = await self._handle(record, item.stopping)
            if result.status is RecordStatus.HANDED_BACK:
                item.lanes.abandon(record.lane)
                return
            item.ledger.settle(record.offset)
            self._gauge.set(self.in_flight)
            self.changed.set()
            record = item.lanes.finish(record.lane)
