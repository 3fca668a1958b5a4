"""Publishing exactly once: a shard's events and its cursor in one transaction of one fenced producer.

Opening the producer (InitProducerId) makes the broker refuse every older producer of the same shard, so a
leader that slept through its lease cannot publish; and it ends the older one's transaction. See
docs/decisions/0001-relay-publishes-in-transactions.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder

from slotwire.ingest.errors import BrokerUnavailable, RecordRefused
from slotwire.ingest.foundation.kafka import (
    REQUEST_TIMEOUT_SECONDS,
    connecting,
    discard,
    full_name,
    partition_of,
    require_topics,
    translated,
)
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import RELAY_TRANSACTION_SECONDS
from slotwire.ingest.relay.cursor import Cursor
from slotwire.schemas.codec import Headers
from slotwire.schemas.topics import EVENT_TOPICS, RELAY_CURSOR

MAX_BATCH_BYTES = 262_144
"""Records of one partition that travel together; one request is in flight a broker, so they should be many."""
HEADROOM_BYTES = 65_536
"""What keys, headers and framing may add to a record's data."""


@dataclass(frozen=True)
class OutgoingRecord:
    """One event, ready to be sent.

    Attributes:
        topic: the full name.
    """

    topic: str
    key: bytes
    value: bytes
    headers: Headers


class Publisher:
    """A shard's producer, good until its first failure. Only `open` makes one."""

    def __init__(self, producer: AIOKafkaProducer, partitions: Mapping[str, int], settings: Settings) -> None:
        self._producer = producer
        self._partitions = partitions
        self._limit = settings.relay.transaction_timeout_seconds
        self._cursor_topic = full_name(settings.kafka, RELAY_CURSOR)

    @classmethod
    async def open(cls, settings: Settings, transactional_id: str) -> Publisher:
        """Fence every earlier producer of this id and end its transaction.

        Raises:
            TopicUnavailable: a topic of ours is missing or forbidden.
            BrokerUnavailable: the broker does not answer.
        """
        limit = settings.relay.transaction_timeout_seconds
        producer = AIOKafkaProducer(
            transactional_id=transactional_id,
            transaction_timeout_ms=int(limit * 1000),
            request_timeout_ms=int(REQUEST_TIMEOUT_SECONDS * 1000),
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=settings.relay.max_record_bytes + HEADROOM_BYTES,
            linger_ms=0,
            **connection_options(settings.kafka, client="relay"),
        )
        try:
            async with connecting(settings.kafka), asyncio.timeout(limit):
                await producer.start()
            # Before any topic is named to the producer, or a broker that makes topics of itself would.
            topics = (*EVENT_TOPICS, RELAY_CURSOR)
            found = await require_topics(producer.client, [full_name(settings.kafka, topic) for topic in topics])
        except BaseException:
            await discard(producer)
            raise
        return cls(producer, {topic.name: topic.partitions for topic in found}, settings)

    async def publish(self, records: Sequence[OutgoingRecord], cursor: Cursor) -> None:
        """Publish records and the cursor that has passed them, all or nothing.

        After any error this publisher must be discarded. Whether the transaction was committed is then known
        only by reading the cursor.

        Raises:
            RecordRefused: the broker refused at least one of the records; nothing was published.
            TopicUnavailable: a topic is forbidden.
            BrokerUnavailable: the broker does not answer, or this producer was fenced.
        """
        futures: list[asyncio.Future[Any]] = []
        try:
            with translated(), RELAY_TRANSACTION_SECONDS.time():
                async with asyncio.timeout(self._limit):
                    await self._producer.begin_transaction()
                    refusal = await self._send(records, cursor, futures)
                    if refusal is None:
                        await self._producer.commit_transaction()
                        return
                    # If this fails, we were fenced or the broker is gone, and the refusal says nothing of the records.
                    await self._producer.abort_transaction()
            raise refusal
        finally:
            _hear(futures)

    async def _send(
        self, records: Sequence[OutgoingRecord], cursor: Cursor, futures: list[asyncio.Future[Any]]
    ) -> RecordRefused | None:
        """Send everything and wait until each batch has its offset; return what the broker refused, if it did."""
        batches = len(records)
        try:
            with translated():
                for place, batch in self._batches(records):
                    futures.append(await self._producer.send_batch(batch, place.topic, partition=place.partition))
                batches = len(futures)
                last = await self._producer.send(self._cursor_topic, cursor.encode(), cursor.key)
                futures.append(last)
                await self._producer.flush()
                # The commit would succeed without a batch that the broker rejects: so each is asked for its offset.
                for future in futures:
                    _require_offset(future)
        except RecordRefused as refusal:
            if len(futures) > batches and futures[-1].done() and futures[-1].exception() is not None:
                raise BrokerUnavailable("Kafka refuses the relay's cursor", reason="cursor_refused") from refusal
            return refusal
        return None

    def _batches(self, records: Sequence[OutgoingRecord]) -> Iterator[tuple[TopicPartition, BatchBuilder]]:
        """Put records into batches by partition, in their order: one by one costs a third more CPU."""
        filling: dict[TopicPartition, BatchBuilder] = {}
        for record in records:
            place = TopicPartition(record.topic, partition_of(record.key, self._partitions[record.topic]))
            batch = filling.get(place)
            if batch is not None and _appended(batch, record):
                continue
            if batch is not None:
                yield place, batch
            batch = filling[place] = self._producer.create_batch()
            if not _appended(batch, record):  # pragma: no cover - the first record of a batch always fits
                raise AssertionError
        yield from filling.items()

    async def discard(self) -> None:
        """Let go of the producer, in whatever state it is."""
        await discard(self._producer)


def _appended(batch: BatchBuilder, record: OutgoingRecord) -> bool:
    """Put a record into a batch, and return whether it had room."""
    return batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers) is not None


def _require_offset(future: asyncio.Future[Any]) -> None:
    if not future.done() or future.result().offset < 0:
        raise BrokerUnavailable("Kafka gave no offset for a record", reason="no_offset")


def _hear(futures: Sequence[asyncio.Future[Any]]) -> None:
    """Ask every future for its exception, so that none warns that nobody did."""
    for future in futures:
        if not future.done():
            future.cancel()
        elif not future.cancelled():
            future.exception()
