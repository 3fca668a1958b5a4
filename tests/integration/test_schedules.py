"""Scheduled work on real servers: once for each firing, whoever runs, and however long nobody did."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from slotwire.handlers import Agent, Context, Firing, Moment, Reject, Retry
from slotwire.handlers.reach.calendly import ControlledCalls
from slotwire.handlers.schedule.due_firings import MAX_LATE
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from tests.support.agent_setup import NOTE_EFFECT, AgentSetup, agent_setup, running_agents, until
from tests.support.command import slotwire
from tests.support.schedules_setup import EVENTS, HOST, Bookings, invitee_of

BEGIN = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
SOON: dict[str, Any] = {"look_interval": 0.02}


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as made:
        yield made


@pytest.fixture
async def bookings(database: Database) -> AsyncIterator[Bookings]:
    """Its organizations and bookings, at a time that the test moves."""
    owner = await asyncpg.connect(database.owner_url)
    try:
        yield Bookings(owner, ManualClock(BEGIN))
    finally:
        await owner.close()


async def noted(ctx: Context, firing: Firing) -> None:
    """Write an effect: what fired, and how many minutes after the beginning it was due."""
    async with ctx.transaction() as connection:
        due = int((firing.due - BEGIN) / MINUTE)
        await connection.execute(NOTE_EFFECT, firing.id, f"{firing.schedule} {ctx.organization} {ctx.tenant}", due)


async def effects(setup: AgentSetup) -> list[tuple[str, int]]:
    """What has fired, sorted."""
    return sorted((row["key"], row["sequence"]) for row in await setup.effects())


async def looked(setup: AgentSetup, clock: ManualClock, *names: str) -> None:
    """Wait until schedules have come to the clock's time."""

    async def reached() -> bool:
        found = await setup.pool.fetch("SELECT schedule, reached FROM slotwire.agent_schedules WHERE declared")
        times = {row["schedule"]: row["reached"] for row in found}
        return all(times.get(name) == clock.now() for name in names)

    await until(reached)


def hourly() -> Agent:
    """An agent with work every hour, of both declarations."""
    agent = Agent("hourly")

    @agent.every(HOUR)
    async def caught_up(firing: Firing, ctx: Context) -> None:
        await noted(ctx, firing)

    @agent.every(HOUR, missed="skip")
    async def skipped(firing: Firing, ctx: Context) -> None:
        await noted(ctx, firing)

    return agent


async def test_the_clock_fires_once_for_each_organization(setup: AgentSetup, bookings: Bookings) -> None:
    """Of two processes, with one after the other; of what was missed the latest is done late, or nothing is.

    An organization that was removed has none, and neither has one that was added after the firing was due.
    """
    clock = bookings.clock
    await bookings.add("ACME", "BETA", "GONE")
    await bookings.remove("GONE")
    async with running_agents(*(setup.runner(hourly(), clock=clock, **SOON) for _ in range(2))):
        await looked(setup, clock, "caught_up", "skipped")
        clock.advance(HOUR)
        await until(lambda: _count(setup, 4))
    first = [(f"{name} {org} {org.lower()}", 60) for name in ("caught_up", "skipped") for org in ("ACME", "BETA")]
    assert await effects(setup) == sorted(first)

    clock.advance(5 * HOUR + 2 * MINUTE)
    await bookings.add("LATE")
    async with running_agents(setup.runner(hourly(), clock=clock, **SOON)):
        await until(lambda: _count(setup, 6))
        clock.advance(58 * MINUTE)
        await until(lambda: _count(setup, 12))
    missed = [(f"caught_up {org} {org.lower()}", 360) for org in ("ACME", "BETA")]
    next_ = [(f"{n} {org} {org.lower()}", 420) for n in ("caught_up", "skipped") for org in ("ACME", "BETA", "LATE")]
    assert await effects(setup) == sorted([*first, *missed, *next_])
    found = await setup.pool.fetch("SELECT * FROM slotwire.agent_schedules ORDER BY schedule")
    assert [(row["fired"], row["passed"]) for row in found] == [(7, 4), (5, 5)]
    assert found[1]["passed_due"] == BEGIN + 6 * HOUR
    assert found[0]["next_at"] == BEGIN + 8 * HOUR
    typed = await slotwire("agents", "schedule", "--organization", "BETA", "--json", env=setup.environment())
    listed = [json.loads(line) for line in typed.stdout.splitlines()]
    assert [(each["schedule"], each["organization"], each["passed"]) for each in listed] == [
        ("caught_up", "BETA", 4),
        ("skipped", "BETA", 5),
    ]
    assert listed[0]["due_at"] == "2026-11-23T17:00:00Z"
    labels = {"agent": "hourly", "schedule": "skipped", "outcome": "passed"}
    assert REGISTRY.get_sample_value("slotwire_firings_total", labels) == 5


