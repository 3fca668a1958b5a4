"""Seeded days: people book, move and cancel, processes stop and start, and each moment fires once or not at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import asyncpg
import pytest

from slotwire.handlers import Agent, Context, Moment
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.local.databases import Database
from tests.support.agent_setup import NOTE_EFFECT, AgentSetup, agent_setup, running_agents, until
from tests.support.firing_setup import BEGIN, MINUTE, SOON, declared, looked, queue_is_empty
from tests.support.schedules_setup import EVENTS, Bookings

SHIFTS = {"knock": -10 * MINUTE, "begun": timedelta(0), "ask": 35 * MINUTE}
"""Of each moment, from the start of a meeting of 30 minutes."""
Fired = tuple[str, int]
"""A moment and its meeting, `knock m1`, and how many minutes after the beginning it was due."""


@dataclass
class Day:
    """A day of an agent, and what of it has to be fired.

    Attributes:
        must: moments whose booking was active at that time, when they came.
        may: moments that had come when their booking was made or moved: they are found late, unless it changes before.
        starts: of the active bookings, by name.
    """

    bookings: Bookings
    drawn: Random
    must: set[Fired] = field(default_factory=set)
    may: set[Fired] = field(default_factory=set)
    starts: dict[str, datetime] = field(default_factory=dict)
    _booked: int = 0

    async def change(self) -> None:
        """Have somebody book, move a meeting or cancel one."""
        now = self.bookings.clock.now()
        start = now + self.drawn.randrange(1, 40) * MINUTE
        what = self.drawn.choice(("book", "book", "move", "cancel"))
        if what == "book" or not self.starts:
            self._booked += 1
            name = f"m{self._booked}"
            await self.bookings.book(name, start)
            self.starts[name] = start
            self.may |= {self._fired(kind, name) for kind, shift in SHIFTS.items() if start + shift == now}
            return
        name = self.drawn.choice(sorted(self.starts))
        if what == "cancel":
            await self.bookings.cancel(name)
            del self.starts[name]
            return
        await self.bookings.move(name, start)
        self.starts[name] = start
        self.may |= {self._fired(kind, name) for kind, shift in SHIFTS.items() if start + shift <= now}

    def pass_time(self, minutes: int) -> None:
        """Move the clock, and note what has to fire by that."""
        clock = self.bookings.clock
        before = clock.now()
        clock.advance(minutes * MINUTE)
        for name, start in self.starts.items():
            for kind, shift in SHIFTS.items():
                over = kind == "knock" and start <= clock.now() and clock.now() - (start + shift) > MINUTE
                if before < start + shift <= clock.now() and not over:
                    self.must.add(self._fired(kind, name))

    def _fired(self, kind: str, name: str) -> Fired:
        return f"{kind} {name}", int((self.starts[name] + SHIFTS[kind] - BEGIN) / MINUTE)


def concierge() -> Agent:
    """An agent with moments of each kind, which are done late where they were missed."""
    agent = Agent("concierge")

    async def note(moment: Moment, ctx: Context) -> None:
        async with ctx.transaction() as connection:
            about = f"{moment.schedule} {moment.scheduled_event.removeprefix(EVENTS)}"
            await connection.execute(NOTE_EFFECT, moment.id, about, int((moment.due - BEGIN) / MINUTE))

    agent.at(before_start=10 * MINUTE, name="knock")(note)
    agent.at(after_start=timedelta(0), name="begun")(note)
    agent.at(after_end=5 * MINUTE, name="ask")(note)
    return agent


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 30))])
async def test_each_moment_fires_once_whatever_happens(
    database: Database, kafka_bootstrap: str, topic_prefix: str, seed: int
) -> None:
    """What its bookings say when it comes is what fires, once, by whichever process; a failure names its seed."""
    owner = await asyncpg.connect(database.owner_url)
    day = Day(Bookings(owner, ManualClock(BEGIN)), Random(seed))  # noqa: S311 - no secret
    clock, drawn = day.bookings.clock, day.drawn
    try:
        async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as setup:
            await day.bookings.add("ACME")
            for life in range(4):
                if life:
                    day.pass_time(drawn.randrange(1, 90))
                async with running_agents(
                    *(setup.runner(concierge(), clock=clock, **SOON) for _ in range(drawn.randrange(1, 3)))
                ):
                    await until(lambda: declared(setup, len(SHIFTS)))
                    await settled(setup, clock)
                    for _ in range(8):
                        for _ in range(drawn.randrange(4)):
                            await day.change()
                        day.pass_time(drawn.randrange(1, 9))
                        await settled(setup, clock)
            fired = Counter((row["key"], row["sequence"]) for row in await setup.effects())
    finally:
        await owner.close()
    assert {each: count for each, count in fired.items() if count > 1} == {}, seed
    assert day.must - fired.keys() == set(), f"seed {seed}: not fired"
    assert fired.keys() - day.must - day.may == set(), f"seed {seed}: fired, and should not have"
    assert len(day.must) > 20


async def settled(setup: AgentSetup, clock: ManualClock) -> None:
    """Wait until what has come was handled."""
    await looked(setup, clock, *SHIFTS)
    await until(lambda: queue_is_empty(setup))
