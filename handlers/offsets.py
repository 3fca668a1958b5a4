"""Where an agent's group continues reading: moved back in time, or past a record, while the agent is stopped.

Only offsets move. What the inbox has as done is skipped when it is read again; what was given up runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from slotwire.ingest.foundation.errors import BrokerUnavailable, RequestRefused
from slotwire.ingest.foundation.kafka import (
    REQUEST_TIMEOUT_SECONDS,
    TopicState,
    connecting,
    describe_topics,
    full_name,
    opened_client,
    translated,
)
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.schemas.topics import EVENT_TOPICS

_GROUP_HAS_MEMBERS = frozenset({"commit_failed", "unknown_member_id", "illegal_generation"})
"""Why a broker refuses offsets of a group from somebody who is none of its members."""
MAX_SKIPPED = 10_000
"""Records that one call skips at most: a damaged batch holds fewer."""


@dataclass(frozen=True, slots=True)
class OffsetMove:
    """Where a group continues in one partition.

    Attributes:
        topic: the full name.
        partition: its number.
        before: the offset it would have continued at.
        after: the offset it continues at now.
        end: the offset of the next record that is written.
    """

    topic: str
    partition: int
    before: int
    after: int
    end: int


async def rewind(settings: KafkaSettings, agent: str, to: datetime) -> tuple[OffsetMove, ...]:
    """Have an agent continue at the first records at or after a time, where it is past them.

    Args:
        settings: the broker.
        agent: the agent's name. It must be stopped.
        to: a time with a zone.

    Returns:
        Each partition that the agent has read, moved or not.

    Raises:
        RequestRefused: it has read nothing (`agent_unknown`), or it runs (`agent_running`).
        BrokerUnavailable: the broker does not answer.
    """
    async with _group(settings, agent) as consumer:
        committed = await _committed(consumer, settings, agent)
        with translated():
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                found = await consumer.offsets_for_times(dict.fromkeys(committed, int(to.timestamp() * 1_000)))
                ends = await consumer.end_offsets(list(committed))
        moves = []
        for partition, before in committed.items():
            at = found.get(partition)
            after = before if at is None else min(before, at.offset)
            moves.append(OffsetMove(partition.topic, partition.partition, before, after, ends[partition]))
        await _commit(consumer, moves, agent)
    return tuple(moves)


async def skip(settings: KafkaSettings, agent: str, topic: str, partition: int, records: int) -> OffsetMove:
    """Have an agent continue some records later in one partition, and at its end at most.

    Args:
        settings: the broker.
        agent: the agent's name. It must be stopped.
        topic: the full name.
        partition: its number.
        records: how many, from 1 to `MAX_SKIPPED`.

    Raises:
        RequestRefused: it has read nothing of that partition (`agent_unknown`), or it runs (`agent_running`).
        BrokerUnavailable: the broker does not answer.
    """
    if not 1 <= records <= MAX_SKIPPED:
        raise RequestRefused(f"from 1 to {MAX_SKIPPED} records can be skipped at once", code="option_invalid")
    async with _group(settings, agent) as consumer:
        chosen = TopicPartition(topic, partition)
        before = (await _committed(consumer, settings, agent)).get(chosen)
        if before is None:
            raise _unknown(agent, f"in {topic}, partition {partition}")
        with translated():
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                end = (await consumer.end_offsets([chosen]))[chosen]
        move = OffsetMove(topic, partition, before, min(before + records, end), end)
        await _commit(consumer, [move], agent)
    return move


@asynccontextmanager
async def _group(settings: KafkaSettings, agent: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Speak for the agent's group without joining it."""
    consumer = AIOKafkaConsumer(
        group_id=settings.topic_prefix + agent,
        enable_auto_commit=False,
        request_timeout_ms=int(REQUEST_TIMEOUT_SECONDS * 1_000),
        **connection_options(settings, client=f"operator-{agent}"),
    )
    try:
        async with connecting(settings), asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
            await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def _committed(consumer: AIOKafkaConsumer, settings: KafkaSettings, agent: str) -> dict[TopicPartition, int]:
    """Return where the group continues in each partition that it has read; the consumer is theirs afterwards."""
    async with opened_client(settings, client=f"operator-{agent}") as client:
        topics = await describe_topics(client, [full_name(settings, topic) for topic in EVENT_TOPICS])
    ready = [topic for topic in topics if topic.state is TopicState.READY]
    partitions = [TopicPartition(topic.name, number) for topic in ready for number in range(topic.partitions)]
    consumer.assign(partitions)
    with translated():
        async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
            found = {partition: await consumer.committed(partition) for partition in partitions}
    committed = {partition: offset for partition, offset in found.items() if offset is not None}
    if not committed:
        raise _unknown(agent, "anywhere")
    return committed


async def _commit(consumer: AIOKafkaConsumer, moves: Sequence[OffsetMove], agent: str) -> None:
    offsets = {
        TopicPartition(move.topic, move.partition): OffsetAndMetadata(move.after, "")
        for move in moves
        if move.after != move.before
    }
    if not offsets:
        return
    try:
        with translated():
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                await consumer.commit(offsets)
    except BrokerUnavailable as error:
        if error.reason not in _GROUP_HAS_MEMBERS:
            raise
        raise RequestRefused(
            f"agent {agent} runs, and would overwrite where it continues",
            code="agent_running",
            remedy="Stop every process that runs it, and wait until they have left; then try again.",
        ) from None


def _unknown(agent: str, where: str) -> RequestRefused:
    return RequestRefused(
        f"no agent {agent} has read anything {where}",
        code="agent_unknown",
        remedy='Give the agent\'s name, as in Agent("crm"). `slotwire agents list MODULE:AGENT` shows it.',
    )