async def _count(setup: AgentSetup, count: int) -> bool:
    return len(await setup.effects()) == count


async def test_a_firing_is_tried_again_given_up_and_driven_again(setup: AgentSetup, bookings: Bookings) -> None:
    """It has the attempts, the dead letter and the journal of an event: a step that ended is not done again."""
    agent, clock = Agent("failing"), bookings.clock
    answers: list[Retry | Reject] = [Retry(after=0), Retry(after=60), Reject("not today")]
    attempts: list[int] = []
    steps: list[str] = []

    @agent.every(HOUR)
    async def work(firing: Firing, ctx: Context) -> Retry | Reject | None:
        attempts.append(ctx.attempt)

        async def charge(key: str) -> str:
            steps.append(key)
            return "charged"

        await ctx.step("charge", charge)
        if answers:
            return answers.pop(0)
        await noted(ctx, firing)
        return None

    await bookings.add("ACME")
    async with running_agents(setup.runner(agent, clock=clock, **SOON)):
        await looked(setup, clock, "work")
        clock.advance(HOUR)
        await until(lambda: attempts == [1, 2])
        await until(lambda: _queued_until(setup, clock.now() + MINUTE))
        clock.advance(MINUTE)
        (letter,) = await setup.dead_letters("failing", 1, topic="slotwire.firings")
        assert dict(letter.headers)["ce_type"] == b"io.slotwire.firing.work"
        (row,) = await setup.pool.fetch("SELECT id, org, reason, attempts FROM slotwire.dead_letters")
        assert tuple(row)[1:] == ("ACME", "not today", 3)
        await until(lambda: _is_empty(setup))
        driven = "SELECT slotwire.redrive_letters($1, ARRAY[$2::uuid], NULL, false, 10)"
        assert await bookings.owner.fetchval(driven, clock.now(), row["id"]) == row["id"]
        await until(lambda: _count(setup, 1))
    assert attempts == [1, 2, 3, 1]
    assert len(steps) == 1


async def _queued_until(setup: AgentSetup, due_at: datetime) -> bool:
    return bool(await setup.pool.fetchval("SELECT due_at = $1 FROM slotwire.agent_queue", due_at))


async def test_a_firing_waits_for_an_approval(setup: AgentSetup, bookings: Bookings) -> None:
    """Its run is set aside, its place in the queue is free, and it goes on when somebody has decided."""
    agent, clock = Agent("asking"), bookings.clock

    @agent.every(HOUR)
    async def work(firing: Firing, ctx: Context) -> None:
        if (await ctx.approval("go", what={"n": 1}, person="finance", timeout=timedelta(days=1))).approved:
            await noted(ctx, firing)

    await bookings.add("ACME")
    async with running_agents(setup.runner(agent, clock=clock, **SOON)):
        await looked(setup, clock, "work")
        clock.advance(HOUR)
        await until(lambda: _asked(setup))
        await until(lambda: _is_empty(setup))
        decide = "SELECT slotwire.decide_approval(id, digest, true, 'me', $1) FROM slotwire.approvals"
        assert await bookings.owner.fetchval(decide, clock.now())
        await until(lambda: _count(setup, 1))


async def _asked(setup: AgentSetup) -> bool:
    return bool(await setup.pool.fetchval("SELECT count(*) FROM slotwire.approvals"))


async def _is_empty(setup: AgentSetup) -> bool:
    return not await setup.pool.fetchval("SELECT count(*) FROM slotwire.agent_queue")


