"""Ask for a consumer group without joining it: where it continues, and where its topics begin and end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from slotwire.handlers.policy import Start
from slotwire.ingest.foundation.kafka import REQUEST_TIMEOUT_SECONDS, connecting, translated
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.settings import KafkaSettings


@asynccontextmanager
async def speaking_for(settings: KafkaSettings, group: str, *, client: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer that belongs to a group's name and is no member.

    Raises:
        BrokerUnavailable: the broker does not answer.
    """
    consumer = AIOKafkaConsumer(
        group_id=group,
        enable_auto_commit=False,
        isolation_level="read_committed",  # the end of a partition is its last stable offset
        request_timeout_ms=int(REQUEST_TIMEOUT_SECONDS * 1_000),
        **connection_options(settings, client=client),
    )
    try:
        async with connecting(settings), asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
            await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def read_committed(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Return where the group continues, for the partitions of which Kafka knows it."""
    asked = list(partitions)
    consumer.assign(asked)
    with translated():
        async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
            found = {partition: await consumer.committed(partition) for partition in asked}
    return {partition: offset for partition, offset in found.items() if offset is not None}


async def resolve(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition], start: Start
) -> dict[TopicPartition, int]:
    """Return the offset of a start in each partition; where nothing was written since a time, the end."""
    asked = list(partitions)
    if not asked:
        return {}
    with translated():
        async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
            if start == "earliest":
                return dict(await consumer.beginning_offsets(asked))
            ends = dict(await consumer.end_offsets(asked))
            if not isinstance(start, datetime):
                return ends
            found = await consumer.offsets_for_times(dict.fromkeys(asked, int(start.timestamp() * 1_000)))
    return {each: ends[each] if (at := found.get(each)) is None else min(at.offset, ends[each]) for each in asked}
