"""What a member reads at once: as much as there is room for, and of one partition no less because of another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from slotwire.handlers.consume import reading
from slotwire.handlers.consume.membership import Membership
from slotwire.handlers.consume.reading import Reading
from slotwire.handlers.dispatch.dispatcher import Dispatcher
from slotwire.handlers.records import Partition, Record
from slotwire.handlers.results import RecordResult, RecordStatus

SHARE, MANY = 100, 2_000
SLOW, QUICK, QUIET = Partition("t", 0), Partition("t", 1), Partition("t", 2)


@dataclass
class Buffers:
    """A consumer with what it has fetched: a poll takes from one partition after the other, as aiokafka's does.

    Attributes:
        left: the offsets that are not read yet, of each partition.
        found: how many records each poll found.
    """

    left: dict[Partition, range]
    found: list[int] = field(default_factory=list)
    polled: asyncio.Event = field(default_factory=asyncio.Event)

    async def getmany(
        self, *places: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, Sequence[ConsumerRecord]]:
        """Return at most so many records of these partitions."""
        del timeout_ms
        polled: dict[TopicPartition, Sequence[ConsumerRecord]] = {}
        for place in places:
            partition = Partition(*place)
            taken, self.left[partition] = self.left[partition][:max_records], self.left[partition][max_records:]
            max_records -= len(taken)
            if taken:
                polled[place] = [_record(place, offset) for offset in taken]
        self.polled.set()
        self.found.append(sum(map(len, polled.values())))
        return polled

    async def empty(self, partition: Partition) -> None:
        """Wait until nothing of a partition is left."""
        while self.left[partition]:
            await self.polled.wait()
            self.polled.clear()

    async def position(self, place: TopicPartition) -> int:
        """Return where reading continues."""
        return self.left[Partition(*place)].start


def _record(place: TopicPartition, offset: int) -> ConsumerRecord:
    return ConsumerRecord(*place, offset, 0, 0, b"%d" % offset, b"{}", 0, 1, 2, ())


async def test_a_partition_with_little_room_does_not_slow_the_others() -> None:
    """All keys of one partition wait but one: the others are read by the hundred, and it as far as it has room."""
    go_on, done, seen = asyncio.Event(), asyncio.Event(), 0

    async def handle(record: Record, stopping: asyncio.Event) -> RecordResult:
        nonlocal seen
        del stopping
        if record.partition == SLOW:
            await go_on.wait()
        else:
            seen += 1
            if seen == MANY:
                done.set()
        return RecordResult(RecordStatus.DONE)

    async with asyncio.TaskGroup() as lanes:
        dispatcher = Dispatcher(handle, agent="a", max_in_flight=3 * SHARE, spawn=lanes.create_task, counted=False)
        dispatcher.open([SLOW, QUICK, QUIET])
        consumer = Buffers({SLOW: range(SHARE - 1), QUICK: range(0), QUIET: range(0)})
        reader = lanes.create_task(Reading(consumer, dispatcher, Membership("a", "a", ("t",))).run())
        await consumer.empty(SLOW)
        consumer.found.clear()
        consumer.left[QUICK] = range(MANY)
        await done.wait()
        assert max(consumer.found) == SHARE
        assert sum(map(bool, consumer.found)) < MANY / 50  # with room for one record in each it would be MANY
        consumer.left[SLOW] = range(SHARE - 1, SHARE)
        await consumer.empty(SLOW)
        assert SLOW not in dispatcher.rooms()
        go_on.set()
        reader.cancel()


async def test_what_one_partition_has_in_work_does_not_slow_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that was filled by one partition is followed by the next at once, until none has much room."""
    monkeypatch.setattr(reading, "PACE_SECONDS", 3600)
    go_on = asyncio.Event()

    async def handle(record: Record, stopping: asyncio.Event) -> RecordResult:
        del record, stopping
        await go_on.wait()
        return RecordResult(RecordStatus.DONE)

    places = [Partition("t", number) for number in range(20)]
    async with asyncio.TaskGroup() as lanes, asyncio.timeout(60):
        dispatcher = Dispatcher(
            handle, agent="a", max_in_flight=5 * len(places), spawn=lanes.create_task, counted=False
        )
        dispatcher.open(places)
        consumer = Buffers({each: range(5) for each in places})
        reader = lanes.create_task(Reading(consumer, dispatcher, Membership("a", "a", ("t",))).run())
        for each in places:
            await consumer.empty(each)
        assert not dispatcher.rooms()
        go_on.set()
        reader.cancel()