def reminding() -> Agent:
    """An agent with moments of each kind; what is before a start is skipped where it was missed."""
    agent = Agent("reminding")

    @agent.at(before_start=HOUR, missed="skip")
    async def remind(moment: Moment, ctx: Context) -> None:
        await noted_moment(ctx, moment)

    @agent.at(before_start=10 * MINUTE)
    async def knock(moment: Moment, ctx: Context) -> None:
        await noted_moment(ctx, moment)

    @agent.at(after_start=timedelta(0))
    async def begun(moment: Moment, ctx: Context) -> None:
        await noted_moment(ctx, moment)

    @agent.at(after_end=15 * MINUTE)
    async def ask(moment: Moment, ctx: Context) -> None:
        await noted_moment(ctx, moment)

    return agent


async def noted_moment(ctx: Context, moment: Moment) -> None:
    """Write an effect: which moment of which meeting, and how many minutes after the beginning it was due."""
    found = await ctx.booking()
    assert found is not None
    assert (found.booking.invitee, found.booking.start_time) == (moment.invitee, moment.start_time)
    async with ctx.transaction() as connection:
        about = f"{moment.schedule} {moment.scheduled_event.removeprefix(EVENTS)}"
        await connection.execute(NOTE_EFFECT, moment.id, about, int((moment.due - BEGIN) / MINUTE))


async def test_moments_follow_their_bookings(setup: AgentSetup, bookings: Bookings) -> None:
    """A booking fires at the times that it has then: moved ones at the new time only, canceled ones never.

    A moment that was over when the meeting was booked never was; one that we heard of late is done late, but what is
    before the start not after it.
    """
    clock = bookings.clock
    await bookings.add("ACME", "GONE")
    await bookings.book("kept", BEGIN + 2 * HOUR)
    await bookings.book("canceled", BEGIN + 2 * HOUR)
    await bookings.book("moved", BEGIN + 2 * HOUR)
    await bookings.book("edited", BEGIN + 2 * HOUR)
    await bookings.book("removed", BEGIN + 2 * HOUR, org="GONE")
    await bookings.remove("GONE")
    names = ("remind", "knock", "begun", "ask")
    async with running_agents(*(setup.runner(reminding(), clock=clock, **SOON) for _ in range(2))):
        await until(lambda: _declared(setup, 4))
        clock.advance(HOUR - MINUTE)
        await bookings.cancel("canceled")
        await bookings.cancel("moved")
        await bookings.book("moved-to", BEGIN + 3 * HOUR)
        await bookings.move("edited", BEGIN + 2 * HOUR + 30 * MINUTE)
        await looked(setup, clock, *names)
        clock.advance(MINUTE)
        await until(lambda: _count(setup, 1))
        await bookings.book("short", BEGIN + HOUR + 30 * MINUTE)
        await bookings.book("told-late", BEGIN + HOUR, booked_at=BEGIN)
        await until(lambda: _count(setup, 2))
        for minutes in (20, 10, 20, 10, 20, 10, 20, 10, 15, 30):
            clock.advance(minutes * MINUTE)
            await looked(setup, clock, *names)
        await until(lambda: _count(setup, 17))
    expected = [
        *[("remind kept", 60), ("knock kept", 110), ("begun kept", 120), ("ask kept", 165)],
        *[("remind edited", 90), ("knock edited", 140), ("begun edited", 150), ("ask edited", 195)],
        *[("remind moved-to", 120), ("knock moved-to", 170), ("begun moved-to", 180), ("ask moved-to", 225)],
        *[("knock short", 80), ("begun short", 90), ("ask short", 135)],
        *[("begun told-late", 60), ("ask told-late", 105)],
    ]
    assert await effects(setup) == sorted(expected)


async def _declared(setup: AgentSetup, count: int) -> bool:
    return bool(await setup.pool.fetchval("SELECT count(*) = $1 FROM slotwire.agent_schedules", count))


