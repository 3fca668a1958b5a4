"""Moments of bookings on real servers: at the times that a booking has then, however many come at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from slotwire.handlers import Agent, Context, Moment, Retry
from slotwire.handlers.schedule.due_firings import MAX_LATE, PAGE
from slotwire.ingest.local.databases import Database
from tests.support.agent_setup import NOTE_EFFECT, AgentSetup, agent_setup, running_agents, until
from tests.support.command import slotwire
from tests.support.firing_setup import (
    BEGIN,
    HOUR,
    MINUTE,
    SOON,
    counted,
    declared,
    effects,
    looked,
    queue_is_empty,
)
from tests.support.schedules_setup import EVENTS, Bookings, bookings_of, invitee_of


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as made:
        yield made


@pytest.fixture
async def bookings(database: Database) -> AsyncIterator[Bookings]:
    """Its organizations and bookings, at a time that the test moves."""
    async with bookings_of(database, BEGIN) as made:
        yield made


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
        await until(lambda: declared(setup, 4))
        clock.advance(HOUR - MINUTE)
        await bookings.cancel("canceled")
        await bookings.cancel("moved")
        await bookings.book("moved-to", BEGIN + 3 * HOUR)
        await bookings.move("edited", BEGIN + 2 * HOUR + 30 * MINUTE)
        await looked(setup, clock, *names)
        clock.advance(MINUTE)
        await until(lambda: counted(setup, 1))
        await bookings.book("short", BEGIN + HOUR + 30 * MINUTE)
        await bookings.book("told-late", BEGIN + HOUR, booked_at=BEGIN)
        await until(lambda: counted(setup, 2))
        for minutes in (20, 10, 20, 10, 20, 10, 20, 10, 15, 30):
            clock.advance(minutes * MINUTE)
            await looked(setup, clock, *names)
        await until(lambda: counted(setup, 17))
    expected = [
        *[("remind kept", 60), ("knock kept", 110), ("begun kept", 120), ("ask kept", 165)],
        *[("remind edited", 90), ("knock edited", 140), ("begun edited", 150), ("ask edited", 195)],
        *[("remind moved-to", 120), ("knock moved-to", 170), ("begun moved-to", 180), ("ask moved-to", 225)],
        *[("knock short", 80), ("begun short", 90), ("ask short", 135)],
        *[("begun told-late", 60), ("ask told-late", 105)],
    ]
    assert await effects(setup) == sorted(expected)


async def test_missed_moments_are_done_late_or_not(setup: AgentSetup, bookings: Bookings) -> None:
    """After a stop each is caught up as it was declared; never before the start once that is over; none after days."""
    clock = bookings.clock
    await bookings.add("ACME")
    async with running_agents(setup.runner(reminding(), clock=clock, **SOON)):
        await until(lambda: declared(setup, 4))
    await bookings.book("over", BEGIN + 3 * HOUR - MINUTE)
    await bookings.book("soon", BEGIN + MAX_LATE + 3 * HOUR + 5 * MINUTE)
    await bookings.book("ago", BEGIN + HOUR)
    clock.advance(MAX_LATE + 3 * HOUR)
    async with running_agents(setup.runner(reminding(), clock=clock, **SOON)):
        await looked(setup, clock, "remind", "knock", "begun", "ask")
        await until(lambda: counted(setup, 2))
    late = int((MAX_LATE + 3 * HOUR - 5 * MINUTE) / MINUTE)
    assert await effects(setup) == [("ask over", 224), ("knock soon", late)]
    rows = await setup.pool.fetch("SELECT schedule, passed FROM slotwire.agent_schedules ORDER BY schedule")
    assert [tuple(row) for row in rows] == [("ask", 1), ("begun", 2), ("knock", 2), ("remind", 2)]


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
        await until(lambda: declared(setup, 1))
        clock.advance(HOUR)
        await until(lambda: len(tried) == 3)
        await until(lambda: _due(setup, clock.now() + MINUTE, 3))
        await bookings.cancel("canceled")
        await bookings.move("edited", BEGIN + 2 * HOUR)
        clock.advance(2 * MINUTE)
        await until(lambda: len(tried) == 4)
    assert tried[3] == invitee_of("kept")


async def _reached(setup: AgentSetup, name: str, time: datetime) -> bool:
    reached = "SELECT reached = $2 FROM slotwire.agent_schedules WHERE schedule = $1"
    return bool(await setup.pool.fetchval(reached, name, time))


async def test_many_moments_of_one_instant_wait_before_it(setup: AgentSetup, bookings: Bookings) -> None:
    """None begins before it, and each fires once, though another process takes over; one that has changed, never."""
    agent, clock, many = Agent("crowd"), bookings.clock, PAGE + 5
    soon = timedelta(seconds=0.02)

    @agent.at(after_start=timedelta(0))
    async def begun(moment: Moment, ctx: Context) -> None:
        await noted_moment(ctx, moment)

    await bookings.add("ACME")
    runner = setup.runner(agent, clock=clock, **SOON)
    async with running_agents(runner):
        await until(lambda: declared(setup, 1))
        for number in range(many):
            await bookings.book(f"m{number}", BEGIN + soon)
        await until(lambda: _queued(setup, many))
        await bookings.cancel("m0")
        await bookings.move("m1", BEGIN + HOUR)
        assert not await setup.effects()
    async with running_agents(setup.runner(agent, clock=clock, look_interval=0.02)):
        await until(lambda: _reached(setup, "begun", BEGIN))
        clock.advance(soon)
        await until(lambda: queue_is_empty(setup))
        assert await setup.pool.fetchval("SELECT fired FROM slotwire.agent_schedules") == many
    assert sorted(key for key, _ in await effects(setup)) == sorted(f"begun m{number}" for number in range(2, many))


async def _due(setup: AgentSetup, time: datetime, count: int) -> bool:
    due = "SELECT count(*) FROM slotwire.agent_queue WHERE due_at = $1"
    return bool(await setup.pool.fetchval(due, time) == count)


async def _queued(setup: AgentSetup, count: int) -> bool:
    return bool(await setup.pool.fetchval("SELECT count(*) = $1 FROM slotwire.agent_queue", count))


async def test_odd_meetings_have_their_moments(setup: AgentSetup, bookings: Bookings) -> None:
    """One that ends when it begins or before, and one at the end of time: fired as their times say, and listed."""
    agent, clock = reminding(), bookings.clock

    await bookings.add("ACME", "OTHER")
    await bookings.book("instant", BEGIN + 2 * HOUR, minutes=0)
    await bookings.book("backwards", BEGIN + 2 * HOUR, minutes=-60)
    await bookings.book("last", datetime.max.replace(tzinfo=UTC) - MINUTE, org="OTHER", minutes=1)
    async with running_agents(setup.runner(agent, clock=clock, **SOON)):
        await until(lambda: declared(setup, 4))
        for _ in range(3):
            clock.advance(HOUR)
            await looked(setup, clock, "remind", "knock", "begun", "ask")
        await until(lambda: counted(setup, 6))
    expected = [("begun instant", 120), ("ask instant", 135), ("begun backwards", 120), ("ask backwards", 75)]
    assert await effects(setup) == sorted([*expected, ("remind instant", 60), ("remind backwards", 60)])
    listed = await slotwire("agents", "schedule", "reminding", "--json", env=setup.environment())
    assert listed.stdout, listed.stderr
    rows = list(map(json.loads, listed.stdout.splitlines()))
    due = {(row["schedule"], row["organization"]): row["due_at"] for row in rows}
    fired = {(row["schedule"], row["organization"]): (row["fired"], row["passed"]) for row in rows}
    assert [fired[name, org] for name in ("begun", "knock") for org in ("ACME", "OTHER")] == [
        *((2, 0), (0, 0)),
        *((0, 2), (0, 0)),
    ], "each organization's own"
    assert due["begun", "OTHER"].startswith("9999-12-31T23:58")
    assert (due["ask", "OTHER"][:4], due["begun", "ACME"]) == ("9999", None), "the last time that there is"


ACROSS = [
    # A meeting on a day on which clocks change, on the wall; and when it is 24 hours before it.
    ("Europe/Berlin", "2026-03-29 09:00", "2026-03-28 08:00"),
    ("Europe/Berlin", "2026-10-25 09:00", "2026-10-24 10:00"),
    ("America/New_York", "2026-03-08 09:00", "2026-03-07 08:00"),
    ("America/New_York", "2026-11-01 09:00", "2026-10-31 10:00"),
    ("Australia/Lord_Howe", "2026-04-05 09:00", "2026-04-04 09:30"),
    ("Australia/Lord_Howe", "2026-10-04 09:00", "2026-10-03 08:30"),
    ("America/Phoenix", "2026-03-08 09:00", "2026-03-07 09:00"),
]


def wall(text: str, zone: str) -> datetime:
    """Read a time on the wall of a zone."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


