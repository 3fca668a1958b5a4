"""Runs with steps and waits under SIGKILL: an outside effect happens once or is told as unknown, a wait ends once."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import AgentSetup, agent_setup, invitee_created
from tests.support.long_work import canceled

AGENT = """
import asyncio
from datetime import timedelta
import asyncpg
from slotwire.handlers import Agent
from slotwire.handlers.endings import StepOutcomeUnknown
from slotwire.ingest.foundation.settings import load_settings
from slotwire.schemas.events import InviteeCanceled, InviteeCreated

agent = Agent("patient")
one_by_one = asyncio.Lock()
connections = []

async def note(what, key, event):
    async with one_by_one:
        if not connections:
            connections.append(await asyncpg.connect(load_settings().database_url.get_secret_value()))
        await connections[0].execute("INSERT INTO outside (what, key, name) VALUES ($1, $2, $3)", what, key, event.key)

@agent.on(InviteeCreated)
async def follow(event, ctx):
    try:
        await ctx.step("charge", lambda key: note("charge", key, event))
    except StepOutcomeUnknown:
        await ctx.step("ask", lambda key: note("unknown", key, event), on_unknown="retry")
    canceled = await ctx.wait_for(
        InviteeCanceled,
        where=lambda other: other.sequence % 2 == 1,
        timeout=timedelta(seconds=1 if event.key.startswith("quiet") else 3600),
    )
    what = "none" if canceled is None else str(canceled.sequence)
    await ctx.step("tell", lambda key: note("told " + what, key, event), on_unknown="retry")
    async with ctx.transaction() as connection:
        await connection.execute("INSERT INTO effects (event_id, key, sequence) VALUES ($1, $2, $3)",
                                 event.id, event.key, event.sequence)
"""


@pytest.fixture
async def setup(
    database: Database, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[AgentSetup]:
    """Topics, a database, the outside's ledger and the agent's module, all of the test's own."""
    (tmp_path / "patient_agent.py").write_text(AGENT)
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("CREATE TABLE outside (what text, key text, name text); GRANT ALL ON outside TO PUBLIC")
    await owner.close()
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=2) as made:
        yield made


async def killed_again_and_again(setup: AgentSetup, folder: Path, *, kills: int, chains: int, seed: int) -> None:
    """Kill a member at any moment while bookings are followed, then let it finish, and look at what it did."""
    chance = random.Random(seed)  # noqa: S311 - a schedule that can be drawn again, no secret
    keys = [f"{'quiet' if n % 3 == 0 else 'ends'}-{n}" for n in range(chains)]
    booked = [invitee_created(key, 10 * n + 1) for n, key in enumerate(keys)]
    ends = [canceled(key, 10 * n + 2 + more) for n, key in enumerate(keys) if n % 3 for more in (0, 1)]
    await setup.publish(*booked)
    environment = {**setup.environment(), "SLOTWIRE_AGENTS__CLAIM_SECONDS": "1"}
    print(f"seed {seed}, {kills} kills, {chains} chains")  # noqa: T201 - what a repetition needs
    for number in range(kills + 1):  # the last one is not killed
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "slotwire.ingest.cli", "agents", "run", "patient_agent:agent"),
            cwd=folder,
            env=environment,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            if number == kills:
                await setup.settle(booked)
                child.terminate()
                assert await child.wait() == 0
                break
            before = await setup.pool.fetchval("SELECT count(*) FROM outside")
            wanted = before + chance.randint(1, max(1, chains // 3))
            async with asyncio.timeout(30):
                while await setup.pool.fetchval("SELECT count(*) FROM outside") < wanted:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(child.wait(), 0.01)
            if number == 0:
                await setup.publish(*ends)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    await as_promised(setup, keys, booked)


async def as_promised(setup: AgentSetup, keys: list[str], booked: list[Event[InviteeCreated]]) -> None:
    """Check that every effect outside happened once or was told as unknown, and that every wait ended once."""
    rows = await setup.pool.fetch("SELECT what, key, name FROM outside")
    charges = Counter(row["name"] for row in rows if row["what"] == "charge")
    unknown = {row["name"] for row in rows if row["what"] == "unknown"}
    assert all(count == 1 for count in charges.values()), "a step without retry is called once"
    assert {key for key in keys if not charges[key]} <= unknown, "or it is told as unknown"
    told = {(row["name"], row["what"]) for row in rows if row["what"].startswith("told")}
    expected = {(key, "told none" if n % 3 == 0 else f"told {10 * n + 3}") for n, key in enumerate(keys)}
    assert told == expected, "each wait ended once, as where says, or by its time"
    assert len({row["key"] for row in rows if row["what"].startswith("told")}) == len(keys), "one key a step"
    effects = await setup.effects()
    assert sorted(row["event_id"] for row in effects) == sorted(event.id for event in booked)
    assert await setup.pool.fetchval("SELECT count(*) FROM slotwire.runs") == 0


async def test_steps_and_waits_across_kills(setup: AgentSetup, tmp_path: Path) -> None:
    """A member killed at some moment: each charge once or told as unknown, each wait answered once, no run left."""
    await killed_again_and_again(setup, tmp_path, kills=1, chains=9, seed=5)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
async def test_steps_and_waits_across_many_kills(setup: AgentSetup, tmp_path: Path, seed: int) -> None:
    """The long form: twenty kills."""
    await killed_again_and_again(setup, tmp_path, kills=20, chains=150, seed=seed)
