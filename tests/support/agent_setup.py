"""What tests of agents need: topics of their own, a publisher, a table of effects, members to start and stop."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from pydantic import SecretStr

from slotwire.handlers.context import Context
from slotwire.handlers.process import AgentRunner
from slotwire.handlers.registry import Agent
from slotwire.handlers.settle.ledger import read_settled
from slotwire.handlers.testing import event_of, record_of
from slotwire.ingest.foundation.agents_settings import AgentsSettings
from slotwire.ingest.foundation.clock import Clock, SystemClock
from slotwire.ingest.foundation.kafka import full_name
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import (
    DatabaseSettings,
    HealthSettings,
    KafkaSettings,
    Settings,
)
from slotwire.ingest.foundation.topic_admin import ensure_topics
from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import BookingState, InviteeCreated
from slotwire.schemas.topics import INVITEE

TIMEOUT_SECONDS = 60.0
"""A guard against hanging: nothing that is waited for takes so long, on a machine that has other work, too."""
EFFECTS_TABLE = (
    "CREATE TABLE effects (n bigserial, event_id uuid, key text, sequence int); GRANT ALL ON effects TO PUBLIC;"
)
EFFECTS_SEQUENCE = "GRANT USAGE ON SEQUENCE effects_n_seq TO PUBLIC"
NOTE_EFFECT = "INSERT INTO effects (event_id, key, sequence) VALUES ($1, $2, $3)"


def invitee_created(key: str, sequence: int) -> Event[InviteeCreated]:
    """Make an event of a chain."""
    uri = f"https://api.calendly.com/scheduled_events/E/invitees/{key}"
    state = BookingState(state="active", revision=sequence, chain_root=uri)
    return event_of(InviteeCreated(uri=uri, booking=state), key=key, sequence=sequence)


def ledger_agent(name: str = "ledger", *, pause: random.Random | None = None) -> Agent:
    """Make an agent that writes each event to the ledger of effects, in the event's transaction; it may pause there."""
    agent = Agent(name)

    @agent.on(InviteeCreated)
    async def note(event: Event[InviteeCreated], ctx: Context) -> None:
        async with ctx.transaction() as connection:
            await connection.execute(NOTE_EFFECT, event.id, event.key, event.sequence)
            if pause is not None:
                await connection.execute("SELECT pg_sleep($1)", pause.uniform(0, 0.02))

    return agent


@dataclass
class AgentSetup:
    """Settings, topics and a pool for the agents of one test.

    Attributes:
        settings: with a database and topics of the test's own.
        pool: connections of the runtime role.
    """

    settings: Settings
    pool: asyncpg.Pool[asyncpg.Record]

    @property
    def topic(self) -> str:
        """The full name of the invitees' topic."""
        return full_name(self.settings.kafka, INVITEE)

    async def publish(self, *events: Event[Any], batch: int = 50, topic: str | None = None) -> None:
        """Write events as the relay does: in transactions, whose markers take offsets; default topic: the invitees'."""
        async with transactional(self.settings.kafka.bootstrap_servers) as producer:
            for start in range(0, len(events), batch):
                async with producer.transaction():
                    for event in events[start : start + batch]:
                        record = record_of(event)
                        to = topic or self.topic
                        await producer.send(to, record.value, record.key, headers=list(record.headers))

    def runner(
        self, agent: Agent, *, instance: str | None = None, clock: Clock | None = None, **limits: Any
    ) -> AgentRunner:
        """Make a member; `limits` are fields of the membership. It commits behind a transaction's marker at once."""
        agents = self.settings.agents.model_copy(update={"group_instance_id": instance})
        settings = self.settings.model_copy(update={"agents": agents})
        runner = AgentRunner(agent, settings, self.pool, clock or SystemClock())
        runner.membership = replace(runner.membership, **{"interval": 0.2, **limits})
        return runner

    def environment(self) -> dict[str, str]:
        """Write the settings as a child process takes them; its members are called `child`."""
        kafka = self.settings.kafka
        return {
            "PATH": os.defpath,
            "SLOTWIRE_DATABASE_URL": self.settings.database_url.get_secret_value(),
            "SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "SLOTWIRE_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
            "SLOTWIRE_KAFKA__PARTITIONS": str(kafka.partitions),
            "SLOTWIRE_KAFKA__REPLICATION_FACTOR": "1",
            "SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS": "1",
            "SLOTWIRE_AGENTS__GROUP_INSTANCE_ID": "child",
            "SLOTWIRE_HEALTH__PORT": "0",
        }

    async def effects(self) -> list[asyncpg.Record]:
        """Read the ledger of effects, in the order they were committed to it."""
        return await self.pool.fetch("SELECT event_id, key, sequence FROM effects ORDER BY n")

    async def settle(self, events: Collection[Event[Any]]) -> None:
        """Wait until all these events are marked as done; TIMEOUT_SECONDS without a further one is too long."""
        left = len(events)
        while left:
            before = left

            async def fewer(before: int = before) -> bool:
                return len(events) - len(await self.inbox()) < before

            await until(fewer)
            left = len(events) - len(await self.inbox())

    async def inbox(self) -> set[UUID]:
        """Read which events are marked as done."""
        return {row["event_id"] for row in await self.pool.fetch("SELECT event_id FROM slotwire.inbox")}

    async def committed(self, group: str) -> dict[int, int]:
        """Read a group's committed offsets of the invitees' topic, by partition."""
        async with reading(self.settings.kafka.bootstrap_servers, group=group) as consumer:
            found = {}
            for number in range(self.settings.kafka.partitions):
                offset = await consumer.committed(TopicPartition(self.topic, number))
                if offset is not None:
                    found[number] = offset
            return found

    async def settled_behind(self, group: str) -> set[int]:
        """Read which offsets are settled behind those that a group has committed, of all partitions."""
        async with reading(self.settings.kafka.bootstrap_servers, group=group) as consumer:
            places = [TopicPartition(self.topic, number) for number in range(self.settings.kafka.partitions)]
            found = await consumer._coordinator.fetch_committed_offsets(places)
            return {each for at in found.values() for each in read_settled(at.offset, at.metadata)}

    async def ends(self) -> dict[int, int]:
        """Read the last stable offset of each partition of the invitees' topic."""
        async with reading(self.settings.kafka.bootstrap_servers) as consumer:
            places = [TopicPartition(self.topic, number) for number in range(self.settings.kafka.partitions)]
            return {place.partition: offset for place, offset in (await consumer.end_offsets(places)).items()}

    async def dead_letters(self, agent: str, count: int, *, topic: str | None = None) -> list[ConsumerRecord]:
        """Read so many dead letters of an agent, waiting for them; of a topic without prefix, default the invitees'."""
        of = self.topic if topic is None else self.settings.kafka.topic_prefix + topic
        async with reading(self.settings.kafka.bootstrap_servers) as consumer:
            consumer.assign([TopicPartition(f"{of}.{agent}.dlq", 0)])
            await consumer.seek_to_beginning()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return [await consumer.getone() for _ in range(count)]


