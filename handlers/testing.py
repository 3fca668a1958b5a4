"""Tests an agent without Kafka: the dispatch is the real one, and everything around it is in memory.

    async def test_a_cancellation_frees_the_slot() -> None:
        trial = Trial(agent)
        await trial.deliver(event_of(InviteeCanceled(uri=..., booking=...)))
        assert trial.results[-1].status is RecordStatus.DONE

Pauses between attempts take no time. A handler that opens `ctx.transaction()` needs `Trial(agent, connection=…)`: an
asyncpg connection to a test database, or an object with the methods that the handler calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import SecretStr

from slotwire.handlers.author.tables import migrate_tables
from slotwire.handlers.database import DatabaseRow
from slotwire.handlers.dispatch.dispatcher import Dispatcher
from slotwire.handlers.dispatch.handle import Handling
from slotwire.handlers.dispatch.runs import Runs
from slotwire.handlers.hooks import held
from slotwire.handlers.long_work.journal import unpack
from slotwire.handlers.long_work.trial_journal import MemoryJournal
from slotwire.handlers.patience import PauseRefused
from slotwire.handlers.problems import Problems
from slotwire.handlers.process import opened_pool
from slotwire.handlers.reach.calendly import MemoryCalls
from slotwire.handlers.reach.chains import BookingSnapshot, Chains, MemoryChains, PostgresChains
from slotwire.handlers.records import Partition, Record, SetAsideRecord
from slotwire.handlers.registry import Agent
from slotwire.handlers.results import RecordResult, RecordStatus
from slotwire.handlers.schedule.trial_firings import trial_record
from slotwire.handlers.settle.dead_letters import GiveUpReason
from slotwire.handlers.settle.inbox import Inbox, PostgresInbox
from slotwire.handlers.settle.trial_inbox import MemoryInbox
from slotwire.ingest.foundation.clock import Clock, ManualClock, SystemClock
from slotwire.ingest.foundation.postgres import Pool, connect
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.schemas.codec import Attributes, encode_data, encode_headers
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import EventData

__all__ = [
    "BookingSnapshot",
    "DeadLetter",
    "RecordResult",
    "RecordStatus",
    "Trial",
    "TrialClock",
    "TrialDatabase",
    "event_of",
    "record_of",
    "trial_on_postgres",
]

MAX_PAUSES = 1_000
"""An agent that pauses more often waits for something that never comes, so the trial fails."""
_PLACE = Partition("trial", 0)
_IDLE_SECONDS = 5.0

D = TypeVar("D", bound=EventData)


@dataclass(frozen=True)
class DeadLetter:
    """A record that the agent gave up, and why."""

    record: Record
    why: GiveUpReason


def event_of(  # noqa: PLR0913 - the parts of an event
    data: D,
    *,
    key: str = "",
    event_id: UUID | None = None,
    time: datetime | None = None,
    sequence: int = 1,
    organization: str = "TRIAL",
    tenant: str | None = None,
    origin: str = "webhook",
    inferred: bool = False,
) -> Event[D]:
    """Make an event with this data.

    Args:
        data: an instance of a class of `slotwire.schemas.events`.
        key: events of one key are handled in order. Default: the data's `uri`.
        event_id: default: derived from type, `uri` and sequence, so that equal arguments give the same event.
        time: when it happened. Default: the start of 2026.
        sequence: its position in the log.
        organization: the identifier of its organization.
        tenant: your own name for the organization.
        origin: how its delivery came in: `webhook`, `backfill`, `reconcile`, `retry` or `own`.
        inferred: whether Slotwire inferred it from a later event.
    """
    subject = str(getattr(data, "uri", ""))
    return Event(
        id=event_id or uuid5(NAMESPACE_URL, f"{data.type}\n{subject}\n{sequence}{_beside(organization)}"),
        type=data.type,
        source=f"/organizations/{organization}",
        subject=subject,
        time=time or datetime(2026, 1, 1, tzinfo=UTC),
        key=key or subject,
        sequence=sequence,
        data=data,
        inferred=inferred,
        origin=origin,
        tenant=tenant,
    )


def _beside(organization: str) -> str:
    return "" if organization == "TRIAL" else f"\n{organization}"


def record_of(event: Event[Any], *, offset: int = 0, partition: Partition = _PLACE) -> Record:
    """Encode an event as the record that the relay would publish."""
    context = Attributes(
        id=event.id,
        type=event.type,
        organization=event.organization,
        subject=event.subject,
        time=event.time,
        key=event.key,
        sequence=event.sequence,
        recorded_time=event.recorded_time,
        traceparent=event.traceparent,
        inferred=event.inferred,
        origin=event.origin,
        replay=event.replay,
        tenant=event.tenant,
        dataref=event.dataref,
    )
    value = None if event.dataref else encode_data(event.data)
    headers = tuple(encode_headers(context))
    return Record(partition, offset, event.key.encode(), value, headers, event.time)


class Trial:
    """An agent with an inbox, dead letters and a partition in memory.

    Attributes:
        results: the result of each record, in the order in which their handling ended.
        dead_letters: the records that the agent gave up.
        pauses: the pauses between attempts, in seconds, that a running agent would have made.
        chains: what `ctx.booking()` and `ctx.state` find, where there is no Postgres: a test may set it.
        calendly: what `ctx.calendly` answers, and which calls were made.
    """

    def __init__(
        self, agent: Agent, *, connection: Any = None, clock: Clock | None = None, pool: Pool | None = None
    ) -> None:
        """Make a trial.

        Args:
            agent: the agent.
            connection: what `ctx.transaction()` yields, where there is no `pool`.
            clock: the time of the handlers; with a `TrialClock` their limits follow it, too.
            pool: a database with an inbox, as `trial_on_postgres` opens it.
        """
        clock = clock or SystemClock()
        self.chains = MemoryChains()
        self.calendly = MemoryCalls()
        self._pool = pool
        self.results: list[RecordResult] = []
        self.dead_letters: list[DeadLetter] = []
        self.pauses: list[float] = []
        self._inbox = MemoryInbox(connection)
        self._journal = MemoryJournal(clock)
        self._clock = clock
        self._offset = 0
        self.deployed(agent)

    def deployed(self, agent: Agent) -> Trial:
        """Go on with another version of the agent, as a deploy does; return the trial."""
        pool, clock = self._pool, self._clock
        inbox: Inbox = self._inbox
        chains: Chains = self.chains
        if pool is not None:
            inbox = PostgresInbox(pool, agent=agent.name, clock=clock, idle_seconds=_IDLE_SECONDS)
            chains = PostgresChains(pool, agent=agent.name, clock=clock)
        self._agent = agent
        self._handling = Handling(
            agent,
            inbox=inbox,
            runs=Runs(agent, self._journal, clock),
            dead_letters=self,
            chains=chains,
            calls=self.calendly,
            limit=clock.limit if isinstance(clock, TrialClock) else asyncio.timeout,
            problems=Problems(agent.name, get_logger("trial")),
            clock=clock,
            pause=self._pause,
            log_messages=True,
        )
        return self

    @property
    def halted(self) -> bool:
        """Whether the limit of dead letters stopped the agent."""
        return self._handling.halted.is_set()

    @property
    def done(self) -> frozenset[UUID]:
        """The identifiers of the events that the inbox in memory has as done."""
        return frozenset(self._inbox.settled)

    async def deliver(self, *events: Event[Any]) -> tuple[RecordResult, ...]:
        """Deliver events in this order and wait until all are handled.

        Returns:
            Their results, in the order in which their handling ended.
        """
        records: list[Record] = []
        for event in events:
            records.append(record_of(event, offset=self._offset))
            self._offset += 1
        return await self.deliver_records(*records)

    async def deliver_records(self, *records: Record) -> tuple[RecordResult, ...]:
        """Deliver records as they are, well-formed or not; see `deliver`."""
        before = len(self.results)
        working: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as lanes:

            def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
                working.append(lanes.create_task(work))
                return working[-1]

            dispatcher = Dispatcher(self._handle, agent=self._agent.name, max_in_flight=len(records) or 1, spawn=spawn)
            dispatcher.open([_PLACE])
            read = [record for record in records if not isinstance(record, SetAsideRecord)]
            dispatcher.deliver(_PLACE, read, position=self._offset)
            for record in records:
                if isinstance(record, SetAsideRecord):
                    dispatcher.turn(record)
            try:
                while left := [each for each in working if not each.done()]:
                    await asyncio.wait(left)
            except BaseException:  # the test gives up: so do the handlers
                await dispatcher.stop(0)
                raise
        return tuple(self.results[before:])

    async def fire(
        self,
        schedule: str,
        *,
        due: datetime | None = None,
        organization: str = "TRIAL",
        booking: BookingSnapshot | None = None,
    ) -> RecordResult:
        """Fire scheduled work, once for equal arguments, and wait until it is handled.

        Args:
            schedule: its name: that of its function, or `name=`.
            due: when it was due, of the clock; default: now.
            organization: which it is for.
            booking: whose moment it is. A test may then set another state of it in `chains`.
        """
        record = trial_record(self._agent, schedule, due or self._clock.now(), organization, booking)
        if booking is not None:
            self.chains.known.setdefault((organization, booking.invitee), (booking,))
        self._offset += 1
        (result,) = await self.deliver_records(replace(record, offset=self._offset - 1))
        return result

    async def go_on(self) -> tuple[RecordResult, ...]:
        """Let runs go on whose wait is over by the trial's clock."""
        records = [self._journal.runs[event_id].stored.record for event_id in self._journal.due()]
        found = [unpack(record) for record in records if record is not None]
        return await self.deliver_records(
            *(SetAsideRecord.of(record, event.id, self._offset - 1) for record, event in found)
        )

    async def decide(self, event: Event[Any], name: str, *, approved: bool, by: str = "tester") -> None:
        """Decide about an approval that an event's run asks for, and let the run go on."""
        self._journal.decide(event.id, name, approved=approved, by=by)
        await self.go_on()

    @property
    def waiting(self) -> frozenset[UUID]:
        """The identifiers of the events whose runs are set aside."""
        return frozenset(event_id for event_id, run in self._journal.runs.items() if run.stored.is_set_aside)

    async def fetch(self, query: str, *arguments: Any) -> Sequence[DatabaseRow]:
        """Read rows of the trial's database, as the role of the agents' processes."""
        if self._pool is None:
            raise RuntimeError("this trial has no database: use trial_on_postgres")
        return await self._pool.fetch(query, *arguments)

    async def put(self, record: Record, why: GiveUpReason) -> None:
        """Store a dead letter. Called by the runtime, not by tests."""
        self.dead_letters.append(DeadLetter(record, why))

    async def _handle(self, record: Record, stopping: asyncio.Event) -> RecordResult:
        result = await self._handling.handle(record, stopping)
        self.results.append(result)
        return result

    async def _pause(self, stopping: asyncio.Event, seconds: float) -> bool:
        if len(self.pauses) >= MAX_PAUSES:
            raise PauseRefused(f"the agent paused {MAX_PAUSES} times: is it waiting for a database that is away?")
        self.pauses.append(seconds)
        await asyncio.sleep(0)
        return stopping.is_set()


