"""A world for runs: one chain's log, members that die between any two calls, time, deploys, and a person who decides.

Postgres is real. A list and a committed offset play the part of Kafka: a member is given the records from that offset
on, one by one, and dies wherever its life ends. What the world outside saw stays.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from slotwire.handlers import Agent, Context
from slotwire.handlers.dispatch.handle import Handling
from slotwire.handlers.dispatch.runs import Runs
from slotwire.handlers.long_work.endings import StepOutcomeUnknown
from slotwire.handlers.long_work.journal import unpack
from slotwire.handlers.long_work.postgres_journal import PostgresJournal
from slotwire.handlers.long_work.versions import JournalMigration
from slotwire.handlers.problems import Problems
from slotwire.handlers.reach.calendly import MemoryCalls
from slotwire.handlers.reach.chains import MemoryChains
from slotwire.handlers.records import Partition, SetAsideRecord
from slotwire.handlers.results import RecordStatus
from slotwire.handlers.settle.inbox import PostgresInbox
from slotwire.handlers.testing import Trial, record_of
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.operate import approval_pages, run_pages
from slotwire.ingest.operate.agent_filter import AgentFilter
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCanceled, InviteeCreated
from tests.support.agent_setup import NOTE_EFFECT, invitee_created
from tests.support.long_work import canceled

DAY = timedelta(days=1)
CLAIM_SECONDS = 5.0
PLACE = Partition("world", 0)
_OPEN = """
SELECT id, agent, event_id, name, org, person, what, digest, state, asked_at, expires_at, decided_at, decided_by
FROM slotwire.approvals WHERE agent = $1 AND state = 'open'
"""


class Killed(KeyboardInterrupt):
    """The member is dead: nothing of it goes on. Handlers may raise anything else and only fail."""


class Life:
    """How many more moments a member lives; None for ever."""

    def __init__(self, moments: int | None) -> None:
        self.left = moments

    def pass_moment(self) -> None:
        """Live through a moment, or die."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


class Mortal:
    """Calls a journal or inbox for a member that may die before a call is made, and before its answer is heard."""

    def __init__(self, called: Any, life: Life) -> None:
        self._called, self._life = called, life

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            self._life.pass_moment()
            answer = await getattr(self._called, name)(*arguments, **named)
            self._life.pass_moment()
            return answer

        return call

    @asynccontextmanager
    async def transaction(self, event_id: UUID) -> AsyncIterator[Any]:
        """Open a transaction; the member may die in it, or after its commit."""
        self._life.pass_moment()
        async with self._called.transaction(event_id) as connection:
            yield connection
            self._life.pass_moment()
        self._life.pass_moment()