@asynccontextmanager
async def agent_setup(
    database: Database, bootstrap: str, prefix: str, *, partitions: int = 4
) -> AsyncIterator[AgentSetup]:
    """Make the topics and the ledger, and open the pool."""
    settings = Settings(
        database_url=SecretStr(database.runtime_url),
        kafka=KafkaSettings(
            bootstrap_servers=bootstrap,
            topic_prefix=prefix,
            partitions=partitions,
            replication_factor=1,
            min_insync_replicas=1,
        ),
        agents=AgentsSettings(session_timeout_seconds=6, stop_grace_seconds=2),
        database=DatabaseSettings(pool_size=8),
        health=HealthSettings(port=0),
    )
    await ensure_topics(settings.kafka)
    owner = await asyncpg.connect(database.owner_url)
    try:
        await owner.execute(EFFECTS_TABLE)
        await owner.execute(EFFECTS_SEQUENCE)
    finally:
        await owner.close()
    async with create_pool(database.runtime_url, settings.database, application="test") as pool:
        yield AgentSetup(settings, pool)


@asynccontextmanager
async def running_agents(*runners: AgentRunner) -> AsyncIterator[asyncio.Event]:
    """Run members while the block runs; yields the event that stops them, which its end sets."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for runner in runners:
            group.create_task(runner.run(stop))
        try:
            yield stop
        finally:
            stop.set()


@asynccontextmanager
async def transactional(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    """Open a transactional producer."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=secrets.token_hex(8))
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def reading(bootstrap: str, *, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer that belongs to no group, or asks about one without joining it."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def until(condition: Callable[[], Any], *, seconds: float = TIMEOUT_SECONDS) -> None:
    """Wait until a condition holds, asked every few milliseconds; it may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return
            await asyncio.sleep(0.01)


async def run_ready_tasks() -> None:
    """Let everything that is ready run once."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_soon(passed.set)
    await passed.wait()


def one_effect_each(effects: Iterable[asyncpg.Record], events: Iterable[Event[Any]]) -> bool:
    """Say whether every event has exactly one effect, and nothing else has."""
    return sorted(row["event_id"] for row in effects) == sorted(event.id for event in events)


def in_order(effects: Iterable[asyncpg.Record]) -> bool:
    """Say whether the effects of every key came in the order of its events."""
    last: dict[str, int] = {}
    for row in effects:
        if row["sequence"] <= last.get(row["key"], 0):
            return False
        last[row["key"]] = row["sequence"]
    return True
