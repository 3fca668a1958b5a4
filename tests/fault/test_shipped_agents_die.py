"""Digests and no-show marks while processes die and answers are lost: what Calendly has is what was told and marked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from slotwire.handlers.agents import nightly_digest, no_show_sweeper
from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.draws import Draws
from tests.support.actions_setup import ActionsSetup, actions_setup
from tests.support.agent_setup import AgentSetup, agent_setup
from tests.support.shipped_week import Door, ShippedWorld, UnsurePost, shipped_world

DAYS, DEATHS = 7, {1, 4}


@pytest.fixture
async def calendly(database: Database) -> AsyncIterator[ActionsSetup]:
    """One organization, whose agents may act."""
    async with actions_setup(database, agents=("no-show-sweeper",)) as made:
        yield made


@pytest.fixture
async def agents(
    calendly: ActionsSetup, database: Database, kafka_bootstrap: str, topic_prefix: str
) -> AsyncIterator[AgentSetup]:
    """Topics and a pool of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as made:
        yield made


async def test_a_mark_survives_the_process_that_set_it(
    calendly: ActionsSetup, agents: AgentSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after Calendly marked and before that was noted: marked once, known as our own, taken back when corrected.

    Who was marked by somebody else stays marked, and who is not known is never marked.
    """
    door = Door({"Absent": False, "Others": False})
    monkeypatch.setattr(no_show_sweeper.agent, "attendance", door)
    async with shipped_world(calendly, agents, no_show_sweeper.agent) as world:
        world.wanted()
        booked = {name: world.book(name, hours=1 + n) for n, name in enumerate(("Absent", "Others", "Unknown"))}
        await calendly.written()
        async with world.process():
            await world.begun()
        await calendly.advance(hours=3, minutes=45)
        calendly.calendly.engine.mark_no_show(booked["Others"].id)
        await calendly.written()
        world.control.loses = 1
        async with world.process():
            await world.control.lost.wait()
        async with world.process():
            await world.settled(fired=4)  # a look at each meeting, and the second at the first one
            marks = {name: world.invitee(each.id).no_show for name, each in booked.items()}
            assert {name: mark is not None for name, mark in marks.items()} == {
                "Absent": True,
                "Others": True,
                "Unknown": False,
            }
            door.came = {"Absent": True, "Others": True}
            await calendly.advance(hours=24)
            await world.settled(fired=9)
        await calendly.written()
        after = {name: world.invitee(each.id).no_show for name, each in booked.items()}
        assert after == {"Absent": None, "Others": marks["Others"], "Unknown": None}
        told = await calendly.rows("SELECT type, subject FROM slotwire.events WHERE type LIKE '%no_show%'")
        found = sorted((row["type"].split(".")[-2], row["subject"].endswith(booked["Absent"].id)) for row in told)
        assert found == [("created", False), ("created", True), ("deleted", True)]


async def drawn_day(world: ShippedWorld, draws: Draws, day: int) -> list[tuple[str, str]]:
    """Let people book, move and cancel; return what they did."""
    calendly, engine = world.calendly, world.calendly.calendly.engine
    ledger = []
    for number in range(3):
        name = f"Guest {day} {number}"
        invitee = world.book(name, hours=24 * (1 + draws.below(3)) + 2 * number)
        ledger.append(("New", name))
        if draws.chance(0.4):
            moved = engine.reschedule(invitee.id, calendly.clock.now() + timedelta(days=5, hours=number))
            invitee = next(each for each in moved.invitees if each.id != invitee.id)
            ledger.append(("Moved", name))
        if draws.chance(0.4):
            engine.cancel(invitee.id, reason="“\n09:00-09:30      “Board”")
            ledger.append(("Canceled", name))
    await calendly.written()
    return ledger


async def test_a_week_of_digests_tells_everything_once(calendly: ActionsSetup, agents: AgentSetup) -> None:
    """Processes die, answers are lost, webhooks come twice: each booking, move and end is told exactly once."""
    draws = Draws("digests", 7)
    post, ledger = UnsurePost(draws), list[tuple[str, str]]()
    async with shipped_world(calendly, agents, nightly_digest.agent) as world, AsyncExitStack() as process:
        world.wanted(post, mail="ops@example.com")
        await process.enter_async_context(world.process())
        await world.begun()
        await calendly.faults(duplicate_rate=0.5)
        for day in range(DAYS):
            now = calendly.clock.now()
            moment = now.replace(hour=18, minute=0, second=0, microsecond=0)
            moment += timedelta(days=int(moment <= now))
            await calendly.advance(seconds=(moment - now).total_seconds() - 3_600)
            ledger += await drawn_day(world, draws, day)
            post.sticks = died = day in DEATHS
            await calendly.advance(seconds=(moment - calendly.clock.now()).total_seconds())
            if died:
                await post.stuck.wait()
                post.stuck.clear()
                await process.aclose()
                await process.enter_async_context(world.process())
            await world.settled(due=moment)  # half hours before it fire, too, and tell nothing
    assert post.told() == sorted(ledger)
    assert len({mail.id for mail in post.sent}) == DAYS < len(post.sent), "some came twice, under one id"
