"""Counts what a reader of committed records finds in the invitees' topic."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from slotwire.ingest.foundation.kafka import full_name
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.schemas.topics import INVITEE

QUIET_SECONDS = 1.0
"""When nothing more comes for so long, that was all."""


async def count_records(kafka: KafkaSettings, expected: int) -> int:
    """Count the topic's committed records from its beginning; waits for as many as are expected, and for a surplus."""
    topic = full_name(kafka, INVITEE)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, isolation_level="read_committed")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(kafka.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        count, loop = 0, asyncio.get_running_loop()
        last = loop.time()
        while loop.time() - last < (QUIET_SECONDS if count >= expected else 10 * QUIET_SECONDS):
            found = await consumer.getmany(timeout_ms=200, max_records=5_000)
            if found:
                count, last = count + sum(len(each) for each in found.values()), loop.time()
        return count
    finally:
        await consumer.stop()
