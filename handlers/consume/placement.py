"""Where a new agent begins: resolved once to offsets, committed for every partition before the first record is read.

From then on Kafka says where the agent continues. Where Kafka has forgotten it, because the group was without a member
for longer than the broker keeps offsets, or because the records are gone, the agent holds: a silent jump to the oldest
or the newest record would repeat or lose events.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg
from aiokafka import TopicPartition

from slotwire.handlers.consume.groups import GroupHasMembers, commit, read_committed, resolve, speaking_for
from slotwire.handlers.policy import Start
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import BrokerUnavailable
from slotwire.ingest.foundation.kafka import TopicDescription
from slotwire.ingest.foundation.postgres import read_queries, translated
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.ingest.foundation.telemetry import get_logger

_QUERIES = read_queries("slotwire.handlers.sql", "inbox.sql")
OFFSETS_LOST = "offsets_lost"
"""Why an agent holds whose place Kafka does not know, or does not have records for, any more."""

_log = get_logger("placement")


def offsets_lost(agent: str, topic: str, what: str) -> BrokerUnavailable:
    """Make the error of an agent that cannot continue where it was."""
    return BrokerUnavailable(
        f"{what} in {topic}: the agent does not choose another place by itself",
        reason=OFFSETS_LOST,
        remedy=f"Choose one: slotwire agents rewind {agent} --topic {topic} --to TIME\n"
        "  docs/runbooks/agent-stopped.md says what each choice repeats or leaves out.",
    )


async def place(
    kafka: KafkaSettings,
    pool: asyncpg.Pool[asyncpg.Record],
    *,
    agent: str,
    group: str,
    topics: Sequence[TopicDescription],
    start: Start,
    clock: Clock,
) -> None:
    """Have an agent that is new in a topic begin there, and check that one that is not can continue.

    Args:
        kafka: the broker.
        pool: the database, which remembers where an agent has begun.
        agent: its name.
        group: its consumer group.
        topics: those it reads, all of them ready.
        start: where it begins.
        clock: for what is remembered.

    Raises:
        BrokerUnavailable: the broker does not answer, or has lost the agent's place (`offsets_lost`).
        DatabaseUnavailable: Postgres is away.
    """
    with translated():
        rows = await pool.fetch(_QUERIES["begun"], agent, [topic.name for topic in topics])
    begun = {row["topic"] for row in rows}
    async with speaking_for(kafka, group, client=f"agent-{agent}") as consumer:
        for topic in topics:
            partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
            known = await read_committed(consumer, partitions)
            lacking = [each for each in partitions if each not in known]
            if lacking and topic.name in begun:
                raise offsets_lost(agent, topic.name, f"Kafka has forgotten where {len(lacking)} partitions continue")
            begins = await resolve(consumer, list(known), "earliest")
            if gone := [each for each, offset in known.items() if offset < begins[each]]:
                what = f"the records that come next in {len(gone)} partitions are gone, older than Kafka keeps them,"
                raise offsets_lost(agent, topic.name, what)
            if lacking:
                # An agent of a version that remembered nothing began at the oldest record.
                offsets = await resolve(consumer, lacking, "earliest" if known else start)
                try:
                    await commit(consumer, offsets)
                except GroupHasMembers:
                    raise BrokerUnavailable(
                        f"another member of {group} joins now", reason="joining", remedy="It is waited for."
                    ) from None
                _log.info("agent_begins", agent=agent, topic=topic.name, start=_said(start))
            if topic.name not in begun:
                with translated():
                    await pool.execute(_QUERIES["begin"], agent, topic.name, _said(start), clock.now())


def _said(start: Start) -> str:
    return start.isoformat() if isinstance(start, datetime) else start
