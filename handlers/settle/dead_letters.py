"""Dead letters: records that an agent gave up, in one topic per agent and source topic.

The runtime creates the topics when an agent starts. `slotwire migrate` cannot: agents are the user's modules, and only
the runtime knows them. At the start, because a missing permission then shows when the agent is deployed, and not in the
middle of an incident. Without the permission to create topics, create them beforehand; the error names them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from slotwire.handlers.outcome import MAX_REASON_CHARACTERS
from slotwire.handlers.records import Record
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import RecordRefused, TopicUnavailable
from slotwire.ingest.foundation.kafka import (
    REQUEST_TIMEOUT_SECONDS,
    TopicState,
    describe_topics,
    discard,
    opened_client,
    translated,
    until_led,
)
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.schemas.codec import format_time
from slotwire.schemas.topics import dead_letter_topic

SEND_TIMEOUT_SECONDS = 10.0
"""An idempotent producer retries for ever; after this time it is dropped, and the dead letter is sent by a new one."""
MAX_REQUEST_BYTES = 2_097_152
"""Room for the original record, which the broker accepted, and our headers."""
MAX_TRACE_CHARACTERS = 1_000
MAX_LETTER_HEADER_BYTES = 32_768
"""Bytes of a record's own headers that go with its dead letter; a letter with more goes without them."""
MAX_LETTER_KEY_BYTES = 8_192
"""A longer key is left out of a letter that is too large with it."""
LEFT_OUT = "slotwire-error-left-out"
"""The header that names what a dead letter does not have of its record: `value`, `headers`, `key`."""
ERROR_PREFIX = "slotwire-error-"
"""Headers of a dead letter that say why begin so."""
TOO_LARGE = frozenset({"message_size_too_large", "record_list_too_large"})
"""Why a letter is refused that may be accepted with less in it."""
_CREATED = frozenset({0, 36})
"""Kafka's codes for a topic that was created now, or by another member in the meantime."""


@dataclass(frozen=True)
class GiveUpReason:
    """Why a record is given up.

    Attributes:
        reason: one line, without personal data.
        attempts: the runs that counted; 0 when no handler ran.
        trace: where it failed: modules, lines and functions, without values.
    """

    reason: str
    attempts: int
    trace: str = ""


class DeadLetters(Protocol):
    """Stores the records that an agent gave up: in Kafka, or in a list for an agent's own tests."""

    async def put(self, record: Record, why: GiveUpReason) -> None:
        """Store a record; raises BrokerUnavailable or RecordRefused when that failed."""
        ...


