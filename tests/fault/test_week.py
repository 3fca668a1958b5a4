"""A week of all the agents that come with Slotwire, while calls fail and processes die: all is as Calendly has it."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.draws import Draws
from tests.support.agent_setup import until
from tests.support.week_ledger import WeekLedger
from tests.support.week_story import WeekStory
from tests.support.week_world import ACTING, AGENTS, WeekWorld, week_world

DAYS = 7
AWAY_DAY, ENDING_DAY = 1, 2
FAILING = {"notify": 0.15, "attendance": 0.05}
"""Of what these are asked; who sends a digest waits seconds for another try."""
FAILING_LONG = {"notify": 0.3, "attendance": 0.2, "digest": 0.2, "mail": 0.2}
FAULTS: tuple[dict[str, Any], ...] = (
    {"rest_error_rate": 0.15, "rest_error_status": 500},
    {"rest_lost_answer_rate": 0.4, "rest_faults": "writes", "rest_delay_seconds": 0.1},
    {"rest_limited_rate": 0.1},
    {"rest_unanswered_rate": 0.2},
    {"rest_error_rate": 0.1, "rest_lost_answer_rate": 0.1, "rest_error_status": 503},
)
"""Of Calendly's REST API, one after the other."""
TIMEOUTS = {"rest_unanswered_rate": 0.5, "rest_delay_seconds": 21.0}
"""Longer than `control` waits."""
WEBHOOKS = {"duplicate_rate": 0.3, "lost_answer_rate": 0.2}
HOURS = (7, 11, 15, 17)
"""When something may happen in the long form."""


async def killed_while_it_acts(world: WeekWorld) -> None:
    """Kill `control` between what an action did at Calendly and its answer."""
    bookings = world.calendly.engine.bookings

    def booked() -> bool:
        rows = bookings._database.rows("SELECT event FROM invitees GROUP BY event")
        return any(each.scheduling_method for (event,) in rows for each in bookings.invitees_of(event))

    await until(booked, seconds=120)
    await world.control.kill()


async def ended(world: WeekWorld, ledger: WeekLedger, moment: datetime) -> None:
    """Let everything come to its end, send a last digest, and compare."""
    world.faults()
    await world.calm(*AGENTS)
    ledger.note(moment)
    await world.digested(moment)
    await world.calm(*AGENTS)
    await ledger.check()
    sys.stdout.write(f"{dict(ledger.counted)}\n")


async def test_some_days_end_as_calendly_has_them(
    database: Database, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Digests, availability, no-shows, moves and what is told are right, once each, whatever failed and died.

    Where they only say what they would do, nothing was changed. The agents are killed while a receiver and the mail
    server have what they sent, `control` while an action is made.
    """
    async with week_world(database, kafka_bootstrap, topic_prefix, tmp_path, failing=FAILING, together=True) as world:
        story = WeekStory(world, 1)
        ledger = WeekLedger(world, story)
        [agents] = world.agents

        async def kill(way: str) -> None:
            if way != "digest":
                await agents.kill()

        world.receivers.interrupts = kill
        moment = world.now.replace(hour=18, minute=0, second=0, microsecond=0)
        for day in range(DAYS):
            world.faults(**WEBHOOKS, **FAULTS[day % len(FAULTS)])
            await world.advance(seconds=max(0.0, (moment - timedelta(hours=11) - world.now).total_seconds()))
            story.day(day, 3)
            await world.written()
            if day == AWAY_DAY:
                story.away(day, 3)
                story.elsewhere(day)
                await killed_while_it_acts(world)
            if day == ENDING_DAY:
                story.end_an_event_type()
            await world.calm(*ACTING)
            ledger.note(moment)
            await world.digested(moment)
            await world.calm(*ACTING)
            moment += timedelta(days=1)
        await ended(world, ledger, moment)
        assert (agents.killed, world.control.killed) == (2, 1)
        counted = ledger.counted
        assert (counted["told a person why"], counted["moved"] + counted["with a person"]) == (1, 2)
        assert counted["came"] + counted["absent"], "whatever was lost, some marks are sure"


@pytest.mark.soak
@pytest.mark.parametrize("seed", [2, 3])
async def test_a_long_week_ends_as_calendly_has_it(
    seed: int, database: Database, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Each agent is a process of its own, and one of all is killed every few hours; calls time out, too."""
    draws = Draws("long week", seed)
    async with week_world(
        database, kafka_bootstrap, topic_prefix, tmp_path, failing=FAILING_LONG, together=False
    ) as world:
        story = WeekStory(world, seed)
        ledger = WeekLedger(world, story)
        processes = (world.control, *world.agents)
        midnight = world.now.replace(hour=0, minute=0, second=0, microsecond=0)
        for day in range(DAYS):
            for hour in HOURS:
                faults = TIMEOUTS if hour == HOURS[-1] and day % 3 == 0 else draws.pick(FAULTS)
                world.faults(**WEBHOOKS, **faults)
                await world.advance(seconds=max(0.0, (midnight + timedelta(hours=hour) - world.now).total_seconds()))
                if hour == HOURS[0]:
                    story.day(day, 6)
                    story.away(day, 3 if day < 3 else 0)
                    story.elsewhere(day)
                if (day, hour) == (ENDING_DAY, HOURS[1]):
                    story.end_an_event_type()
                await asyncio.sleep(2 * draws.fraction())  # a kill may come at any moment
                await draws.pick(processes).kill()
                world.faults(**WEBHOOKS)
                await world.calm(*ACTING)
            moment = midnight + timedelta(hours=18)
            ledger.note(moment)
            await world.digested(moment)
            await world.calm(*ACTING)
            midnight += timedelta(days=1)
        await ended(world, ledger, midnight + timedelta(hours=18))
        kills = {each.arguments[-1]: each.killed for each in processes}
        sys.stdout.write(f"seed {seed}, kills: {kills}\n")
        assert sum(kills.values()) == DAYS * len(HOURS)
