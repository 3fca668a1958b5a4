"""The relay's cursor: what has been published, written by the transaction that published it.

It lives in a compacted topic, one record a shard, so that it moves with the records or not at all. It names
the log and the event it stands at, so that a log that was restored or replaced is noticed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from slotwire.ingest.errors import CursorMismatch, RecordRefused
from slotwire.ingest.foundation.kafka import connecting, full_name, translated
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.settings import Settings
from slotwire.schemas.topics import RELAY_CURSOR

FIRST_WINDOW = 128
"""Records at the end of the topic that are looked at first; each shard that publishes writes one a transaction."""
WINDOW_GROWTH = 16
MAX_POSITION = 2**63 - 1
"""The last position that a log can have."""
_WAIT_MS = 50
_STOP_SECONDS = 1.0


@dataclass(frozen=True)
class Cursor:
    """Everything of one shard up to here is published or parked.

    Attributes:
        log_id: the log it belongs to.
        shard: the shard.
        position: the last position that was passed; 0 is the beginning.
        event_id: the event at that position; None at the beginning.
    """

    log_id: UUID
    shard: int
    position: int = 0
    event_id: UUID | None = None

    @property
    def key(self) -> bytes:
        """The key of its record."""
        return str(self.shard).encode()

    def encode(self) -> bytes:
        """Write it as a record's value."""
        event_id = None if self.event_id is None else str(self.event_id)
        return orjson.dumps({"log_id": str(self.log_id), "position": self.position, "event_id": event_id})

    def after(self, position: int, event_id: UUID) -> Cursor:
        """Return the cursor that has passed an event too."""
        return Cursor(self.log_id, self.shard, position, event_id)


def decode_cursor(shard: int, value: bytes | None) -> Cursor:
    """Read a cursor's record.

    Args:
        shard: the shard.
        value: the record's value; None when somebody deleted the cursor.

    Raises:
        CursorMismatch: it is not one of ours.
    """
    if value is None:
        raise cursor_mismatch(shard, "its record in Kafka was deleted")
    try:
        found = orjson.loads(value)
        log_id, position, event_id = UUID(found["log_id"]), found["position"], found["event_id"]
        known = None if event_id is None else UUID(event_id)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise cursor_mismatch(shard, "its record in Kafka cannot be read") from error
    if type(position) is not int or not 0 <= position <= MAX_POSITION or (position > 0 and known is None):
        raise cursor_mismatch(shard, "its record in Kafka cannot be read")
    return Cursor(log_id, shard, position, known)


def cursor_mismatch(shard: int, why: str) -> CursorMismatch:
    """Say that the relay stops, why, and how it goes on."""
    return CursorMismatch(
        f"the relay's cursor of shard {shard} does not fit this log: {why}",
        remedy=(
            "After a restore of Postgres run `slotwire migrate --after-restore`. Otherwise choose where to go on, and"
            " start a relay once with `slotwire relay --cursor-from mirror|POSITION|beginning`.\n"
            "  mirror      where Postgres says it was (some events may come twice)\n"
            "  POSITION    everything up to POSITION counts as published\n"
            "  beginning   publish the whole log again"
        ),
    )


async def read_cursor(settings: Settings, shard: int) -> Cursor | None:
    """Read a shard's cursor as committed, up to the end of the topic.

    Must follow the producer's InitProducerId: that ends the transactions of earlier leaders, so that nothing
    of theirs is still to come.

    Returns:
        The cursor; None when there is none.

    Raises:
        BrokerUnavailable: the broker does not answer, or another shard's transaction stays open too long.
        CursorMismatch: the record is not a cursor, was deleted, or the topic cannot be read.
    """
    partition = TopicPartition(full_name(settings.kafka, RELAY_CURSOR), 0)
    # Another shard's open transaction hides what comes after it, until the broker ends it.
    limit = settings.relay.transaction_timeout_seconds + 5
    consumer = AIOKafkaConsumer(
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_WAIT_MS,
        **connection_options(settings.kafka, client="relay-cursor"),
    )
    try:
        with translated():
            async with asyncio.timeout(limit):
                async with connecting(settings.kafka):
                    await consumer.start()
                consumer.assign([partition])
                last = await _last_of(consumer, partition, str(shard).encode())
    except RecordRefused as error:
        raise cursor_mismatch(shard, "its topic in Kafka cannot be read") from error
    finally:
        await asyncio.wait({asyncio.ensure_future(consumer.stop())}, timeout=_STOP_SECONDS)
    return None if last is None else decode_cursor(shard, last.value)


async def _last_of(consumer: AIOKafkaConsumer, partition: TopicPartition, key: bytes) -> ConsumerRecord | None:
    """Find the last committed record of a key, looking from the end backwards in growing windows."""
    first = (await consumer.beginning_offsets([partition]))[partition]
    last = (await consumer.end_offsets([partition]))[partition]
    window = FIRST_WINDOW
    while True:
        start = max(first, last - window)
        found = await _last_from(consumer, partition, key, start)
        if found is not None or start == first:
            return found
        window *= WINDOW_GROWTH


async def _last_from(
    consumer: AIOKafkaConsumer, partition: TopicPartition, key: bytes, start: int
) -> ConsumerRecord | None:
    found: ConsumerRecord | None = None
    end: int | None = None
    consumer.seek(partition, start)
    while end is None or await consumer.position(partition) < end:
        batches = await consumer.getmany(partition, timeout_ms=_WAIT_MS)
        # The end as of the first answer: other shards go on writing.
        end = consumer.highwater(partition) if end is None else end
        for record in batches.get(partition, ()):
            if record.key == key:
                found = record
    return found