@dataclass(frozen=True)
class Letter:
    """A dead letter, ready to be sent."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def error_headers(record: Record, why: GiveUpReason, *, agent: str, now: datetime) -> list[tuple[str, bytes]]:
    """Return the headers that say why a record was given up; they are added to its original ones."""
    fields = {
        "reason": why.reason[:MAX_REASON_CHARACTERS],
        "attempts": str(why.attempts),
        "agent": agent,
        "topic": record.partition.topic,
        "partition": str(record.partition.number),
        "offset": str(record.offset),
        "time": format_time(now),
        "trace": why.trace[:MAX_TRACE_CHARACTERS],
    }
    return [(f"{ERROR_PREFIX}{name}", text.encode(errors="replace")) for name, text in fields.items() if text]


def letters(record: Record, own: Sequence[tuple[str, bytes | None]]) -> Iterator[Letter]:
    """Return the forms of a record's dead letter, the whole one first: the next is for a broker that refuses the last.

    Topic, partition and offset in `own` always lead to the record itself. Where the headers are those of an event, a
    letter without its value refers to the data in the log (`ce_dataref`), so it can be driven again like any other.

    Args:
        record: the record.
        own: the headers that say why it was given up.
    """
    # A record that was a dead letter before and was replayed loses the reason of that time.
    original = [(name, value) for name, value in record.headers if not name.startswith(ERROR_PREFIX)]
    value = record.value
    if record.key is None and value is None:
        value = b""  # aiokafka sends no record that is null twice
    yield Letter(record.key, value, [*original, *own])
    key, out = record.key, ["value"]
    if key is not None and len(key) > MAX_LETTER_KEY_BYTES:
        key = None
        out.append("key")
    if sum(len(name.encode()) + len(item or b"") for name, item in original) <= MAX_LETTER_HEADER_BYTES:
        yield Letter(key, b"", [*original, *_reference(original), *own, (LEFT_OUT, ", ".join(out).encode())])
    yield Letter(key, b"", [*own, (LEFT_OUT, ", ".join([*out, "headers"]).encode())])


def _reference(headers: list[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    """Refer to the data of an event in the log, if the headers name one and do not refer to it already."""
    found = dict(headers)
    identity = found.get("ce_id")
    if identity is None or "ce_dataref" in found:
        return []
    return [("ce_dataref", b"/v1/events/" + identity)]


class KafkaDeadLetters:
    """Writes an agent's dead letters to Kafka. The first one opens the producer."""

    def __init__(self, settings: KafkaSettings, *, agent: str, clock: Clock) -> None:
        self._settings = settings
        self._agent = agent
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def put(self, record: Record, why: GiveUpReason) -> None:
        """Write a record with its key, value and headers, and the reason; returns once all in-sync replicas have it.

        One that is too large for the broker or the topic is written without its value, then without its headers; the
        header `slotwire-error-left-out` says it.

        Raises:
            BrokerUnavailable: the broker is away, or the topic was deleted.
            RecordRefused: the broker refuses it for another reason, or even the smallest form of it.
        """
        own = error_headers(record, why, agent=self._agent, now=self._clock.now())
        topic = dead_letter_topic(record.partition.topic, self._agent)
        reason = ""
        async with self._lock:
            for letter in letters(record, own):
                try:
                    await self._send(topic, letter)
                except RecordRefused as refusal:
                    reason = refusal.reason
                    if reason not in TOO_LARGE:
                        break
                else:
                    return
        raise RecordRefused(
            f"Kafka refuses a dead letter: topic {topic}, {reason}",
            reason=reason,
            remedy="Compare max.message.bytes and cleanup.policy of this topic with those of other dead-letter topics.",
        )

    async def _send(self, topic: str, letter: Letter) -> None:
        try:
            with translated():
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    producer = await self._opened()
                    await producer.send_and_wait(topic, letter.value, letter.key, headers=letter.headers)
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
        """Close the producer; nothing is buffered between two calls of `put`."""
        await self._drop()


async def ensure_topics(settings: KafkaSettings, agent: str, topics: Iterable[str]) -> None:
    """Create an agent's missing dead-letter topics: one partition each, with the retention of all topics.

    Args:
        settings: the broker, the number of replicas and the retention.
        agent: the agent's name.
        topics: the full names of the topics it reads.

    Raises:
        TopicUnavailable: some are missing or forbidden, and this client may not create them.
        BrokerUnavailable: the broker does not answer.
    """
    names = [dead_letter_topic(topic, agent) for topic in topics]
    async with opened_client(settings, client=f"agent-{agent}") as client:
        found = await describe_topics(client, names)
        forbidden = [topic.name for topic in found if topic.state is TopicState.FORBIDDEN]
        missing = [topic.name for topic in found if topic.state is TopicState.MISSING]
        refused = await _create(settings, agent, missing) if missing else []
        await until_led(
            client, {topic.name for topic in found if topic.state is not TopicState.READY} - {*forbidden, *refused}
        )
    if forbidden or refused:
        listed = ", ".join((*forbidden, *refused))
        raise TopicUnavailable(
            f"the dead letters' topic is missing or forbidden: {listed}",
            topics=(*forbidden, *refused),
            remedy="Allow this client to create, describe and write it, or create it with one partition.",
        )


async def _create(settings: KafkaSettings, agent: str, names: list[str]) -> list[str]:
    """Create topics; returns those that the broker refused."""
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
                new = [NewTopic(name, 1, settings.replication_factor, topic_configs=config) for name in names]
                response: Any = await admin.create_topics(new)
        finally:
            await admin.close()
    return [name for name, code, *_ in response.topic_errors if code not in _CREATED]
