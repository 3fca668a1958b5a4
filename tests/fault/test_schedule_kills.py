"""Scheduled work whose process is killed between due and done: another one does it, once in effect."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.local.databases import Database
from tests.support.agent_setup import AgentSetup, agent_setup, until
from tests.support.fork_server import Forked
from tests.support.schedules_setup import Bookings, invitee_of

AUTHORS = """
import asyncio
import os
from datetime import timedelta
from pathlib import Path

from slotwire.handlers import Agent

agent = Agent("sweeper")

@agent.at(after_start=timedelta(0))
async def sweep(moment, ctx):
    async with ctx.transaction() as connection:
        await connection.execute("INSERT INTO effects (event_id, key, sequence) VALUES ($1, $2, $3)",
                                 moment.id, moment.invitee, ctx.attempt)
        if not Path("killed").exists():
            Path("at-work.new").write_text(str(os.getpid()))
            Path("at-work.new").rename("at-work")
            await asyncio.Event().wait()
"""


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as made:
        yield made


async def test_a_killed_process_leaves_its_firing_to_another(
    setup: AgentSetup, database: Database, tmp_path: Path
) -> None:
    """Of two processes one fires; it is killed in the transaction of its handler, and the other one does it again.

    The moment has one effect, and was begun once for each of the two.
    """
    (tmp_path / "sweeper.py").write_text(AUTHORS)
    environment = {**setup.environment(), "SLOTWIRE_AGENTS__CLAIM_SECONDS": "1"}
    command = ("agents", "run", "sweeper:agent")
    owner = await asyncpg.connect(database.owner_url)
    running = [Forked(command, environment, tmp_path) for _ in range(2)]
    try:
        await until(lambda: _count(owner, "slotwire.agent_schedules", 1))
        now = SystemClock().now()
        bookings = Bookings(owner, ManualClock(now))
        await bookings.add("ACME")
        await bookings.book("kept", now + timedelta(seconds=0.5))
        await until((tmp_path / "at-work").exists)
        (tmp_path / "killed").touch()
        os.kill(int((tmp_path / "at-work").read_text()), signal.SIGKILL)
        await until(lambda: _count(owner, "effects", 1))
        await until(lambda: _count(owner, "slotwire.agent_queue", 0))
    finally:
        for process in running:
            process.terminate()
        ended = [await process.wait() for process in running]
        effects = await owner.fetch("SELECT key FROM effects")
        done = await owner.fetchval("SELECT count(*) FROM slotwire.inbox")
        await owner.close()
    assert sorted(ended) == [-signal.SIGKILL, 0]
    assert [row["key"] for row in effects] == [invitee_of("kept")]
    assert done == 1


LETHAL = """
import os
from datetime import timedelta

from slotwire.handlers import Agent
from slotwire.handlers.policy import RetryPolicy

agent = Agent("sweeper", retry=RetryPolicy(attempts=1, first_seconds=0.01))

@agent.at(after_start=timedelta(0))
async def sweep(moment, ctx):
    async with ctx.transaction() as connection:
        await connection.execute("INSERT INTO effects (event_id, key, sequence) VALUES ($1, $2, $3)",
                                 moment.id, moment.invitee, ctx.attempt)
        if moment.invitee.endswith("bad"):
            os._exit(70)
"""


@pytest.mark.soak
async def test_a_firing_that_ends_its_process_becomes_a_dead_letter(
    setup: AgentSetup, database: Database, tmp_path: Path
) -> None:
    """Whoever takes the lease from a dead process works with care: the others fire, and this one is given up."""
    (tmp_path / "sweeper.py").write_text(LETHAL)
    environment = {**setup.environment(), "SLOTWIRE_AGENTS__CLAIM_SECONDS": "1"}
    owner = await asyncpg.connect(database.owner_url)
    process, died = Forked(("agents", "run", "sweeper:agent"), environment, tmp_path), 0

    async def given_up() -> bool:
        nonlocal process, died
        if process.returncode is not None:
            assert process.returncode == 70
            process, died = Forked(("agents", "run", "sweeper:agent"), environment, tmp_path), died + 1
        return await _count(owner, "slotwire.dead_letters", 1)

    try:
        await until(lambda: _count(owner, "slotwire.agent_schedules", 1))
        now = SystemClock().now()
        bookings = Bookings(owner, ManualClock(now))
        await bookings.add("ACME")
        for name in ("bad", "first", "second"):
            await bookings.book(name, now + timedelta(seconds=0.5))
        await until(given_up)
        await until(lambda: _count(owner, "effects", 2))
        reason = await owner.fetchval("SELECT reason FROM slotwire.dead_letters")
        assert (reason, 3 < died <= 6) == ("its process died 3 times while it ran", True)
        await until(lambda: _count(owner, "slotwire.noted_runs", 0))
    finally:
        process.terminate()
        await process.wait()
        await owner.close()


async def _count(owner: asyncpg.Connection[asyncpg.Record], table: str, count: int) -> bool:
    return bool(await owner.fetchval(f"SELECT count(*) = $1 FROM {table}", count))
