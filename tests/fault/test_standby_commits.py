"""Commits that wait for a standby: one whose time is over does not become visible before it is replicated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.postgres import Connection, create_pool
from slotwire.ingest.foundation.postgres_readiness import commits_problem
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from slotwire.ingest.log.writer import Writer
from slotwire.ingest.receive.accept import QUERIES, AcceptRow, accept, accept_through
from tests.support.door import add_organization, let_in
from tests.support.public_endpoint import invitee_body, settings_for

SECONDS = 1.0
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """A connection of the owner that waits for no standby, with organization A made known."""
    connection = await asyncpg.connect(database.owner_url, server_settings={"synchronous_commit": "local"})
    await add_organization(connection)
    yield connection
    await connection.close()


@asynccontextmanager
async def nobody_confirms(stack: Stack) -> AsyncIterator[Connection]:
    """Let commits wait for a standby that is not there; yields a superuser's connection, which sees who waits."""
    superuser = await asyncpg.connect(stack.superuser_url, server_settings={"synchronous_commit": "local"})
    try:
        await superuser.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await superuser.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(60):
            while not await _commits_wait(stack):
                pass
        yield superuser
    finally:
        await superuser.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await superuser.execute("SELECT pg_reload_conf()")
        await _until_waiting(superuser, 0)
        await superuser.close()


async def _until_waiting(superuser: Connection, count: int) -> None:
    """Wait until so many commits wait for a standby."""
    async with asyncio.timeout(60):
        while await superuser.fetchval(_WAITING) != count:
            pass


async def _commits_wait(stack: Stack) -> bool:
    """Commit something and see whether the commit waits: the server's parts learn of the setting one by one."""
    probe = await asyncpg.connect(stack.superuser_url, server_settings={"synchronous_commit": "on"})
    try:
        await probe.execute("SELECT pg_logical_emit_message(true, 'probe', '')", timeout=SECONDS)
    except TimeoutError:
        return True
    else:
        return False
    finally:
        await probe.close()


def row() -> AcceptRow:
    """Make something to let in."""
    now = datetime.now(UTC)
    return AcceptRow(uuid4(), "A", None, "webhook", now, now, False, "", None, None, invitee_body())


async def test_an_accept_past_its_time_stays_invisible(
    breakable_stack: Stack, database: Database, owner: Connection
) -> None:
    """Cancelled, it would be visible though no standby has it; with its connection closed it is not."""
    async with AsyncExitStack() as stack:
        naive, real = [await asyncpg.connect(database.runtime_url) for _ in range(2)]
        for each in (naive, real):
            stack.callback(each.terminate)
            await accept(each, 0, [row()], now=datetime.now(UTC), seconds=20)
        superuser = await stack.enter_async_context(nobody_confirms(breakable_stack))
        with pytest.raises(TimeoutError):
            await naive.fetchrow(QUERIES["accept"], 0, datetime.now(UTC), None, [row()], timeout=SECONDS)
        async with asyncio.timeout(60):
            while await owner.fetchval("SELECT count(*) FROM slotwire.deliveries") != 3:
                pass
        with pytest.raises(DatabaseUnavailable, match="in time"):
            await accept(real, 0, [row()], now=datetime.now(UTC), seconds=SECONDS)
        await _until_waiting(superuser, 1)
        assert await owner.fetchval("SELECT count(*) FROM slotwire.deliveries") == 3


async def test_an_accept_through_a_pool_is_not_cancelled_by_the_pool_s_own_limit(
    breakable_stack: Stack, database: Database, owner: Connection
) -> None:
    """What is fetched, or ours, may take longer than a statement may: it is invisible, and `/readyz` says why."""
    limits = settings_for(database).database.model_copy(update={"statement_timeout_seconds": SECONDS})
    async with create_pool(database.runtime_url, limits, application="test") as pool:
        await accept_through(pool, 0, [row()], now=datetime.now(UTC), seconds=20)
        assert await commits_problem(pool) is None
        async with nobody_confirms(breakable_stack) as superuser:
            assert "synchronous standby that does not confirm" in str(await commits_problem(pool)), "it is not ready"
            await _until_waiting(superuser, 0)
            with pytest.raises(DatabaseUnavailable, match="in time"):
                await accept_through(pool, 0, [row()], now=datetime.now(UTC), seconds=3 * SECONDS)
            await _until_waiting(superuser, 1)
            assert await owner.fetchval("SELECT count(*) FROM slotwire.deliveries") == 1


async def test_an_append_past_its_time_stays_invisible_and_is_found_by_the_next_epoch(
    breakable_stack: Stack, database: Database, owner: Connection
) -> None:
    """Nothing of it can be read, so nothing of it is published; once it is confirmed, it is there once."""
    settings = settings_for(database)
    hurried = settings.model_copy(
        update={"database": settings.database.model_copy(update={"statement_timeout_seconds": SECONDS})}
    )
    await let_in(owner, invitee_body())
    writer = Writer(hurried, 0, SystemClock())
    await writer.take_over()
    async with nobody_confirms(breakable_stack) as superuser:
        with pytest.raises(DatabaseUnavailable, match="in time"):
            await writer.step()
        await _until_waiting(superuser, 1)
        assert await owner.fetchval("SELECT count(*) FROM slotwire.events") == 0
        with pytest.raises(DatabaseUnavailable):  # it waits for the one in flight
            await writer.take_over()
    await writer.take_over()
    assert await writer.step() == []
    assert await owner.fetchval("SELECT count(*) FROM slotwire.events") == 1
    await writer.close()
