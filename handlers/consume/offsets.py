"""Where a stopped agent's group continues reading: moved back in time, or past a record.

Only offsets move. What the inbox has as done is skipped when it is read again; what was given up runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from slotwire.handlers.consume.groups import read_committed, resolve, speaking_for
from slotwire.ingest.foundation.errors import BrokerUnavailable, RequestRefused
from slotwire.ingest.foundation.kafka import (
    REQUEST_TIMEOUT_SECONDS,
    TopicState,
    describe_topics,
    full_name,
    opened_client,
    translated,
)
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.schemas.topics import EVENT_TOPICS

MAX_SKIPPED = 10_000
"""Records that one call skips at most: a damaged batch holds fewer."""
_GROUP_HAS_MEMBERS = frozenset({"commit_failed", "unknown_member_id", "illegal_generation"})
"""Why a broker refuses offsets from somebody who is no member: it takes them only while the group has none."""


@dataclass(frozen=True, slots=True)
class OffsetMove:
    """Where a group continues in one partition.

    Attributes:
        topic: the full name.
        partition: its number.
        before: the offset it would have continued at; None where Kafka did not know it.
        after: the offset it continues at now.
        end: the offset of the next record that is written.
    """

    topic: str
    partition: int
    before: int | None
    after: int
    end: int


async def rewind(
    settings: KafkaSettings, agent: str, to: datetime, *, topic: str | None = None
) -> tuple[OffsetMove, ...]:
    """Have an agent continue at the first records at or after a time, where it is past them.

    Where Kafka does not know any more where it continues, or has no records from there on, it continues there too.

    Args:
        settings: the broker.
        agent: the agent's name. It must be stopped.
        to: a time with a zone.
        topic: the full name of the only topic to move in; all its partitions are placed. None for all topics that
            the agent has read, and of those the partitions it has read.

    Returns:
        Each of these partitions, moved or not.

    Raises:
        RequestRefused: it has read nothing (`agent_unknown`), or it runs (`agent_running`).
        BrokerUnavailable: the broker does not answer.
    """
    async with _group(settings, agent) as consumer:
        partitions = await _partitions(settings, agent, topic)
        committed = await read_committed(consumer, partitions)
        chosen = list(committed) if topic is None else partitions
        if not chosen:
            raise _unknown(agent, "anywhere" if topic is None else f"in {topic}")
        begins, ends = await resolve(consumer, chosen, "earliest"), await resolve(consumer, chosen, "latest")
        found = await resolve(consumer, chosen, to)
        moves = []
        for each in chosen:
            before = committed.get(each)
            lost = before is None or before < begins[each]
            after = found[each] if lost or before is None else min(before, found[each])
            moves.append(OffsetMove(each.topic, each.partition, before, after, ends[each]))
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
        exists = chosen in await _partitions(settings, agent, topic)
        before = (await read_committed(consumer, [chosen])).get(chosen) if exists else None
        if before is None:
            raise _unknown(agent, f"in {topic}, partition {partition}")
        end = (await resolve(consumer, [chosen], "latest"))[chosen]
        move = OffsetMove(topic, partition, before, max(before, min(before + records, end)), end)
        await _commit(consumer, [move], agent)
    return move


def _group(settings: KafkaSettings, agent: str) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
    return speaking_for(settings, settings.topic_prefix + agent, client=f"operator-{agent}")


async def _partitions(settings: KafkaSettings, agent: str, topic: str | None) -> list[TopicPartition]:
    """Return the partitions of one topic of events, or of all."""
    names = [full_name(settings, each) for each in EVENT_TOPICS]
    wanted = [name for name in names if topic in {None, name}]
    if not wanted:
        raise RequestRefused(
            f"{topic} is no topic of events", code="option_invalid", remedy=f"Give one of: {', '.join(names)}."
        )
    async with opened_client(settings, client=f"operator-{agent}") as client:
        topics = await describe_topics(client, wanted)
    ready = [each for each in topics if each.state is TopicState.READY]
    return [TopicPartition(each.name, number) for each in ready for number in range(each.partitions)]


async def _commit(consumer: AIOKafkaConsumer, moves: Sequence[OffsetMove], agent: str) -> None:
    moved = {
        TopicPartition(each.topic, each.partition): OffsetAndMetadata(each.after, "")
        for each in moves
        if each.after != each.before
    }
    if not moved:
        return
    try:
        with translated():
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                await consumer.commit(moved)
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
