"""The topic of what is known, written in transactions by one producer for each organization.

To open it shuts out every earlier one of the organization at the broker, and ends its transaction. The order is that of
the relay: a new epoch, then the producer, then a look at what is to be published, as that epoch. So nobody who was
taken for dead can publish something older behind something newer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer

from slotwire.ingest.foundation.errors import BrokerUnavailable
from slotwire.ingest.foundation.kafka import (
    REQUEST_TIMEOUT_SECONDS,
    connecting,
    discard,
    full_name,
    require_topics,
    translated,
)
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.schemas.topics import AVAILABILITY

TRANSACTION_SECONDS = 15.0
"""How long a transaction, or opening the producer, may take."""
MAX_RECORD_BYTES = 1_048_576
"""Larger than any record: slots and busy times are bounded."""

Entry = tuple[bytes, bytes | None]
"""A record's key and value; without a value it is a tombstone."""


class AvailabilityFeed:
    """An organization's producer, good until its first failure."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    async def publish(self, entries: Sequence[Entry]) -> None:
        """Publish records, all or none.

        Raises:
            RecordRefused: the broker refuses one; nothing was published.
            BrokerUnavailable: the broker is away, or another writer has the organization by now. They may be published.
        """
        futures: list[asyncio.Future[Any]] = []
        try:
            with translated():
                async with asyncio.timeout(TRANSACTION_SECONDS):
                    await self._producer.begin_transaction()
                    for key, value in entries:
                        headers = [] if value is None else [("content-type", b"application/json")]
                        futures.append(await self._producer.send(self._topic, value, key, headers=headers))
                    await self._producer.flush()
                    # The commit would succeed without a batch that the broker rejects: so each is asked for its offset.
                    for future in futures:
                        if not future.done() or future.result().offset < 0:
                            raise BrokerUnavailable("Kafka gave no offset for a record", reason="no_offset")
                    await self._producer.commit_transaction()
        finally:
            for future in futures:
                if not future.done():
                    future.cancel()
                elif not future.cancelled():
                    future.exception()


@asynccontextmanager
async def opened_feed(settings: KafkaSettings, org: str) -> AsyncIterator[AvailabilityFeed]:
    """Open an organization's producer while the block runs.

    Raises:
        TopicUnavailable: the topic is missing or forbidden.
        BrokerUnavailable: the broker does not answer.
    """
    topic = full_name(settings, AVAILABILITY)
    producer = AIOKafkaProducer(
        transactional_id=f"{topic}.{org}",
        transaction_timeout_ms=int(TRANSACTION_SECONDS * 1000),
        request_timeout_ms=int(REQUEST_TIMEOUT_SECONDS * 1000),
        max_request_size=MAX_RECORD_BYTES,
        linger_ms=0,
        **connection_options(settings, client="availability"),
    )
    starting = asyncio.ensure_future(producer.start())
    try:
        async with connecting(settings), asyncio.timeout(TRANSACTION_SECONDS):
            # aiokafka forgets a connection that it is opening when it is cancelled.
            await asyncio.shield(starting)
        # Before the topic is named to the producer, or a broker that makes topics of itself would.
        await require_topics(producer.client, [topic])
        yield AvailabilityFeed(producer, topic)
    finally:
        await asyncio.wait({starting}, timeout=REQUEST_TIMEOUT_SECONDS)
        if starting.done() and not starting.cancelled():
            starting.exception()  # told already, unless this was cancelled
        await discard(producer)
