"""Actions whose processes die at any await and whose answers are lost: none is doubled, and none is forgotten."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.draws import Draws
from tests.support.action_storm import FAULTS, VERBS, WEBHOOKS, Planned, Storm, percentile
from tests.support.actions_setup import ActionsSetup, actions_setup

SEED = "actions"
SAMPLE = 15
MANY = 1_000
AWAITS = 60
"""Awaits of most actions."""
PROCESSES = 2


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ActionsSetup]:
    """One organization."""
    async with actions_setup(database) as found:
        yield found


async def ended(storm: Storm, places: list[int]) -> int:
    """Settle all of them, check them, and print how and how soon they ended; return how many were intended."""
    await storm.settle(places)
    states, times = await storm.check()
    p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
    told = ", ".join(f"{verb} {state} {count}" for (verb, state), count in sorted(states.items()))
    sys.stdout.write(f"{len(storm.asked)} actions: {told}\ntime to certainty: p50 {p50:.1f} s, p99 {p99:.1f} s\n")
    return len(times)


async def test_some_actions_die_and_none_is_doubled_or_forgotten(setup: ActionsSetup, tmp_path: Path) -> None:
    """Drawn from the seed: verb, what is lost, when the webhook comes, and where the task or its process dies."""
    storm = Storm(setup, tmp_path, 20.0)
    for number in range(SAMPLE):
        draws = Draws("storm", SEED, number)
        planned = Planned(
            VERBS[number % len(VERBS)],
            draws.pick(tuple(FAULTS)),
            draws.pick(WEBHOOKS),
            1 + draws.below(AWAITS) if draws.chance(0.7) else 0,
            process=number % (SAMPLE // PROCESSES) == 0,
        )
        await storm.act(planned)
    draws = Draws("rounds", SEED)
    assert SAMPLE // 2 < await ended(storm, [1 + draws.below(AWAITS) for _ in range(4)]) <= SAMPLE


@pytest.mark.soak
async def test_actions_die_at_every_await(setup: ActionsSetup, tmp_path: Path) -> None:
    """Every verb, every lost answer, every await until it comes to its end; then at random to a thousand actions."""
    storm = Storm(setup, tmp_path, 5.0)
    for verb in VERBS:
        for fault in FAULTS:
            place = waits = 0
            while waits >= place:
                place += 1
                waits = await storm.act(Planned(verb, fault, WEBHOOKS[place % 3], place)) or place
    sys.stdout.write(f"{len(storm.asked)} actions died at each of their awaits\n")
    while len(storm.asked) < MANY:
        draws = Draws("storm", SEED, len(storm.asked))
        place, process = 1 + draws.below(AWAITS), draws.chance(0.05)
        await storm.act(Planned(draws.pick(VERBS), draws.pick(tuple(FAULTS)), draws.pick(WEBHOOKS), place, process))
    rounds = [1 + Draws("rounds", SEED, number).below(AWAITS) for number in range(30)]
    assert MANY // 2 < await ended(storm, rounds) <= len(storm.asked)
