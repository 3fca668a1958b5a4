"""An agent in a package of its own, killed again and again while events flow, and while dead letters run again."""

from __future__ import annotations

import random
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_members import Members
from tests.support.agent_setup import (
    AgentSetup,
    agent_setup,
    in_order,
    invitee_created,
    one_effect_each,
    until,
)
from tests.support.command import slotwire

AUTHORS = """
from slotwire.handlers import Agent, Context, Reject
from slotwire.handlers.policy import GiveUpLimit
from slotwire.schemas.events import InviteeCreated

agent = Agent("ledger", limit=GiveUpLimit(run=1_000, share=1.0))

@agent.on(InviteeCreated)
async def note(event, ctx):
    if event.key.startswith("bad") and not ctx.redriven:
        return Reject("not yet")
    async with ctx.transaction() as connection:
        await connection.execute("INSERT INTO effects (event_id, key, sequence) VALUES ($1, $2, $3)",
                                 event.id, event.key, event.sequence)
"""
KEYS = 50


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


def booked(number: int) -> Event[InviteeCreated]:
    """Make the next event; each tenth is of a key that the agent gives up at first."""
    key = f"bad-{number % 50}" if number % 10 == 0 else f"key-{number % KEYS}"
    return invitee_created(key, number + 1)


async def count(setup: AgentSetup, query: str) -> int:
    """Count rows."""
    return int(await setup.pool.fetchval(f"SELECT count(*) FROM {query}"))


async def killed_while_events_flow(
    setup: AgentSetup, folder: Path, *, events: int, kills: int, named: bool
) -> Sequence[Event[InviteeCreated]]:
    """Publish events in shares, and kill a member once each has begun to be settled; every third time one leaves, too.

    Then the dead letters are driven again, and both members killed once that has begun.
    """
    seed = secrets.randbelow(10**6)
    chance = random.Random(seed)  # noqa: S311 - a schedule that can be drawn again, no secret
    published: list[Event[InviteeCreated]] = []

    async def settled(wanted: int) -> bool:
        return await count(setup, "slotwire.inbox") + await count(setup, "slotwire.dead_letters") >= wanted

    async with Members(setup, folder, AUTHORS, named=named) as members:
        flowing = kills - 2
        for turn in range(flowing):
            share = [booked(n) for n in range(len(published), events * (turn + 1) // flowing)]
            wanted = len(published) + chance.randrange(1, len(share))
            published.extend(share)
            await setup.publish(*share)
            await until(lambda: settled(wanted), seconds=60)  # noqa: B023 - awaited before it moves on
            await members.end(chance.randrange(2), signal.SIGKILL)
            if turn % 3 == 2:
                await members.end(chance.randrange(2), signal.SIGTERM)
        await until(lambda: settled(len(published)), seconds=120)
        assert await count(setup, "slotwire.dead_letters WHERE state = 'open'") == events // 10
        driven = await slotwire("dead-letters", "redrive", "--all", "ledger", env=setup.environment())
        assert driven.code == 0, driven.stderr
        await until(lambda: settled(len(published) + 1), seconds=60)
        for place in (0, 1):
            await members.end(place, signal.SIGKILL)
        await until(lambda: settled(len(published) + events // 10), seconds=120)
        assert members.killed == kills
    sys.stdout.write(f"{kills} kills, {len(published)} events, seed {seed}\n")
    return published


async def require_one_effect_each(setup: AgentSetup, published: Sequence[Event[InviteeCreated]]) -> None:
    """One effect an event, in the order of each booking, and nothing left."""
    effects = await setup.effects()
    assert one_effect_each(effects, published)
    assert in_order(effects)
    assert await count(setup, "slotwire.agent_queue") == 0
    assert await count(setup, "slotwire.dead_letters WHERE state <> 'settled'") == 0


async def test_named_members_killed_while_events_flow_leave_one_effect_each(setup: AgentSetup, tmp_path: Path) -> None:
    """Killed with -9 while events flow, and while dead letters run again: one effect an event, in order per booking."""
    published = await killed_while_events_flow(setup, tmp_path, events=300, kills=3, named=True)
    await require_one_effect_each(setup, published)


@pytest.mark.soak
@pytest.mark.parametrize("named", [True, False])
async def test_members_killed_twenty_times_leave_one_effect_each(
    setup: AgentSetup, tmp_path: Path, *, named: bool
) -> None:
    """The long form: twenty kills while 5,000 events flow, with stable names and without."""
    published = await killed_while_events_flow(setup, tmp_path, events=5_000, kills=20, named=named)
    await require_one_effect_each(setup, published)
