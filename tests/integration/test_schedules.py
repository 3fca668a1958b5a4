"""Scheduled work on real servers: once for each firing, whoever runs, and however long nobody did."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from slotwire.handlers import Agent, Context, Firing, Moment, Reject, Retry
from slotwire.handlers.reach.calendly import ControlledCalls
from slotwire.handlers.schedule.schedule_store import MAX_WAITING
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.agent_filter import AgentFilter
from slotwire.ingest.operate.schedule_pages import LATE_AFTER, read_page
from tests.support.agent_setup import AgentSetup, agent_setup, running_agents, until
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
    noted,
    queue_is_empty,
)
from tests.support.schedules_setup import EVENTS, HOST, Bookings, bookings_of


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
    labels = {"agent": "hourly", "schedule": "skipped", "outcome": "passed"}
    passed = REGISTRY.get_sample_value("slotwire_firings_total", labels) or 0
    await bookings.add("ACME", "BETA", "GONE")
    await bookings.remove("GONE")
    async with running_agents(*(setup.runner(hourly(), clock=clock, **SOON) for _ in range(2))):
        await looked(setup, clock, "caught_up", "skipped")
        clock.advance(HOUR)
        await until(lambda: counted(setup, 4))
    first = [(f"{name} {org} {org.lower()}", 60) for name in ("caught_up", "skipped") for org in ("ACME", "BETA")]
    assert await effects(setup) == sorted(first)

    clock.advance(5 * HOUR + 2 * MINUTE)
    await bookings.add("LATE")
    async with running_agents(setup.runner(hourly(), clock=clock, **SOON)):
        await until(lambda: counted(setup, 6))
        clock.advance(58 * MINUTE)
        await until(lambda: counted(setup, 12))
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
    none = await slotwire("agents", "schedule", "list", env=setup.environment())
    assert none.stderr == "agent list has no scheduled work here, or has not run yet\n"
    due = BEGIN + 8 * HOUR
    for now, late in ((due - HOUR, 0), (due + LATE_AFTER, 0), (due + 2 * HOUR, 7_200)):
        page = await read_page(setup.pool, AgentFilter("BETA"), behind=None, limit=2, now=now)
        assert [each.late_seconds for each in page] == [late, late]
    assert REGISTRY.get_sample_value("slotwire_firings_total", labels) == passed + 5


async def test_firings_for_which_too_many_wait_are_counted(setup: AgentSetup, bookings: Bookings) -> None:
    """Up to MAX_WAITING of a schedule wait for an organization; what comes then is passed over, and told as such."""
    agent, clock = Agent("crowded"), bookings.clock

    @agent.every(HOUR)
    async def busy(firing: Firing, ctx: Context) -> Retry:
        return Retry(after=timedelta(days=20).total_seconds())

    await bookings.add("ACME")
    async with running_agents(setup.runner(agent, clock=clock, **SOON)):
        await looked(setup, clock, "busy")
        for _ in range(MAX_WAITING + 1):
            clock.advance(HOUR)
            await until(lambda: _has_come_to(setup, clock.now()))
    (row,) = await setup.pool.fetch("SELECT fired, passed, fired_due, passed_due FROM slotwire.agent_schedules")
    assert tuple(row) == (MAX_WAITING, 1, BEGIN + MAX_WAITING * HOUR, clock.now())
    labels = {"agent": "crowded", "schedule": "busy", "outcome": "passed"}
    assert REGISTRY.get_sample_value("slotwire_firings_total", labels) == 1


async def _has_come_to(setup: AgentSetup, time: datetime) -> bool:
    return bool(await setup.pool.fetchval("SELECT reached = $1 FROM slotwire.agent_schedules", time))


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
        await until(lambda: queue_is_empty(setup))
        driven = "SELECT slotwire.redrive_letters($1, ARRAY[$2::uuid], NULL, false, 10)"
        assert await bookings.owner.fetchval(driven, clock.now(), row["id"]) == row["id"]
        await until(lambda: counted(setup, 1))
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
        await until(lambda: queue_is_empty(setup))
        decide = "SELECT slotwire.decide_approval(id, digest, true, 'me', $1) FROM slotwire.approvals"
        assert await bookings.owner.fetchval(decide, clock.now())
        await until(lambda: counted(setup, 1))


async def _asked(setup: AgentSetup) -> bool:
    return bool(await setup.pool.fetchval("SELECT count(*) FROM slotwire.approvals"))


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
        await until(lambda: declared(setup, 2))
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


async def test_a_clock_that_was_ahead_does_not_silence_a_schedule(setup: AgentSetup, bookings: Bookings) -> None:
    """Set forward by a day and back: it goes on from the present, and what it did meanwhile is not done again."""
    agent, clock = hourly(), bookings.clock

    @agent.at(after_start=timedelta(0))
    async def begun(moment: Moment, ctx: Context) -> None:
        await noted(ctx, moment)

    await bookings.add("ACME")
    await bookings.book("tomorrow", BEGIN + 23 * HOUR)
    await bookings.book("today", BEGIN + 90 * MINUTE)
    async with running_agents(setup.runner(agent, clock=clock, **SOON)):
        await looked(setup, clock, "caught_up", "skipped", "begun")
        clock.advance(24 * HOUR)
        await until(lambda: counted(setup, 4))
        clock.advance(-23 * HOUR)
        await looked(setup, clock, "caught_up", "skipped", "begun")
        await until(lambda: queue_is_empty(setup))
        for hours in (1, 1, 20):
            clock.advance(hours * HOUR)
            await looked(setup, clock, "caught_up", "skipped", "begun")
        await until(lambda: queue_is_empty(setup))
    of = {name: [due for key, due in await effects(setup) if key.startswith(name)] for name in ("caught_up", "begun")}
    assert of["caught_up"] == [120, 180, 1380, 1440]
    assert of["begun"] == [90, 1380]
