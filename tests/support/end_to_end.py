"""The whole flow, from Calendly to an agent: the simulator in this process, each process of ours as a child."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
from confluent_kafka import Consumer

from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from slotwire.ingest.simulator.sender import DeliveryPolicy
from tests.support.children import Process, environment, free_port, process
from tests.support.command import slotwire
from tests.support.owner import owner_rows
from tests.support.plain_http import NO_TLS
from tests.support.public_endpoint import settings_for
from tests.support.simulated_calendly import AMPLE

RETRIES = DeliveryPolicy(first_retry_seconds=0.2, factor=1.5, max_retry_seconds=1.0)
"""Calendly's intervals are not known; a test must not wait for long ones."""
LEDGER = "CREATE TABLE public.ledger (event_id uuid, key text, sequence bigint, number bigserial)"


@dataclass(frozen=True)
class EndToEnd:
    """The running flow.

    Attributes:
        env: the settings that all its processes share; any command works with them.
    """

    simulator: Simulator
    serve: Process
    relay: Process
    agent: Process
    env: dict[str, str]
    database: Database
    topic_prefix: str
    client: httpx.AsyncClient
    settings: Settings

    async def simulate(self, verb: str, **body: Any) -> Any:
        """Make something happen at the simulated Calendly."""
        answer = await self.client.post(f"{self.simulator.url}/simulator/{verb}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database as its owner."""
        return await owner_rows(self.database, query, *arguments)


@asynccontextmanager
async def end_to_end(stack: Stack, database: Database, topic_prefix: str, **extra: str) -> AsyncIterator[EndToEnd]:
    """Migrate, subscribe the simulator's organization by the command, and run every process; `extra` are settings."""
    port = free_port()
    settings = settings_for(database).model_copy(update={"public_url": f"http://127.0.0.1:{port}"})
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(f"{LEDGER}; GRANT ALL ON public.ledger, public.ledger_number_seq TO slotwire_agents")
    await owner.close()
    async with AsyncExitStack() as running:
        world = await running.enter_async_context(simulator(Options(policy=RETRIES, rate_limit=AMPLE)))
        env = environment(
            settings,
            SLOTWIRE_HTTP__PORT=str(port),
            SLOTWIRE_MIGRATE__DATABASE_URL=database.owner_url,
            SLOTWIRE_CALENDLY__API_URL=world.url,
            SLOTWIRE_CALENDLY__ASSUMED_CALLS_PER_MINUTE=str(AMPLE),
            SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS=stack.kafka_bootstrap_servers,
            SLOTWIRE_KAFKA__TOPIC_PREFIX=topic_prefix,
            SLOTWIRE_KAFKA__PARTITIONS="4",
            SLOTWIRE_KAFKA__REPLICATION_FACTOR="1",
            SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS="1",
            SLOTWIRE_AGENTS__GROUP_INSTANCE_ID="ledger",
            **extra,
        )
        migrated = await slotwire("migrate", env=env)
        assert migrated.code == 0, migrated.stderr
        await _subscribe(world, env)
        serve = await running.enter_async_context(process("serve", env=env))
        relay = await running.enter_async_context(process("relay", env=env))
        agent = await running.enter_async_context(process("agents", "run", "tests.support.ledger_agent:agent", env=env))
        client = await running.enter_async_context(httpx.AsyncClient(timeout=60, verify=NO_TLS))
        for each in (serve, relay, agent):
            await each.until_ready()
        yield EndToEnd(world, serve, relay, agent, env, database, topic_prefix, client, settings)


async def _subscribe(world: Simulator, env: dict[str, str]) -> None:
    subscribed = await slotwire("organizations", "add", "--token-file", "-", env=env, stdin=world.owner_token)
    assert subscribed.code == 0, subscribed.stderr


@dataclass(frozen=True)
class ReadRecord:
    """A record as a client that is not ours sees it."""

    key: str
    partition: int
    offset: int
    headers: dict[str, str]
    value: bytes


def committed_records(bootstrap: str, topic: str, count: int, *, seconds: float = 90) -> list[ReadRecord]:
    """Read a topic from its beginning with librdkafka, committed records only.

    Returns when `count` records came and every partition is at its end, or when the time is over.
    """
    ended: set[int] = set()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"independent-{topic}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    partitions = len(consumer.list_topics(topic, timeout=seconds).topics[topic].partitions)
    consumer.subscribe([topic])
    found: list[ReadRecord] = []
    try:
        idle = 0.0
        while (len(found) < count or len(ended) < partitions) and idle < seconds:
            message = consumer.poll(0.2)
            if message is None:
                idle += 0.2
                continue
            idle = 0.0
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            if message.error():
                ended.add(partition)
                continue
            assert offset is not None
            ended.discard(partition)
            headers = {str(name): _text(value) for name, value in dict(message.headers() or ()).items()}
            found.append(ReadRecord(_text(message.key()), partition, offset, headers, message.value() or b""))
    finally:
        consumer.close()
    return found


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
