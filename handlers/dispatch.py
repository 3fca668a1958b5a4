"""Runs lanes: order per key within a partition, keys side by side, bounded.

Retries happen inside a record's own turn, so they hold back their key and nobody else. What is in flight of a
partition is at most its share of the agent's limit, so one slow key cannot take the room of the others'
partitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any

from slotwire.handlers.handle import Ended, Settled
from slotwire.handlers.lanes import Lanes
from slotwire.handlers.records import Partition, Record
from slotwire.handlers.settle import MAX_HELD, Ledger
from slotwire.ingest.foundation.telemetry import CONSUMER_IN_FLIGHT

CANCEL_SECONDS = 2.0
"""How long an interrupted handler may take to let go before it is left behind."""

Handle = Callable[[Record, asyncio.Event], Awaitable[Ended]]
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class _Open:
    """A partition that is ours now."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.lanes: Lanes[bytes | None, Record] = Lanes()
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()


class Dispatcher:
    """Takes delivered records of the partitions that are open, and settles them.

    Attributes:
        changed: set whenever a record was settled or partitions came or went; whoever waits clears it.
    """

    def __init__(self, handle: Handle, *, agent: str, max_in_flight: int, spawn: Spawn) -> None:
        """Make a dispatcher without partitions.

        Args:
            handle: brings one record to its end.
            agent: the agent's name, for metrics.
            max_in_flight: records in flight over all partitions; each partition has an equal share, at least 1.
            spawn: makes a task that somebody owns, for example a TaskGroup's `create_task`.
        """
        self.changed = asyncio.Event()
        self._handle = handle
        self._max_in_flight = max_in_flight
        self._spawn = spawn
        self._open: dict[Partition, _Open] = {}
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
        """Begin with partitions that were just assigned; those already open stay as they are."""
        for partition in partitions:
            self._open.setdefault(partition, _Open())
        self.changed.set()

    def rooms(self) -> Mapping[Partition, int]:
        """Return how many more records each partition may have in flight, those without room left out."""
        share = max(1, self._max_in_flight // max(1, len(self._open)))
        rooms: dict[Partition, int] = {}
        for partition, item in self._open.items():
            room = min(share - item.ledger.unsettled, MAX_HELD - len(item.ledger))
            if room > 0 and not item.stopping.is_set():
                rooms[partition] = room
        return rooms

    def deliver(self, partition: Partition, records: Iterable[Record], *, position: int) -> None:
        """Take records in the order they were read, and where reading goes on after them.

        Raises:
            KeyError: the partition is not open.
        """
        item = self._open[partition]
        for record in records:
            item.ledger.deliver(record.offset)
            if item.lanes.add(record.key, record):
                task = self._spawn(self._work(item, record))
                item.tasks.add(task)
                task.add_done_callback(item.tasks.discard)
        item.ledger.advance(position)
        self._gauge.set(self.in_flight)

    def advance(self, partition: Partition, position: int) -> None:
        """Note where reading goes on in a partition, if it is open still: markers move it, too."""
        if partition in self._open:
            self._open[partition].ledger.advance(position)

    def committable(self) -> dict[Partition, int]:
        """Return what may be committed now, a partition."""
        offsets = {partition: item.ledger.committable() for partition, item in self._open.items()}
        return {partition: offset for partition, offset in offsets.items() if offset is not None}

    async def stop(self, grace: float) -> None:
        """Begin nothing new in any partition; let what runs finish for `grace` seconds, then interrupt it.

        The partitions stay open, so that what was settled can still be committed; `close` ends them.
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
        """Forget all partitions; what was not settled will be delivered again, here or elsewhere."""
        self._open.clear()
        self._gauge.set(0)
        self.changed.set()

    async def _work(self, item: _Open, first: Record) -> None:
        """Work a lane until it is idle."""
        record: Record | None = first
        while record is not None:
            ended = await self._handle(record, item.stopping)
            if ended.how is Settled.HANDED_BACK:
                item.lanes.abandon(record.key)
                return
            item.ledger.settle(record.offset)
            self._gauge.set(self.in_flight)
            self.changed.set()
            record = item.lanes.finish(record.key)
