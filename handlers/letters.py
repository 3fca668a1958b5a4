"""Read dead letters: the records that an agent gave up, newest first, from the topics that keep them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from slotwire.handlers.dead_letters import ERROR_PREFIX, MAX_REQUEST_BYTES
from slotwire.handlers.groups import resolve
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.foundation.kafka import (
    REQUEST_TIMEOUT_SECONDS,
    TopicDescription,
    TopicState,
    connecting,
    describe_topics,
    full_name,
    opened_client,
    translated,
)
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.schemas.topics import EVENT_TOPICS, dead_letter_topic

MAX_LISTED = 1_000
"""Dead letters that one call reads at most."""


@dataclass(frozen=True, slots=True)
class LetterSummary:
    """A record that an agent gave up.

    Attributes:
        letter: what it is called by: topic, partition and offset, with colons between.
        at: when it was given up.
        event: its event's id; None if it is no event.
        type: its event's type; None if it is no event.
        subject: the URI of its event's invitee or resource; None if it is no event.
        reason: why it was given up, without personal data.
        attempts: runs that counted; 0 when no handler ran.
        source: the record itself, written like `letter`.
        left_out: what the letter does not have of its record, because it was too large.
    """

    letter: str
    at: datetime
    event: str | None
    type: str | None
    subject: str | None
    reason: str
    attempts: int
    source: str
    left_out: str | None


@dataclass(frozen=True, slots=True)
class LetterDetail:
    """A dead letter with what it holds, personal data included.

    Attributes:
        about: what the list shows of it.
        trace: where it failed: modules, lines and functions.
        key: the record's key as text; None if it has none.
        headers: the record's own headers as text.
        value: the record's value.
    """

    about: LetterSummary
    trace: str
    key: str | None
    headers: tuple[tuple[str, str], ...]
    value: bytes


async def list_letters(settings: KafkaSettings, agent: str, *, limit: int) -> tuple[LetterSummary, ...]:
    """Read an agent's latest dead letters, newest first.

    Args:
        settings: the broker.
        agent: the agent's name.
        limit: from 1 to `MAX_LISTED`.

    Raises:
        RequestRefused: no topic of Kafka is for this agent's dead letters (`agent_unknown`).
        BrokerUnavailable: the broker does not answer.
    """
    topics = await _topics(settings, agent)
    partitions = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
    async with _reader(settings, agent, partitions) as consumer:
        begins, ends = await resolve(consumer, partitions, "earliest"), await resolve(consumer, partitions, "latest")
        records = await _records(
            consumer, {each: (max(begins[each], ends[each] - limit), ends[each]) for each in partitions}
        )
    newest = sorted(records, key=lambda record: (-record.timestamp, record.topic, -record.offset))
    return tuple(map(_letter, newest[:limit]))


async def read_letter(settings: KafkaSettings, agent: str, letter: str) -> LetterDetail:
    """Read one dead letter with what it holds.

    Args:
        settings: the broker.
        agent: the agent's name.
        letter: as the list shows it.

    Raises:
        RequestRefused: it is not one of this agent's, or is no longer kept (`not_found`).
        BrokerUnavailable: the broker does not answer.
    """
    topic, number, offset = _place(letter)
    partition = TopicPartition(topic, number)
    if not any(each.name == topic and number < each.partitions for each in await _topics(settings, agent)):
        raise _gone()
    async with _reader(settings, agent, [partition]) as consumer:
        begins, ends = await resolve(consumer, [partition], "earliest"), await resolve(consumer, [partition], "latest")
        if not begins[partition] <= offset < ends[partition]:
            raise _gone()
        found = [each for each in await _records(consumer, {partition: (offset, offset + 1)}) if each.offset == offset]
    if not found:
        raise _gone()
    [record] = found
    headers = [(name, (value or b"").decode(errors="replace")) for name, value in record.headers]
    return LetterDetail(
        about=_letter(record),
        trace=dict(headers).get(f"{ERROR_PREFIX}trace", ""),
        key=None if record.key is None else record.key.decode(errors="replace"),
        headers=tuple((name, value) for name, value in headers if not name.startswith(ERROR_PREFIX)),
        value=record.value or b"",
    )


async def _topics(settings: KafkaSettings, agent: str) -> list[TopicDescription]:
    names = [dead_letter_topic(full_name(settings, topic), agent) for topic in EVENT_TOPICS]
    async with opened_client(settings, client=f"operator-{agent}") as client:
        found = await describe_topics(client, names)
    ready = [topic for topic in found if topic.state is TopicState.READY]
    if not ready:
        raise RequestRefused(
            f"Kafka has no topic for dead letters of an agent {agent}",
            code="agent_unknown",
            remedy='Give the agent\'s name, as in Agent("crm"); its topics are made when it first starts.',
        )
    return ready


@asynccontextmanager
async def _reader(
    settings: KafkaSettings, agent: str, partitions: Iterable[TopicPartition]
) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_REQUEST_BYTES,
        request_timeout_ms=int(REQUEST_TIMEOUT_SECONDS * 1_000),
        **connection_options(settings, client=f"operator-{agent}"),
    )
    try:
        async with connecting(settings), asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
            await consumer.start()
        consumer.assign(list(partitions))
        yield consumer
    finally:
        await consumer.stop()


async def _records(
    consumer: AIOKafkaConsumer, spans: dict[TopicPartition, tuple[int, int]]
) -> list[ConsumerRecord[Any, Any]]:
    """Read each partition from one offset up to another."""
    found: list[ConsumerRecord[Any, Any]] = []
    open_ = {partition: end for partition, (start, end) in spans.items() if start < end}
    with translated():
        for partition, (start, _) in spans.items():
            consumer.seek(partition, start)
        async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
            while open_:
                batch = await consumer.getone(*open_)
                partition = TopicPartition(batch.topic, batch.partition)
                if batch.offset < open_[partition]:
                    found.append(batch)
                if batch.offset + 1 >= open_[partition]:
                    del open_[partition]
    return found


def _letter(record: ConsumerRecord[Any, Any]) -> LetterSummary:
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    said = {name.removeprefix(ERROR_PREFIX): value for name, value in headers.items() if name.startswith(ERROR_PREFIX)}
    return LetterSummary(
        letter=f"{record.topic}:{record.partition}:{record.offset}",
        at=datetime.fromtimestamp(record.timestamp / 1_000, UTC),
        event=headers.get("ce_id"),
        type=headers.get("ce_type"),
        subject=headers.get("ce_subject"),
        reason=said.get("reason", ""),
        attempts=int(said["attempts"]) if said.get("attempts", "").isdecimal() else 0,
        source=":".join((said.get("topic", ""), said.get("partition", ""), said.get("offset", ""))),
        left_out=said.get("left-out"),
    )


def _place(letter: str) -> tuple[str, int, int]:
    topic, _, rest = letter.partition(":")
    number, _, offset = rest.partition(":")
    if not (number.isdecimal() and offset.isdecimal() and number.isascii() and offset.isascii()):
        raise _gone()
    return topic, int(number), int(offset)


def _gone() -> RequestRefused:
    return RequestRefused(
        "there is no such dead letter of this agent, or its topic no longer keeps it",
        code="not_found",
        remedy="Give one as `slotwire dead-letters list AGENT` shows it, for example calendly.invitee.crm.dlq:0:17.",
    )
