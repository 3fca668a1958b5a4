"""Rules of runs that only real servers show: who owns a step, and when a wait's time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from slotwire.handlers import Agent, Context, Retry
from slotwire.handlers.long_work.endings import StepOutcomeUnknown
from slotwire.handlers.long_work.journal import Busy, ClaimRequest, Entry, RunClaim, SetAside, pack
from slotwire.handlers.long_work.postgres_journal import PostgresJournal
from slotwire.handlers.testing import record_of
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCanceled, InviteeCreated
from tests.support.agent_setup import AgentSetup, agent_setup, invitee_created, running_agents, until
from tests.support.long_work import DAY, canceled

START = datetime(2026, 3, 1, tzinfo=UTC)
CLAIM = timedelta(seconds=15)


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as made:
        yield made


async def test_a_step_belongs_to_its_owner_until_the_claim_ends(setup: AgentSetup) -> None:
    """A second member waits for it; then it takes the run, and whatever the first one says is refused."""
    clock = ManualClock(START)
    first, second = (
        PostgresJournal(setup.pool, agent="crm", clock=clock, claim_seconds=CLAIM.total_seconds()) for _ in range(2)
    )
    event = invitee_created("k", 1)
    request = ClaimRequest(record_of(event), event, "1")
    owned = await first.claim(request)
    assert isinstance(owned, RunClaim)
    assert await first.start_step(event.id, owned.epoch, 0, "charge")
    assert await second.claim(request) == Busy(START + CLAIM)
    clock.advance(CLAIM / 2)
    await first.renew([event.id])
    clock.advance(CLAIM / 2)
    assert await second.claim(request) == Busy(START + CLAIM * 1.5), "a claim that is renewed holds on"
    clock.advance(CLAIM / 2)
    taken = await second.claim(request)
    assert isinstance(taken, RunClaim)
    started = Entry(0, "charge", "step", "started")
    assert taken.entries == (started,), "which its next run is told as unknown"
    assert not await first.end_entry(event.id, owned.epoch, started, b"1")
    assert not await first.start_step(event.id, owned.epoch, 1, "more")
    assert not await first.set_aside(event.id, owned.epoch, "waiting", b"")
    assert await second.end_entry(event.id, taken.epoch, started, b"2")
    assert not await second.end_entry(event.id, taken.epoch, started, b"3"), "one compare and set"


async def test_a_run_is_taken_over_at_once_between_two_steps(setup: AgentSetup) -> None:
    """Nothing is under way, so nobody has to wait; one that is set aside is left to those who resume it."""
    clock = ManualClock(START)
    first, second = (PostgresJournal(setup.pool, agent="crm", clock=clock, claim_seconds=15) for _ in range(2))
    event = invitee_created("k", 1)
    request = ClaimRequest(record_of(event), event, "1")
    await first.claim(request)
    taken = await second.claim(request)
    assert isinstance(taken, RunClaim)
    wait = Entry(0, "end", "wait", "open", None, (InviteeCanceled.type,), START + DAY)
    assert await second.open_wait(event.id, taken.epoch, wait, pack(record_of(event), event))
    assert await first.claim(request) == SetAside()


async def test_a_downtime_turns_no_answer_into_a_timeout(setup: AgentSetup) -> None:
    """The answer came in time and the agent was down until long after: it is taken. Without one, the time is over."""
    clock, ended = ManualClock(START), dict[str, int | None]()
    agent = Agent("patient")

    @agent.on(InviteeCreated)
    async def follow(event: Event[InviteeCreated], ctx: Context) -> None:
        end = await ctx.wait_for(InviteeCanceled, timeout=DAY)
        ended[event.key] = None if end is None else end.sequence

    async def aside(count: int) -> bool:
        found: int = await setup.pool.fetchval("SELECT count(*) FROM slotwire.runs WHERE state = 'waiting'")
        return found == count

    booked = [invitee_created("ends", 1), invitee_created("quiet", 2)]
    await setup.publish(*booked)
    async with running_agents(setup.runner(agent, clock=clock)):
        await until(lambda: aside(2))
    # Behind much else, so that the time is found over before the answer is read.
    await setup.publish(*(canceled("other", n) for n in range(10, 1_500)), canceled("ends", 2_000), batch=500)
    clock.advance(2 * DAY)
    async with running_agents(setup.runner(agent, clock=clock)):
        await setup.settle(booked)
    assert ended == {"ends": 2_000, "quiet": None}


async def test_a_wait_ends_although_something_of_its_key_waits_for_its_attempt(setup: AgentSetup) -> None:
    """The time is over while a later event of the chain waits in the queue: once that is done, the run goes on."""
    clock, ended = ManualClock(START), list[object]()
    agent = Agent("behind")

    @agent.on(InviteeCreated)
    async def follow(event: Event[InviteeCreated], ctx: Context) -> Retry | None:
        if event.sequence == 1:
            ended.append(await ctx.wait_for(InviteeCanceled, timeout=DAY))
            return None
        return Retry(after=900) if ctx.attempt == 1 else None

    first, second = invitee_created("k", 1), invitee_created("k", 2)
    runner = setup.runner(agent, clock=clock, queue_interval=0.02)
    async with running_agents(runner):
        await setup.publish(first)
        await until(lambda: setup.pool.fetchval("SELECT count(*) FROM slotwire.runs WHERE state = 'waiting'"))
        clock.advance(DAY - timedelta(minutes=1))
        await setup.publish(second)
        await until(lambda: setup.pool.fetchval("SELECT count(*) FROM slotwire.agent_queue"))
        clock.advance(timedelta(minutes=2))
        await until(lambda: first.id in runner._handling._runs.queued)  # found due, and behind the other
        clock.advance(timedelta(minutes=15))
        await setup.settle([first, second])
    assert ended == [None]


async def test_a_stop_ends_a_run_between_two_steps_and_it_goes_on_elsewhere(setup: AgentSetup) -> None:
    """The step that runs may finish, the next one is not begun, and the next process goes on behind it."""
    clock, calls = ManualClock(START), list[str]()
    working, may_end = asyncio.Event(), asyncio.Event()
    agent = Agent("long", grace_seconds=30)

    @agent.on(InviteeCreated)
    async def work(event: Event[InviteeCreated], ctx: Context) -> None:
        del event

        async def slow(key: str) -> None:
            calls.append(key.rpartition(":")[2])
            working.set()
            await may_end.wait()

        try:
            await ctx.step("first", slow)
            await ctx.step("second", slow)
        except StepOutcomeUnknown:  # pragma: no cover - shown by the assertion
            calls.append("unknown")

    event = invitee_created("k", 1)
    await setup.publish(event)
    async with running_agents(setup.runner(agent, clock=clock)) as stop:
        await working.wait()
        stop.set()
        may_end.set()
    assert calls == ["first"]
    async with running_agents(setup.runner(agent, clock=clock)):
        await setup.settle([event])
    assert calls == ["first", "second"]
