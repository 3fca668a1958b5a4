"""The composition root of `slotwire agents run`: it opens the pool and the health port, and runs the agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg

from slotwire.handlers.author.shown_runs import ShownRuns
from slotwire.handlers.author.tables import require_tables
from slotwire.handlers.consume.member import Member
from slotwire.handlers.consume.membership import Membership
from slotwire.handlers.consume.placement import OFFSETS_LOST, Placement
from slotwire.handlers.dispatch.careful import ProcessLife
from slotwire.handlers.dispatch.due import DueRuns
from slotwire.handlers.dispatch.handle import Handling
from slotwire.handlers.dispatch.queueing import Queueing
from slotwire.handlers.dispatch.runs import Runs
from slotwire.handlers.firings import firing_partition
from slotwire.handlers.hooks import StartFailed, held
from slotwire.handlers.long_work.postgres_journal import PostgresJournal
from slotwire.handlers.patience import OUTAGE_RETRY, drawn
from slotwire.handlers.problems import OF_EVENTS, OF_FIRINGS, Outages, Problems
from slotwire.handlers.reach.calendly import ControlledCalls
from slotwire.handlers.reach.chains import PostgresChains
from slotwire.handlers.registry import Agent, group_name
from slotwire.handlers.schedule.fire import FiringLoop
from slotwire.handlers.schedule.schedule_store import ScheduleStore
from slotwire.handlers.settle import dead_letters
from slotwire.handlers.settle.agent_queue import PostgresQueue
from slotwire.handlers.settle.dead_letters import KafkaDeadLetters
from slotwire.handlers.settle.inbox import PostgresInbox
from slotwire.handlers.settle.letters import KeptLetters
from slotwire.handlers.settle.noted_runs import NotedRuns
from slotwire.handlers.shipped.agent import ShippedAgent, Stores
from slotwire.handlers.shipped.settings import PostgresSettings
from slotwire.ingest.foundation.agent_metrics import CONSUMER_OFFSETS_LOST
from slotwire.ingest.foundation.agent_settings import settings_keys
from slotwire.ingest.foundation.clock import Clock, clock_of
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import BrokerUnavailable, DatabaseUnavailable, SchemaMismatch, SlotwireError
from slotwire.ingest.foundation.health import Health, serving_health
from slotwire.ingest.foundation.kafka import full_name, opened_client, require_topics
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.mail import SmtpMailer
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.postgres_readiness import postgres_problem, require_working
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import DEAD_LETTERS, get_logger

POSTPONE_SECONDS = 10.0
"""An event whose next attempt is further off than this waits in the agent's queue."""
INBOX_CONNECTIONS = 3
"""What the inbox needs beside the handlers: it reads, marks, and fetches data that a record does not have."""
MAX_POOL = 100
_NOBODY = UUID(int=0)
"""The identifier of no event: looking it up shows whether the inbox can be read."""