class TrialClock(ManualClock):
    """A clock that a test moves. A run whose limit it passes is interrupted at once.

    clock = TrialClock()
    trial = Trial(agent, clock=clock)
    delivery = asyncio.create_task(trial.deliver(event))
    await handler_waits.wait()
    clock.advance(timedelta(seconds=300))
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        super().__init__(start)
        self._limits: list[tuple[datetime, asyncio.Timeout]] = []

    def limit(self, seconds: float) -> asyncio.Timeout:
        """Make the limit of a run. Called by the runtime."""
        made = asyncio.timeout(None)
        self._limits.append((self.now() + timedelta(seconds=seconds), made))
        return made

    def advance(self, by: timedelta) -> None:
        """Move the clock forward."""
        super().advance(by)
        due = [limit for at, limit in self._limits if at <= self.now()]
        self._limits = [(at, limit) for at, limit in self._limits if limit not in due]
        for limit in due:
            with suppress(RuntimeError):  # its run has ended
                limit.reschedule(asyncio.get_running_loop().time())


class TrialDatabase(Protocol):
    """A database with this version's schema. The fixture `slotwire_database` gives one.

    Attributes:
        owner_url: its address for the role that owns it.
        url_of: its address for the role of a process, by the process.
    """

    @property
    def owner_url(self) -> str:
        """Its address for the role that owns it."""
        ...

    @property
    def url_of(self) -> Mapping[str, str]:
        """Its address for the role of a process, by the process."""
        ...


@asynccontextmanager
async def trial_on_postgres(
    agent: Agent, database: TrialDatabase, *, clock: Clock | None = None
) -> AsyncGenerator[Trial, None]:
    """Make an agent's tables in a database, and yield a trial on it: inbox, transactions and state are real.

    The agent's hooks run around the block.
    """
    settings = Settings(database_url=SecretStr(database.url_of["agents"]))
    owner = await connect(database.owner_url, settings.migrate.limits(settings.database), application="trial")
    try:
        await migrate_tables(owner, agent, role_prefix=settings.migrate.role_prefix, now=SystemClock().now())
    finally:
        await owner.close()
    async with opened_pool([agent], settings) as pool, held(agent):
        yield Trial(agent, clock=clock, pool=pool)
