"""Reads records, and hands them to the dispatcher as it has room for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from slotwire.handlers.consume.careful_consumer import NOT_PLACED, readable, records_from
from slotwire.handlers.consume.membership import Membership
from slotwire.handlers.dispatch.dispatcher import Dispatcher
from slotwire.handlers.records import Partition
from slotwire.ingest.foundation.errors import BrokerUnavailable
from slotwire.ingest.foundation.kafka import translated
from slotwire.ingest.foundation.lifecycle import wait_for

POLL_SECONDS = 0.2
"""How long one poll waits for records. The next follows at once, for the partitions that are ours by then."""
FULL_POLL_SECONDS = 0.02
"""How long to wait for room after an empty poll while a partition is full."""
PACE_SECONDS = 0.005
"""The pause between two polls while more than half of what may be in flight is."""


class Reading:
    """What one member reads."""

    def __init__(self, consumer: AIOKafkaConsumer, dispatcher: Dispatcher, membership: Membership) -> None:
        """Take where records come from, and where they go."""
        self._consumer = consumer
        self._dispatcher = dispatcher
        self._membership = membership

    async def run(self) -> None:
        """Hand records to the dispatcher, for the partitions that have room.

        A partition without room is left out of the poll, which keeps its fetched records in the client's buffer;
        pausing the partition would discard them. Nothing is awaited between aiokafka's move of the position and our
        note of it, so that a commit never sees one without the other.
        """
        dispatcher, turn = self._dispatcher, 0
        while True:
            dispatcher.changed.clear()
            rooms = dispatcher.rooms()
            if dispatcher.partitions and not rooms:
                await dispatcher.changed.wait()
                continue
            # Any partition may fill a poll alone, so the one with the least room says how much a poll may find: one
            # that has little is polled by itself, one such at a time.
            wide = {partition: room for partition, room in rooms.items() if room >= dispatcher.wide}
            tight = [partition for partition in rooms if partition not in wide]
            full = len(wide) < len(dispatcher.partitions)
            found = await self._take(wide, seconds=0 if full else POLL_SECONDS) if wide or not rooms else 0
            more = bool(wide) and found >= min(wide.values())
            if tight:
                turn += 1
                chosen = tight[turn % len(tight)]
                found += await self._take({chosen: rooms[chosen]}, seconds=0)
            if full and not found:
                await wait_for(dispatcher.changed, FULL_POLL_SECONDS)
            else:
                # A poll that finds records never waits; let the lanes run, too. With much in flight many end at once:
                # to read them one by one, as each makes room, would cost more than most handlers. But one that finds
                # as much as it may was of one partition, and others with much room may have more.
                await asyncio.sleep(PACE_SECONDS if dispatcher.is_pressed and not more else 0)

    async def _take(self, rooms: Mapping[Partition, int], *, seconds: float) -> int:
        """Hand over what comes of some partitions within so many seconds; returns how many records came."""
        batches = await self._poll(rooms, seconds=seconds)
        with translated():
            for place, records in batches.items():
                partition = Partition(*place)
                if not self._dispatcher.reads(partition):
                    # Partitions moved during the poll: its records are read when it is ready.
                    self._consumer.seek(place, records[0].offset)
                    continue
                position = await self._consumer.position(place)  # known, so this does not wait
                self._dispatcher.deliver(partition, records_from(partition, records), position=position)
        return sum(map(len, batches.values()))

    async def _poll(self, rooms: Mapping[Partition, int], *, seconds: float) -> dict[TopicPartition, list[Any]]:
        """Read what comes within so many seconds; of all partitions while none is ours."""
        try:
            with readable(self._membership.agent, self._membership.topics), translated():
                batches: dict[TopicPartition, list[Any]] = await self._consumer.getmany(
                    *(TopicPartition(*partition) for partition in rooms),
                    timeout_ms=int(seconds * 1000),
                    max_records=min(rooms.values(), default=1),
                )
        except BrokerUnavailable as error:
            if error.reason == NOT_PLACED:
                return {}
            raise
        return batches
