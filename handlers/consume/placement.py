"""Where a new agent begins: decided once for every partition of a topic, and committed before the first record is read.

What was decided first stays, in Postgres: whoever is assigned a partition of which the group has no offset commits that
one, as a member of the group. From then on Kafka says where the agent continues. Where Kafka has forgotten it, because
the group was without a member for longer than the broker keeps offsets, or because the records are gone, the agent
holds: a silent jump to the oldest or the newest record would repeat or lose events.

In the same row is the process that works there, so that the next one finds out that it has died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from slotwire.handlers.consume.groups import read_committed, resolve, speaking_for
from slotwire.handlers.policy import Start
from slotwire.handlers.records import Partition
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import BrokerUnavailable, SlotwireError
from slotwire.ingest.foundation.kafka import TopicDescription
from slotwire.ingest.foundation.postgres import read_queries, translated
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.ingest.foundation.telemetry import get_logger

_QUERIES = read_queries("slotwire.handlers.sql", "starts.sql")
OFFSETS_LOST = "offsets_lost"
"""Why an agent holds whose place Kafka does not know, or does not have records for, any more."""
UNDECIDED = "undecided"
"""Why a member leaves that was assigned a partition of which nobody has decided where the agent begins."""

LEAVE_SECONDS = 1.0
"""How long it may take to note that this process works on nothing. Where that fails, the next one takes it for dead."""


def offsets_lost(agent: str, topic: str, what: str) -> BrokerUnavailable:
    """Make the error of an agent that cannot continue where it was."""
    return BrokerUnavailable(
        f"{what} in {topic}: the agent does not choose another place by itself",
        reason=OFFSETS_LOST,
        remedy=f"Choose one: slotwire agents rewind {agent} --topic {topic} --to TIME\n"
        "  docs/runbooks/offsets-lost.md says what each choice repeats or leaves out.",
    )


class Placement:
    """Where one agent begins, and whether it has."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        agent: str,
        group: str,
        start: Start,
        clock: Clock,
        process: UUID,
    ) -> None:
        """Take what is needed.

        Args:
            pool: the database, which keeps where it begins.
            agent: its name.
            group: its consumer group.
            start: where it begins in a topic that is new to it.
            clock: for what is kept.
            process: this one.
        """
        self._pool = pool
        self._agent = agent
        self._group = group
        self._start: Start = start
        self._clock = clock
        self._process = process
        self._noting = asyncio.Lock()
        self._ours: set[Partition] = set()
        self._died: dict[Partition, UUID] = {}
        self._log = get_logger("placement").bind(agent=agent)

    async def decide(self, kafka: KafkaSettings, topics: Sequence[TopicDescription]) -> None:
        """Decide where the agent begins in what is new to it, and check that it can continue in everything else.

        Args:
            kafka: the broker.
            topics: those it reads, all of them ready.

        Raises:
            BrokerUnavailable: the broker does not answer, or has lost the agent's place (`offsets_lost`).
            DatabaseUnavailable: Postgres is away.
        """
        # Before the committed offsets are read: then each that Postgres says was committed is among them.
        names = [topic.name for topic in topics]
        with translated():
            rows = await self._pool.fetch(_QUERIES["starts"], self._agent, names)
        decided: dict[str, dict[int, bool]] = {}
        for row in rows:
            decided.setdefault(row["topic"], {})[row["partition"]] = row["begun"]
        async with speaking_for(kafka, self._group, client=f"agent-{self._agent}") as consumer:
            for topic in topics:
                await self._decide(consumer, topic, decided.get(topic.name, {}))

    async def _decide(self, consumer: AIOKafkaConsumer, topic: TopicDescription, decided: Mapping[int, bool]) -> None:
        """Decide for one topic.

        Args:
            consumer: asks for the group.
            topic: which.
            decided: the partitions that were decided before, and whether the agent has begun there.
        """
        places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        known = await read_committed(consumer, places)
        lacking = [each for each in places if each not in known]
        if lost := [each for each in lacking if decided.get(each.partition)]:
            raise offsets_lost(self._agent, topic.name, f"Kafka has forgotten where {len(lost)} partitions continue")
        begins = await resolve(consumer, list(known), "earliest")
        if gone := [each for each, offset in known.items() if offset < begins[each]]:
            what = f"the records that come next in {len(gone)} partitions are gone, older than Kafka keeps them,"
            raise offsets_lost(self._agent, topic.name, what)
        if new := [each for each in places if each.partition not in decided]:
            # A partition that was added to the topic has nothing older than the agent's start. And an agent of a
            # version that remembered nothing began at the oldest record.
            start: Start = "earliest" if known or decided else self._start
            found = await resolve(consumer, lacking, start)
            await self._keep(topic.name, {each: {**known, **found}[each] for each in new}, begun=known)

    async def _keep(
        self, topic: str, offsets: Mapping[TopicPartition, int], *, begun: Collection[TopicPartition]
    ) -> None:
        places = [each.partition for each in offsets], list(offsets.values()), [each in begun for each in offsets]
        with translated():
            await self._pool.execute(_QUERIES["decide"], self._agent, topic, self._clock.now(), *places)

    async def starts(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return where the agent begins in partitions of which its group has no offset.

        Raises:
            BrokerUnavailable: it has begun there, or nothing is decided (`undecided`): `decide` says which, or decides.
            DatabaseUnavailable: Postgres is away.
        """
        if not partitions:
            return {}
        with translated():
            rows = await self._pool.fetch(_QUERIES["starts"], self._agent, list({each.topic for each in partitions}))
        found = {Partition(row["topic"], row["partition"]): row["start_offset"] for row in rows if not row["begun"]}
        if not found.keys() >= set(partitions):
            raise BrokerUnavailable("the place of a partition has to be decided first", reason=UNDECIDED)
        return {each: found[each] for each in partitions}

    async def begin(self, partitions: Collection[Partition]) -> Mapping[Partition, UUID]:
        """Note that this process works on partitions, of which the group has an offset: they have a place from now on.

        Returns:
            The process that worked there before and has died, of each partition of which one has.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        with translated():
            topics, numbers = [each.topic for each in partitions], [each.number for each in partitions]
            about = (self._agent, topics, numbers, self._clock.now(), self._process)
            async with self._noting:
                rows = await self._pool.fetch(_QUERIES["begin"], *about)
        for topic in sorted({row["topic"] for row in rows if row["begins"]}):
            self._log.info("agent_begins", topic=topic, start=_said(self._start))
        left = {Partition(row["topic"], row["partition"]): row["process"] for row in rows}
        self._ours.update(left)
        self._died.update({each: of for each, of in left.items() if of is not None and of != self._process})
        return {each: self._died[each] for each in partitions if each in self._died}

    async def hold(self, partitions: Collection[Partition]) -> None:
        """Note again that this process works on partitions, if it has said since that it does on none."""
        if not self._ours >= set(partitions):
            await self.begin(partitions)

    async def leave(self, passed: Collection[Partition] = ()) -> None:
        """Note that this process works on nothing of the agent, so that nobody takes it for dead.

        Args:
            passed: partitions in which nothing is left of what a process that died there may have had in work. Of any
                other one the next process finds that one's name.
        """
        died = {each: process for each, process in self._died.items() if each not in passed}
        columns = [each.topic for each in died], [each.number for each in died], list(died.values())
        with suppress(SlotwireError, TimeoutError), translated():
            async with asyncio.timeout(LEAVE_SECONDS), self._noting:
                await self._pool.execute(_QUERIES["leave"], self._agent, self._process, *columns)
        self._ours.clear()
        self._died.clear()


def _said(start: Start) -> str:
    return start.isoformat() if isinstance(start, datetime) else start
