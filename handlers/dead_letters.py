"""Dead letters: a topic an agent and topic, for what the agent gave up on.

The topics are made by the runtime when an agent starts, not by `slotwire migrate`: only the runtime knows which
agents there are (they are the user's modules). At the start and not at the first dead letter, so that a missing
right shows when the agent is deployed and not in the middle of an incident. A client without the right to
create topics needs them made beforehand; the message names them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from slotwire.handlers.outcome import MAX_REASON_CHARACTERS
from slotwire.handlers.records import Record
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import TopicUnavailable
from slotwire.ingest.foundation.kafka import (
    REQUEST_TIMEOUT_SECONDS,
    connection_options,
    describe_topics,
    discard,
    opened_client,
    translated,
    until_led,
)
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.schemas.codec import format_time
from slotwire.schemas.topics import dead_letter_topic

SEND_TIMEOUT_SECONDS = 10.0
"""An idempotent producer never gives up by itself; after this it is dropped and the letter sent again."""
MAX_REQUEST_BYTES = 2_097_152
"""Room for the original record, which the broker took, and our headers."""
MAX_TRACE_CHARACTERS = 1_000
_MADE = frozenset({0, 36})
"""Made now, or by another member in the meantime."""


@dataclass(frozen=True)
class GivenUp:
    """Why a record is given up.

    Attributes:
        reason: in a line, without personal data.
        attempts: how many runs there were; 0 when it was never handed to a handler.
        trace: where it failed: modules, lines and functions, no values.
    """

    reason: str
    attempts: int
    trace: str = ""


class DeadLetters(Protocol):
    """Where given-up records go. To Kafka, or into a list for an agent's own tests."""

    async def put(self, record: Record, why: GivenUp) -> None:
        """Keep a record; raises BrokerUnavailable or RecordRefused when it could not."""
        ...


def error_headers(record: Record, why: GivenUp, *, agent: str, now: datetime) -> list[tuple[str, bytes]]:
    """Write what a dead letter says of its end, beside its original headers."""
    said = {
        "reason": why.reason[:MAX_REASON_CHARACTERS],
        "attempts": str(why.attempts),
        "agent": agent,
        "topic": record.partition.topic,
        "partition": str(record.partition.number),
        "offset": str(record.offset),
        "time": format_time(now),
        "trace": why.trace[:MAX_TRACE_CHARACTERS],
    }
    return [(f"slotwire-error-{name}", text.encode()) for name, text in said.items() if text]


class KafkaDeadLetters:
    """Writes an agent's dead letters. The producer is opened for the first one."""

    def __init__(self, settings: KafkaSettings, *, agent: str, clock: Clock) -> None:
        self._settings = settings
        self._agent = agent
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def put(self, record: Record, why: GivenUp) -> None:
        """Keep a record with its key, value and headers, and the reason; returns once all copies hold it.

        Raises:
            BrokerUnavailable: the broker is away, or the topic was deleted.
            RecordRefused: the broker does not take it.
        """
        own = error_headers(record, why, agent=self._agent, now=self._clock.now())
        # An earlier end of the same record, from before it was driven again, gives way to this one.
        kept = [(name, value) for name, value in record.headers if not name.startswith("slotwire-error-")]
        topic = dead_letter_topic(record.partition.topic, self._agent)
        async with self._lock:
            try:
                with translated():
                    async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                        producer = await self._opened()
                        await producer.send_and_wait(topic, record.value, record.key, headers=[*kept, *own])
            except BaseException:
                await self._drop()
                raise

    async def _opened(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                acks="all",
                enable_idempotence=True,
                max_request_size=MAX_REQUEST_BYTES,
                **connection_options(self._settings, client=f"agent-{self._agent}"),
            )
            await self._producer.start()
        return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await discard(producer)

    async def close(self) -> None:
        """Let go of the producer; nothing is buffered between two `put`s."""
        await self._drop()


async def ensure_topics(settings: KafkaSettings, agent: str, topics: Iterable[str]) -> None:
    """Make an agent's missing dead-letter topics: one partition each, kept as long as the others.

    Args:
        settings: the broker, the copies and the retention.
        agent: the agent's name.
        topics: the full names of the topics it reads.

    Raises:
        TopicUnavailable: some are missing and this client may not make them.
        BrokerUnavailable: it does not answer.
    """
    names = [dead_letter_topic(topic, agent) for topic in topics]
    async with opened_client(settings, client=f"agent-{agent}") as client:
        found = await describe_topics(client, names)
        forbidden = [topic.name for topic in found if topic.state == "forbidden"]
        missing = [topic.name for topic in found if topic.state == "missing"]
        refused = await _create(settings, agent, missing) if missing else []
        await until_led(client, {topic.name for topic in found if topic.state != "ready"} - {*forbidden, *refused})
    if forbidden or refused:
        listed = ", ".join((*forbidden, *refused))
        raise TopicUnavailable(
            f"the dead letters' topic is missing or forbidden: {listed}",
            topics=(*forbidden, *refused),
            remedy="Let this client create, describe and write it, or make it with one partition.",
        )


async def _create(settings: KafkaSettings, agent: str, names: list[str]) -> list[str]:
    """Ask for the topics; returns those that the broker refused to make."""
    admin = AIOKafkaAdminClient(**connection_options(settings, client=f"agent-{agent}"))
    config = {
        "retention.ms": str(settings.retention_hours * 3_600_000),
        "min.insync.replicas": str(settings.min_insync_replicas),
        "max.message.bytes": str(MAX_REQUEST_BYTES),
    }
    with translated():
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                await admin.start()
                wanted = [NewTopic(name, 1, settings.replication_factor, topic_configs=config) for name in names]
                answer: Any = await admin.create_topics(wanted)
        finally:
            await admin.close()
    return [name for name, code, *_ in answer.topic_errors if code not in _MADE]