async def test_missed_moments_are_done_late_or_not(setup: AgentSetup, bookings: Bookings) -> None:
    """After a stop each is caught up as it was declared; never before the start once that is over; none after days."""
    clock = bookings.clock
    await bookings.add("ACME")
    async with running_agents(setup.runner(reminding(), clock=clock, **SOON)):
        await until(lambda: _declared(setup, 4))
    await bookings.book("over", BEGIN + 3 * HOUR - MINUTE)
    await bookings.book("soon", BEGIN + MAX_LATE + 3 * HOUR + 5 * MINUTE)
    await bookings.book("ago", BEGIN + HOUR)
    clock.advance(MAX_LATE + 3 * HOUR)
    async with running_agents(setup.runner(reminding(), clock=clock, **SOON)):
        await looked(setup, clock, "remind", "knock", "begun", "ask")
        await until(lambda: _count(setup, 2))
    late = int((MAX_LATE + 3 * HOUR - 5 * MINUTE) / MINUTE)
    assert await effects(setup) == [("ask over", 224), ("knock soon", late)]
    rows = await setup.pool.fetch("SELECT schedule, passed FROM slotwire.agent_schedules ORDER BY schedule")
    assert [tuple(row) for row in rows] == [("ask", 1), ("begun", 2), ("knock", 2), ("remind", 3)]


async def test_a_moment_that_waits_is_dropped_when_its_booking_changes(setup: AgentSetup, bookings: Bookings) -> None:
    """One that failed and is to be tried again asks first whether it still belongs to its booking."""
    agent, clock = Agent("hesitant"), bookings.clock
    tried: list[str] = []

    @agent.at(after_start=timedelta(0))
    async def begun(moment: Moment, ctx: Context) -> Retry:
        del ctx
        tried.append(moment.invitee)
        return Retry(after=60)

    await bookings.add("ACME")
    for name in ("kept", "canceled", "edited"):
        await bookings.book(name, BEGIN + HOUR)
    async with running_agents(setup.runner(agent, clock=clock, **SOON)):
        await until(lambda: _declared(setup, 1))
        clock.advance(HOUR)
        await until(lambda: len(tried) == 3)
        await bookings.cancel("canceled")
        await bookings.move("edited", BEGIN + 2 * HOUR)
        clock.advance(2 * MINUTE)
        await until(lambda: len(tried) == 4)
    assert tried[3] == invitee_of("kept")


async def test_a_grant_is_for_a_firing_that_waits_or_runs(setup: AgentSetup, bookings: Bookings) -> None:
    """That of a moment is for its meeting and host; that of the clock for a connected user of its organization."""
    agent, clock = Agent("asking"), bookings.clock
    grants: list[Any] = []
    refused: list[str] = []
    ids: list[UUID] = []

    async def ask(ctx: Context, user: str | None) -> None:
        try:
            await ctx.calls.grant_firing(ctx.event.id, user)
        except RequestRefused as error:
            refused.append(error.code)
        ids.append(ctx.event.id)

    @agent.every(HOUR)
    async def hourly(firing: Firing, ctx: Context) -> None:
        del firing
        for user in (None, HOST, "https://api.calendly.com/users/OTHER"):
            await ask(ctx, user)

    @agent.at(before_start=HOUR)
    async def remind(moment: Moment, ctx: Context) -> None:
        del moment
        for user in (None, HOST):
            await ask(ctx, user)

    await bookings.add("ACME")
    await bookings.book("kept", BEGIN + 2 * HOUR)
    await bookings.owner.execute(
        "INSERT INTO slotwire.connections"
        " (id, org, kind, user_uri, credential_id, sealed, state, checked_at, created_at, changed_at) VALUES"
        " (gen_random_uuid(), 'ACME', 'personal_access_token', $1, gen_random_uuid(), '', 'active', $2, $2, $2)",
        *(HOST, BEGIN),
    )
    async with running_agents(setup.runner(agent, clock=clock, **SOON)):
        await until(lambda: _declared(setup, 2))
        clock.advance(HOUR)
        await until(lambda: len(ids) == 5)
    assert refused == ["not_found", "not_found"]
    grants = await bookings.owner.fetch("SELECT org, user_uri, scheduled_event FROM slotwire.call_grants")
    meeting = EVENTS + "kept"
    assert sorted(map(tuple, grants), key=str) == sorted(
        [("ACME", None, None), ("ACME", HOST, None), ("ACME", HOST, meeting)], key=str
    )
    over = ControlledCalls(setup.pool, ControlClient(""), agent="asking", clock=clock)
    with pytest.raises(RequestRefused, match="this firing is over"):
        await over.grant_firing(ids[0], None)