class World:
    """One chain, and who works on it.

    Attributes:
        outside: what the steps did: the event's position, and which step.
        silent: the positions whose waits were ended by time while no answer was in the log.
        decided: how a person has decided about approvals, by position.
        deaths: members that died.
    """

    def __init__(
        self, pool: Pool, operator: Pool, number: int, journal: type[PostgresJournal] = PostgresJournal
    ) -> None:
        self._journal = journal
        self.outside: list[tuple[int, str]] = []
        self.silent: set[int] = set()
        self.decided: dict[int, str] = {}
        self._operator = operator
        self.deaths = 0
        self.log: list[Event[Any]] = []
        self.clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
        self.name = f"world-{number}"
        self._pool = pool
        self._committed = 0
        self._agent = self._code("1", "charge")

    def deploy(self) -> None:
        """Go on with a new version, whose first step has another name."""
        self._agent = self._code("2", "pay")
        self._agent.takes_over("1", JournalMigration(renamed={"charge": "pay"}))

    def publish(self, *, ends: bool) -> None:
        """Publish the next event of the chain."""
        position = len(self.log) + 1
        self.log.append((canceled if ends else invitee_created)(self.name, position))

    async def decide(self) -> None:
        """Let a person decide about what is asked for, and say how steps ended, as they find outside."""
        now = self.clock.now()
        for row in await self._operator.fetch(_OPEN, self.name):
            asked = approval_pages.ApprovalRow(**row)
            position = int(json.loads(asked.what)["of"])
            approved = position % 4 == 0
            if await approval_pages.decide(self._operator, asked.id, asked.digest, approved=approved, by="x", now=now):
                self.decided[position] = "approved" if approved else "denied"
        for run in await run_pages.read_page(
            self._operator, AgentFilter(None, self.name, "unknown"), before=None, limit=50
        ):
            position = next(each.sequence for each in self.log if each.id == run.event_id)
            result = b"null" if (position, "mail") in self.outside else None
            assert await run_pages.decide_step(self._operator, run, "mail", result, by="x", why="seen", now=now)

    async def work(self, moments: int | None, *, records: int) -> None:
        """Let a new member handle so many records, and the runs that are due then, as long as it lives."""
        member = self._member(Life(moments))
        try:
            while self._committed < len(self.log) and records > 0:
                records -= 1
                record = record_of(self.log[self._committed], offset=self._committed, partition=PLACE)
                result = await member.handle(record, asyncio.Event())
                assert result.status is not RecordStatus.HANDED_BACK
                self._life.pass_moment()  # it may die before the offset is committed
                self._committed += 1
            if self._committed == len(self.log):
                await self._fire(member)
        except Killed:
            self.deaths += 1
            # Its claims hold for a while; a member that comes at once waits for their end.

    async def finish(self) -> None:
        """Let members work that do not die, until all waits have ended and everything is decided."""
        await self.work(None, records=len(self.log))
        self.clock.advance(2 * DAY)
        for _ in range(3):  # a step, then an approval, and what follows from them
            await self.work(None, records=0)
            await self.decide()
        await self.work(None, records=0)

    async def _fire(self, member: Handling) -> None:
        journal = self._journal(self._pool, agent=self.name, clock=self.clock, claim_seconds=CLAIM_SECONDS)
        for due in await journal.due([PLACE], self._agent.versions, ()):
            record, event = unpack(due.record)
            if not any(each.sequence > event.sequence and answers(each) for each in self.log):
                self.silent.add(event.sequence)
            place = len(self.log) - 1
            await member.handle(SetAsideRecord.of(record, event.id, place), asyncio.Event())

    def _member(self, life: Life) -> Handling:
        self._life = life
        journal = self._journal(self._pool, agent=self.name, clock=self.clock, claim_seconds=CLAIM_SECONDS)
        inbox = PostgresInbox(self._pool, agent=self.name, clock=self.clock, idle_seconds=30)
        mortal: Any = Mortal(journal, life)
        dying: Any = Mortal(inbox, life)
        return Handling(
            self._agent,
            inbox=dying,
            runs=Runs(self._agent, mortal, self.clock),
            dead_letters=Trial(self._agent),
            chains=MemoryChains(),
            calls=MemoryCalls(),
            problems=Problems(self.name, get_logger("world")),
            clock=self.clock,
            pause=self._pause,
        )

    async def _pause(self, stopping: asyncio.Event, seconds: float) -> bool:
        self.clock.advance(timedelta(seconds=seconds))
        return stopping.is_set()

    def _code(self, version: str, first: str) -> Agent:
        agent = Agent(self.name, version=version)

        @agent.on(InviteeCreated)
        async def follow(event: Event[InviteeCreated], ctx: Context) -> None:
            def does(what: str) -> Callable[[str], Awaitable[None]]:
                async def call(key: str) -> None:
                    assert key.startswith(f"{self.name}:{event.id}:")
                    self._life.pass_moment()
                    self.outside.append((event.sequence, what))
                    self._life.pass_moment()

                return call

            if event.sequence % 2 == 0:
                await ctx.step("mail", does("mail"))
                asked = await ctx.approval("refund", what={"of": event.sequence}, person="x", timeout=DAY)
                ended = "expired" if asked.expired else "approved" if asked.approved else "denied"
                await ctx.step("tell", does(f"told {ended}"), on_unknown="retry")
                async with ctx.transaction() as connection:
                    await connection.execute(NOTE_EFFECT, event.id, self.name, event.sequence)
                return
            try:
                await ctx.step(first, does("charge"))
            except StepOutcomeUnknown:
                await ctx.step("ask", does("ask"), on_unknown="retry")
            end = await ctx.wait_for(InviteeCanceled, where=answers, timeout=DAY)
            told = "nothing" if end is None else str(end.sequence)
            await ctx.step("tell", does(f"told {told}"), on_unknown="retry")
            async with ctx.transaction() as connection:
                await connection.execute(NOTE_EFFECT, event.id, self.name, event.sequence)

        @agent.on(InviteeCanceled)
        async def note(event: Event[InviteeCanceled], ctx: Context) -> None:
            async with ctx.transaction() as connection:
                await connection.execute(NOTE_EFFECT, event.id, self.name, event.sequence)

        return agent


def answers(event: Event[Any]) -> bool:
    """Say whether an event ends a wait, by the identity that it has in every run."""
    return isinstance(event.data, InviteeCanceled) and event.sequence % 3 != 0