@asynccontextmanager
async def opened_pool(agents: Sequence[Agent], settings: Settings) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Open the pool of a process: a connection for each run that its agents may have at once, and some beside."""
    runs = sum(agent.concurrency or 0 for agent in agents)
    size = max(settings.database.pool_size, min(MAX_POOL, runs + INBOX_CONNECTIONS if runs else 0))
    database = settings.database.model_copy(update={"pool_size": size})
    async with create_pool(settings.database_url.get_secret_value(), database, application="agents") as pool:
        yield pool


async def run_agents(
    agents: Sequence[Agent],
    settings: Settings,
    stop: asyncio.Event,
    *,
    shown: ShownRuns | None = None,
    look_seconds: float | None = None,
) -> None:
    """Run agents concurrently until `stop` is set.

    Args:
        agents: each with a name of its own.
        settings: of the process.
        stop: asks for a stop.
        shown: prints what they do, for an author.
        look_seconds: how often it is looked what is due; None for the usual. A clock that is moved is noticed by that.

    Raises:
        ConfigurationError: an address is missing or malformed, or the health port is in use.
        ExceptionGroup: an agent ended although no stop was asked for, which is a defect.
    """
    health, clock = Health("agents"), clock_of(settings)
    log = get_logger("agents")
    control = ControlClient(settings.agents.control_url)
    receivers = Outgoing(settings.outgoing, purpose="agents")
    async with opened_pool(agents, settings) as pool, control, receivers:
        install(agents, settings, pool, clock, receivers)
        life = ProcessLife()
        about: dict[str, Any] = {"shown": shown, "control": control, "life": life}
        runners = [AgentRunner(agent, settings, pool, clock, **about) for agent in agents]
        health.add("postgres", lambda: postgres_problem(pool))
        for runner in runners:
            if look_seconds is not None:
                looks = replace(runner.membership, queue_interval=look_seconds, look_interval=look_seconds)
                runner.membership = looks
            health.add(f"agent {runner.agent.name}", runner.problems.check)
        async with serving_health(health, settings.health) as address:
            log.info("agents_started", agents=[agent.name for agent in agents], health=address)
            async with asyncio.TaskGroup() as group:
                for runner in runners:
                    group.create_task(_run_until_stop(runner, stop), name=f"agent {runner.agent.name}")
                group.create_task(_drain(health, stop))
    log.info("agents_stopped")


def install(
    agents: Sequence[Agent],
    settings: Settings,
    pool: asyncpg.Pool[asyncpg.Record],
    clock: Clock,
    receivers: Outgoing,
) -> None:
    """Give the agents that come with Slotwire their settings, and the ways to receivers, readers and files.

    Raises:
        ConfigurationError: a key of the settings' secrets is malformed or weak.
    """
    shipped = [agent for agent in agents if isinstance(agent, ShippedAgent)]
    if shipped:
        source = PostgresSettings(pool, settings_keys(settings.agents), clock=clock)
        for agent in shipped:
            agent.install(
                source,
                receivers.of(agent.name),
                allow_local=settings.outgoing.allow_local,
                mailer=SmtpMailer(settings.mail),
                output_folder=settings.agents.output_folder,
                attendance_folder=settings.agents.attendance_folder,
                stores=Stores(pool, settings.kafka),
                logs_personal_data=settings.agents.log_messages,
            )


async def _run_until_stop(runner: AgentRunner, stop: asyncio.Event) -> None:
    """Run an agent, and fail if it ends before `stop` is set, so that the process ends and the fault is noticed.

    Without this a TaskGroup ignores a task that a library cancelled from inside.
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
    """Runs one agent, and joins its group again after each outage of Postgres or Kafka.

    Raises:
        ConfigurationError: no broker is named, or its settings cannot be used.

    Attributes:
        agent: the agent.
        problems: why it does not work now, for the health port.
        membership: its group and topics.
    """

    def __init__(
        self,
        agent: Agent,
        settings: Settings,
        pool: asyncpg.Pool[asyncpg.Record],
        clock: Clock,
        *,
        shown: ShownRuns | None = None,
        control: ControlClient | None = None,
        life: ProcessLife | None = None,
    ) -> None:
        self.agent = agent
        life = life or ProcessLife()
        self.problems = Problems(agent.name, get_logger("agents").bind(agent=agent.name))
        if agent.topics:
            self.problems.begin("joining", "is joining its consumer group", quiet=True)
        self.membership = Membership(
            agent=agent.name,
            group=group_name(settings.kafka.topic_prefix, agent),
            topics=tuple(full_name(settings.kafka, topic) for topic in agent.topics),
            grace=agent.grace_seconds,
        )
        self._placement = Placement(
            pool, agent=agent.name, group=self.membership.group, start=agent.start, clock=clock, process=life.id
        )
        self._offsets_lost = CONSUMER_OFFSETS_LOST.labels(agent.name)
        self._firings = firing_partition(settings.kafka.topic_prefix)
        for topic in self.lettered_topics:
            DEAD_LETTERS.labels(agent.name, topic)  # from 0 on, so that the first one is seen to be added
        connection_options(settings.kafka, client=agent.name)  # raises if a setting is wrong
        self._settings = settings
        self._pool = pool
        self._clock = clock
        self._dead_letters = KafkaDeadLetters(settings.kafka, agent=agent.name, clock=clock)
        self._inbox = PostgresInbox(
            pool, agent=agent.name, clock=clock, idle_seconds=settings.database.statement_timeout_seconds
        )
        journal = PostgresJournal(pool, agent=agent.name, clock=clock, claim_seconds=settings.agents.claim_seconds)
        runs = Runs(agent, journal, clock)
        self._due = DueRuns(runs, journal, agent.versions, self.problems)
        self._due_firings = DueRuns(runs, journal, agent.versions, self.problems)
        self._handling = Handling(
            agent,
            inbox=self._inbox,
            runs=runs,
            dead_letters=KeptLetters(pool, self._dead_letters, agent=agent.name, clock=clock),
            chains=PostgresChains(pool, agent=agent.name, clock=clock),
            calls=ControlledCalls(
                pool, control or ControlClient(""), agent=agent.name, clock=clock, mcp_url=settings.mcp.public_url
            ),
            problems=self.problems,
            clock=clock,
            postpone_after=POSTPONE_SECONDS,
            log_messages=settings.agents.log_messages,
            show=shown,
            noted=NotedRuns(pool, agent=agent.name, process=life.id, clock=clock),
            life=life,
        )

        self._queue = PostgresQueue(pool, agent=agent.name, clock=clock, settings=settings.agents)
        about: dict[str, Any] = {"runs": runs, "agent": agent.name, "problems": self.problems, "clock": clock}
        self._queueing = Queueing(self._handling, self._queue, **about)
        self._queued_firings = Queueing(self._handling, self._queue, firings=True, **about)
        self._schedules = ScheduleStore(
            pool, agent=agent.name, clock=clock, lease_seconds=settings.agents.claim_seconds, process=life.id
        )

    @property
    def lettered_topics(self) -> tuple[str, ...]:
        """The topics whose records it may give up, firings included."""
        return (*self.membership.topics, *([self._firings.topic] if self.agent.schedules else []))

    async def run(self, stop: asyncio.Event) -> None:
        """Open what the agent holds, and work until `stop` is set."""
        failures = 0
        if self.agent.hooks[0]:
            self.problems.begin("start", "its start hooks have not ended", quiet=True)
        while not stop.is_set():
            try:
                async with held(self.agent, stop):
                    self.problems.end("start")
                    await self._work(stop)
            except StartFailed as error:
                if stop.is_set():
                    return
                said = error.said if self._settings.agents.log_messages else str(error)
                self.problems.begin("start", " ".join(filter(None, ("a start hook failed:", said, error.place))))
                failures += 1
                await wait_for(stop, OUTAGE_RETRY.pause(failures, drawn()))

    async def _work(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. An agent past its limit of dead letters holds, not ready, so that it is noticed."""
        try:
            async with asyncio.TaskGroup() as group:
                if self.agent.topics:
                    group.create_task(self._again(self.run_once, OF_EVENTS, stop), name="events")
                if self.agent.schedules:
                    group.create_task(self._again(self.fire_once, OF_FIRINGS, stop), name="firings")
        finally:
            await self._dead_letters.close()

    async def _again(
        self, work: Callable[[asyncio.Event], Awaitable[None]], outages: Outages, stop: asyncio.Event
    ) -> None:
        """Work, and again after each outage, until `stop` is set.

        Args:
            work: of one loop, until `stop` is set; it ends its problems once it can work.
            outages: what they are called.
            stop: asks for a stop.
        """
        failures = 0
        while not stop.is_set() and not self._handling.halted.is_set():
            try:
                await work(stop)
                failures = 0
            except (BrokerUnavailable, DatabaseUnavailable, SchemaMismatch) as error:
                away = isinstance(error, BrokerUnavailable)
                self.problems.begin(outages.kafka if away else outages.postgres, error)
                if isinstance(error, BrokerUnavailable) and error.reason == OFFSETS_LOST:
                    self._offsets_lost.set(1)
                failures += 1
                pause = OUTAGE_RETRY.pause(failures, drawn())
                await wait_for(stop, pause)
        await stop.wait()

    async def fire_once(self, stop: asyncio.Event) -> None:
        """Check the tables and the topic of dead letters, then fire until `stop` or the limit of dead letters.

        Raises:
            DatabaseUnavailable, SchemaMismatch, TopicUnavailable, BrokerUnavailable: as `run_once`.
        """
        await require_working(self._pool)
        await require_tables(self._pool, self.agent)
        self.problems.end(OF_FIRINGS.postgres)
        await dead_letters.ensure_topics(self._settings.kafka, self.agent.name, [self._firings.topic])
        self.problems.end(OF_FIRINGS.kafka)
        loop = FiringLoop(
            self.agent,
            self._schedules,
            self._queued_firings,
            self._due_firings,
            partition=self._firings,
            clock=self._clock,
            look_seconds=self.membership.look_interval,
        )
        grace = self.membership.grace
        await loop.run(
            stop, self._handling.halted, grace=self._settings.agents.stop_grace_seconds if grace is None else grace
        )

    async def run_once(self, stop: asyncio.Event) -> None:
        """Check the inbox and the topics, then join the group once, until `stop` or the limit of dead letters.

        Raises:
            DatabaseUnavailable: Postgres is away, so partitions had better go to another member.
            SchemaMismatch: `slotwire migrate` has to run first.
            TopicUnavailable: a topic is missing or forbidden.
            BrokerUnavailable: Kafka is away, or the membership was lost.
        """
        await require_working(self._pool)
        await self._inbox.seen(_NOBODY)
        await require_tables(self._pool, self.agent)
        self.problems.end(OF_EVENTS.postgres)
        kafka = self._settings.kafka
        async with opened_client(kafka, client=f"agent-{self.agent.name}") as client:
            topics = await require_topics(client, self.membership.topics)
        await dead_letters.ensure_topics(kafka, self.agent.name, self.membership.topics)
        await self._placement.decide(kafka, topics)
        self._offsets_lost.set(0)
        member = Member(
            self.membership,
            kafka,
            self._settings.agents,
            self._queueing,
            self._due,
            self._placement,
            self.problems,
        )
        await member.run(stop, self._handling.halted)
