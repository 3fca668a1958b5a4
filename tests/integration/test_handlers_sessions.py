"""A handler's transaction has a session of its own while it lasts, and leaves nothing of it behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from slotwire.handlers.database import DatabaseConnection
from slotwire.handlers.dispatch.attempt import FailedRun, SuccessfulRun
from slotwire.ingest.local.databases import Database
from tests.support.block_bench import INSERT, Bench, block_bench


@pytest.fixture
async def bench(database: Database, postgres_url: str) -> AsyncIterator[Bench]:
    """A table of the author's own, and a pool with a limit on idle transactions."""
    async with block_bench(database, postgres_url) as made:
        yield made


SESSION = """
SELECT pg_backend_pid() AS pid, current_setting('work_mem') AS work_mem,
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
    (SELECT count(*) FROM pg_cursors WHERE is_holdable) AS cursors
"""


@pytest.mark.filterwarnings("ignore:.*active notification listener")  # asyncpg's, for the author
@pytest.mark.parametrize("listens", [False, True])
async def test_nothing_of_a_block_outlasts_it(bench: Bench, listens: bool) -> None:
    """The next run has the same session, as new; who has kept the connection is refused."""
    kept: list[Any] = []
    found: list[Any] = []
    heard: list[Any] = []

    async def block(connection: Any) -> None:
        kept.append(connection)
        if listens:
            await connection.add_listener("chatter", lambda *said: heard.append(said))
        await connection.execute("SET work_mem = '1MB'")
        await connection.execute("SELECT pg_advisory_lock(7)")
        await connection.execute("DECLARE held CURSOR WITH HOLD FOR SELECT 1")
        found.append(await connection.fetchrow(SESSION))

    async def look(connection: DatabaseConnection) -> None:
        found.append(await connection.fetchrow(SESSION))

    assert await bench.run(block) == SuccessfulRun(marked=True)
    with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
        await kept[0].execute("SELECT")
    assert await bench.run(look) == SuccessfulRun(marked=True)
    (pid, *before), after = found
    assert before == ["1MB", 1, 1]
    assert tuple(after) == (pid, "4MB", 0, 0)
    if listens:  # one that was forgotten by the server only would not be begun again
        again: asyncio.Queue[Any] = asyncio.Queue()
        async with bench.pool.acquire() as session, asyncio.timeout(60):
            assert session.get_server_pid() == pid
            hear = lambda *said: again.put_nowait(said)  # noqa: E731 - asyncpg keeps it by its identity
            await session.add_listener("chatter", hear)
            await session.execute("SELECT pg_notify('chatter', 'hello')")
            assert (await again.get())[-1] == "hello"
            await session.remove_listener("chatter", hear)
        assert heard == []


async def test_a_statement_that_begins_behind_the_commit_meets_no_other_run(bench: Bench) -> None:
    """What a block leaves behind uses the connection once that is free: it is closed, and the next run has one."""
    left: list[asyncio.Task[str]] = []

    async def use(connection: DatabaseConnection) -> str:
        while True:
            try:
                return await connection.execute("SELECT pg_sleep(60)")
            except asyncpg.InterfaceError as error:
                if "another operation is in progress" not in str(error):
                    raise
            await asyncio.sleep(0)

    async def block(connection: DatabaseConnection) -> None:
        left.append(asyncio.create_task(use(connection)))  # nothing waits from here to the commit

    assert await bench.run(block) == SuccessfulRun(marked=True)
    assert await bench.run(lambda connection: connection.execute("SELECT")) == SuccessfulRun(marked=True)
    (ended,) = await asyncio.gather(*left, return_exceptions=True)
    assert isinstance(ended, asyncpg.ConnectionDoesNotExistError)


async def test_a_logger_of_the_authors_own_is_told_beside_us(bench: Bench) -> None:
    """It hears of the statements of the block, and an error that the block catches is noticed all the same."""
    told: list[str] = []

    async def block(connection: Any) -> None:
        with connection.query_logger(lambda statement: told.append(statement.query)):
            await connection.execute(INSERT, "new")
            with suppress(asyncpg.UniqueViolationError):
                await connection.execute(INSERT, "known")
            with suppress(asyncpg.InFailedSQLTransactionError):
                await connection.fetch("SELECT 1")
            await asyncio.sleep(0)  # asyncpg tells a turn of the loop later

    result = await bench.run(block)
    assert isinstance(result, FailedRun)
    assert "the handler caught UniqueViolationError of a statement" in result.reason
    assert told == [INSERT, INSERT, "SELECT 1"]