async def test_moments_go_by_time_and_follow_a_reschedule_across_a_change(
    setup: AgentSetup, bookings: Bookings
) -> None:
    """A day before a meeting is 24 hours, whatever the wall says; of two processes one fires, at the new time only.

    For each change: one meeting on that day, one that is moved there from the day before, and one that is moved from
    there by a week.
    """
    agent, clock, day = Agent("reminding"), bookings.clock, timedelta(days=1)
    clock.advance(datetime(2026, 2, 1, tzinfo=UTC) - clock.now())

    @agent.at(before_start=day)
    async def remind(moment: Moment, ctx: Context) -> None:
        async with ctx.transaction() as connection:
            due = int((moment.due - datetime(2026, 1, 1, tzinfo=UTC)) / MINUTE)
            await connection.execute(NOTE_EFFECT, moment.id, moment.scheduled_event.removeprefix(EVENTS), due)

    await bookings.add("ACME")
    expected, steps = list[tuple[str, int]](), list[tuple[datetime, str, datetime]]()
    for number, (zone, there, before) in enumerate(ACROSS):
        start, reminded = wall(there, zone), wall(before, zone)
        week = start + 7 * day
        steps += [(start - 3 * day, str(number), start), (reminded, "", start), (week - day, "", start)]
        for name, due in ((f"on{number}", reminded), (f"to{number}'", reminded), (f"from{number}'", week - day)):
            expected.append((name, int((due - datetime(2026, 1, 1, tzinfo=UTC)) / MINUTE)))
    async with running_agents(*(setup.runner(agent, clock=clock, **SOON) for _ in range(2))):
        await until(lambda: declared(setup, 1))
        for at, found, start in sorted(steps):
            clock.advance(at - clock.now())
            if found:
                for name, first, then in (
                    ("on", start, None),
                    ("to", start - day, start),
                    ("from", start, start + 7 * day),
                ):
                    await bookings.book(name + found, first)
                    if then is not None:
                        await bookings.cancel(name + found)
                        await bookings.book(f"{name}{found}'", then)
            await looked(setup, clock, "remind")
        await until(lambda: counted(setup, len(expected)))
    assert await effects(setup) == sorted(expected)
