"""The composition root of the agents' process: what it opens, in which order, and how it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from slotwire.handlers import dead_letters
from slotwire.handlers.consume import Member, Membership
from slotwire.handlers.dead_letters import KafkaDeadLetters
from slotwire.handlers.handle import HOLD, Handling
from slotwire.handlers.inbox import PostgresInbox
from slotwire.handlers.problems import Problems
from slotwire.handlers.registry import Agent, group_name
from slotwire.ingest.foundation.clock import Clock, SystemClock
from slotwire.ingest.foundation.errors import BrokerUnavailable, DatabaseUnavailable, SchemaMismatch, SlotwireError
from slotwire.ingest.foundation.health import Health, serving_health
from slotwire.ingest.foundation.kafka import connection_options, full_name, opened_client, require_topics
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import get_logger

_NOBODY = UUID(int=0)
"""An event that is never there: asking for it shows that the inbox is."""


async def run_agents(agents: Sequence[Agent], settings: Settings, stop: asyncio.Event) -> None:
    """Run agents side by side until a stop is asked for.

    Raises:
        ConfigurationError: an address is missing or cannot be read, or the health port is in use.
    """
    health, clock = Health(), SystemClock()
    log = get_logger("agents")
    async with create_pool(settings.database_url.get_secret_value(), settings.database, application="agents") as pool:
        runners = [AgentRunner(agent, settings, pool, clock) for agent in agents]
        for runner in runners:
            health.add(f"agent {runner.agent.name}", runner.problems.check)
        async with serving_health(health, settings.health) as address:
            log.info("agents_started", agents=[agent.name for agent in agents], health=address)
            async with asyncio.TaskGroup() as group:
                for runner in runners:
                    group.create_task(_lasting(runner, stop), name=f"agent {runner.agent.name}")
                group.create_task(_drain(health, stop))
    log.info("agents_stopped")


async def _lasting(runner: AgentRunner, stop: asyncio.Event) -> None:
    """Run an agent; one that ends by itself ends the process, or nobody would notice.

    A TaskGroup takes a task that was cancelled from inside, by a library, as well ended.
    """
    try:
        await runner.run(stop)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
    if not stop.is_set():
        raise SlotwireError(f"agent {runner.agent.name} ended by itself", remedy="Restart it; this is a defect.")


async def _drain(health: Health, stop: asyncio.Event) -> None:
    await stop.wait()
    health.draining = True


class AgentRunner:
    """Keeps one agent a member of its group, whatever goes away and comes back.

    Making one raises ConfigurationError when no broker is named or its settings cannot be used.

    Attributes:
        agent: the agent.
        problems: what keeps it from working now.
        membership: which group, for which topics.
    """

    def __init__(self, agent: Agent, settings: Settings, pool: asyncpg.Pool[asyncpg.Record], clock: Clock) -> None:
        self.agent = agent
        self.problems = Problems(agent.name, get_logger("agents").bind(agent=agent.name))
        self.problems.begin("joining", "is joining its consumer group", quiet=True)
        self.membership = Membership(
            agent=agent.name,
            group=group_name(settings.kafka.topic_prefix, agent),
            topics=tuple(full_name(settings.kafka, topic) for topic in agent.topics),
        )
        connection_options(settings.kafka, client=agent.name)  # a setting that is wrong ends the process at once
        self._settings = settings
        self._dead_letters = KafkaDeadLetters(settings.kafka, agent=agent.name, clock=clock)
        self._inbox = PostgresInbox(pool, agent=agent.name, clock=clock)
        self._handling = Handling(
            agent,
            inbox=self._inbox,
            dead_letters=self._dead_letters,
            problems=self.problems,
            clock=clock,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until a stop is asked for; a halted agent holds, not ready, so that its alarm is seen."""
        failures = 0
        try:
            while not stop.is_set() and not self._handling.halted.is_set():
                try:
                    await self.run_once(stop)
                    failures = 0
                except (BrokerUnavailable, DatabaseUnavailable, SchemaMismatch) as error:
                    self.problems.begin("kafka" if isinstance(error, BrokerUnavailable) else "postgres", error)
                    failures += 1
                    await wait_for(stop, HOLD.pause(failures, random.random()))  # noqa: S311 - a pause, no secret
            await stop.wait()
        finally:
            await self._dead_letters.close()

    async def run_once(self, stop: asyncio.Event) -> None:
        """Check the inbox and the topics, then be a member once, until a stop or the limit of dead letters.

        Raises:
            DatabaseUnavailable: Postgres is away: partitions would only wait here.
            SchemaMismatch: `slotwire migrate` has to run first.
            TopicUnavailable: a topic it needs is missing or forbidden.
            BrokerUnavailable: the broker is away, or the membership was lost.
        """
        await self._inbox.seen(_NOBODY)
        self.problems.end("postgres")
        kafka = self._settings.kafka
        async with opened_client(kafka, client=f"agent-{self.agent.name}") as client:
            await require_topics(client, self.membership.topics)
        await dead_letters.ensure_topics(kafka, self.agent.name, self.membership.topics)
        member = Member(self.membership, kafka, self._settings.agents, self._handling.handle, self.problems)
        await member.run(stop, self._handling.halted)
