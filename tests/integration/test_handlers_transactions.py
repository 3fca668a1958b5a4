"""Nothing counts as done that did not commit: whatever a handler does in `ctx.transaction()`, effect and mark agree."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slotwire.handlers import Context
from slotwire.handlers.database import DatabaseConnection
from slotwire.handlers.dispatch import interruption
from slotwire.handlers.dispatch.attempt import FailedRun, SuccessfulRun, UncountedRun
from slotwire.handlers.settle.dead_letters import GiveUpReason
from slotwire.ingest.local.databases import Database
from tests.support.block_bench import IDLE_SECONDS, INSERT, Bench, Block, block_bench


@pytest.fixture
async def bench(database: Database, postgres_url: str) -> AsyncIterator[Bench]:
    """A table of the author's own, and a pool with a limit on idle transactions."""
    async with block_bench(database, postgres_url) as made:
        yield made


async def known(connection: DatabaseConnection) -> None:
    """Insert a customer that is there already, and go on as if nothing had happened."""
    await connection.execute(INSERT, "new")
    with suppress(asyncpg.UniqueViolationError):
        await connection.execute(INSERT, "known")


async def test_a_caught_error_of_a_statement_is_a_failed_run(bench: Bench) -> None:
    """Postgres has undone everything: neither effect nor mark is there, and the reason names the error."""
    result = await bench.run(known)
    assert isinstance(result, FailedRun)
    assert "the handler caught UniqueViolationError of a statement" in result.reason
    assert (await bench.customers(), await bench.marked()) == ({"known"}, False)


async def test_a_savepoint_undoes_a_part(bench: Bench) -> None:
    """`async with connection.transaction()` around the statement keeps the rest, and the event is done."""

    async def block(connection: DatabaseConnection) -> None:
        await connection.execute(INSERT, "new")
        with suppress(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute(INSERT, "known")

    assert await bench.run(block) == SuccessfulRun(marked=True)
    assert (await bench.customers(), await bench.marked()) == ({"known", "new"}, True)


@pytest.mark.parametrize("statement", ["ROLLBACK", "ROLLBACK; BEGIN", "ROLLBACK AND CHAIN"])
async def test_a_transaction_that_the_handler_ends_is_a_failed_run(bench: Bench, statement: str) -> None:
    """The mark is gone with it, even where another transaction is open in its place."""

    async def block(connection: DatabaseConnection) -> None:
        await connection.execute(statement)
        await connection.execute("SELECT 1")

    result = await bench.run(block)
    assert isinstance(result, FailedRun)
    assert "the handler ended its transaction" in result.reason
    assert not await bench.marked()
    assert await bench.run(lambda connection: connection.execute(INSERT, "next")) == SuccessfulRun(marked=True)


@pytest.mark.parametrize("more", ["", "; BEGIN"])
async def test_a_mark_that_the_handler_commits_becomes_a_dead_letter(bench: Bench, more: str) -> None:
    """The event cannot be tried again, and what came after the COMMIT is not there: somebody has to be told."""

    async def ending(connection: DatabaseConnection) -> None:
        await connection.execute(INSERT, "new")
        await connection.execute(f"COMMIT{more}")

    async def failing(connection: DatabaseConnection) -> None:
        await ending(connection)
        raise ValueError

    for block in (ending, failing):
        result = await bench.run(block)
        assert isinstance(result, GiveUpReason)
        assert "the handler ended its transaction" in result.reason
        assert await bench.marked()
        await bench.owner.execute("DELETE FROM customers WHERE name = 'new'")


@pytest.mark.parametrize("error", [known, None], ids=["of a statement", "of the block"])
async def test_what_is_caught_outside_the_block_does_not_help(bench: Bench, error: Block | None) -> None:
    """A handler that catches what the transaction raises has failed all the same: its effect is not there."""

    async def around(inside: Awaitable[None]) -> None:
        with suppress(Exception):
            await inside

    async def failing(connection: DatabaseConnection) -> None:
        await connection.execute(INSERT, "new")
        raise ValueError

    result = await bench.run(error or failing, around=around)
    assert isinstance(result, FailedRun)
    assert "rolled back" in result.reason
    assert (await bench.customers(), await bench.marked()) == ({"known"}, False)


async def test_a_lost_connection_costs_no_attempt(bench: Bench) -> None:
    """Postgres ends the session in the middle: the run does not count, whether the handler notices or not."""

    async def kill(connection: DatabaseConnection) -> None:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        await bench.superuser.execute("SELECT pg_terminate_backend($1, 5000)", pid)

    async def noticing(connection: DatabaseConnection) -> None:
        await kill(connection)
        await connection.execute(INSERT, "new")

    async def swallowing(connection: DatabaseConnection) -> None:
        with suppress(Exception):
            await noticing(connection)

    for block in (kill, noticing, swallowing):
        assert isinstance(await bench.run(block), UncountedRun), block
        assert (await bench.customers(), await bench.marked()) == ({"known"}, False)


async def twice(connection: DatabaseConnection) -> None:
    """Use the connection for two statements at once."""
    await asyncio.gather(connection.execute("SELECT pg_sleep(60)"), connection.execute(INSERT, "new"))


async def left_running(connection: DatabaseConnection) -> None:
    """End the block while a statement runs."""
    RUNNING.append(asyncio.create_task(connection.execute("SELECT pg_sleep(60)")))
    await asyncio.sleep(0)


async def closed(connection: DatabaseConnection) -> None:
    """Close the connection, which is the runtime's."""
    await connection.execute(INSERT, "new")
    session: Any = connection
    await session.close()


async def unawaited(connection: DatabaseConnection) -> None:
    """Forget `await`."""
    connection.execute(INSERT, "new")  # type: ignore[unused-coroutine]  # the mistake


RUNNING: list[asyncio.Task[str]] = []


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (twice, "for two statements at once"),
        (left_running, "left one running"),
        (closed, "closed the connection"),
        (unawaited, "was never awaited: integration/test_handlers_transactions.py:"),
    ],
)
async def test_a_connection_that_the_handler_spoils_is_its_own_fault(bench: Bench, block: Block, why: str) -> None:
    """It is a failed run, which counts, and no outage that is waited for; nothing is left, and the next run works."""
    result = await bench.run(block)
    assert isinstance(result, FailedRun)
    assert why in result.reason
    await asyncio.gather(*(RUNNING.pop() for _ in range(len(RUNNING))), return_exceptions=True)
    assert (await bench.customers(), await bench.marked()) == ({"known"}, False)
    assert await bench.run(lambda connection: connection.execute(INSERT, "next")) == SuccessfulRun(marked=True)


async def test_a_block_that_idles_too_long_is_told_the_limit(bench: Bench) -> None:
    """Postgres ends a transaction without statements: the run has failed, and the reason names the setting."""
    bench.idle_seconds = 0.1

    async def block(connection: DatabaseConnection) -> None:
        closed = asyncio.Event()
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == f"{IDLE_SECONDS:.0f}s"
        await connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{bench.idle_seconds}s'")
        async with asyncio.timeout(60):
            while await bench.owner.fetchval("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid):
                with suppress(TimeoutError):
                    await asyncio.wait_for(closed.wait(), 0.02)
        with suppress(TimeoutError):  # the pause is counted from the answer, which came after it was sent
            await asyncio.wait_for(closed.wait(), bench.idle_seconds)
        await connection.execute(INSERT, "new")

    result = await bench.run(block)
    assert isinstance(result, FailedRun)
    assert "SLOTWIRE_DATABASE__STATEMENT_TIMEOUT_SECONDS" in result.reason
    assert not await bench.marked()


async def test_a_cancelled_run_leaves_nothing(bench: Bench) -> None:
    """A run that is interrupted in its transaction undoes it, and the connection serves the next one."""
    inside = asyncio.Event()

    async def block(connection: DatabaseConnection) -> None:
        await connection.execute(INSERT, "new")
        inside.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(bench.run(block))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await bench.customers(), await bench.marked()) == ({"known"}, False)
    assert await bench.run(lambda connection: connection.execute(INSERT, "next")) == SuccessfulRun(marked=True)


STEPS = st.lists(
    st.sampled_from(["insert", "caught", "savepoint", "savepoint caught", "ROLLBACK", "COMMIT", "raise", "kill"]),
    max_size=5,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, swallow=st.booleans())
async def test_effect_and_mark_agree(bench: Bench, steps: list[str], swallow: bool) -> None:
    """Any mixture of errors, savepoints, ends and kills: done exactly where the last insert and the mark are there.

    A handler that commits the mark by a statement of its own gets a dead letter, unless its connection is lost then.
    """
    name = f"c{bench._number}"

    async def block(connection: DatabaseConnection) -> None:
        for step in steps:
            await play(bench, connection, step)
        await connection.execute(INSERT, name)

    async def around(inside: Awaitable[None]) -> None:
        with suppress(Exception):
            await inside

    result = await bench.run(block, around=around if swallow else None)
    done, marked = isinstance(result, SuccessfulRun), await bench.marked()
    if marked and not done:
        assert "COMMIT" in steps
        assert isinstance(result, GiveUpReason) or "kill" in steps
    else:
        assert done == marked
    if done:
        assert name in await bench.customers()


async def play(bench: Bench, connection: DatabaseConnection, step: str) -> None:
    """Do one step of a mixture."""
    match step:
        case "insert":
            await connection.execute("INSERT INTO customers VALUES (gen_random_uuid()::text)")
        case "caught":
            with suppress(asyncpg.PostgresError):
                await connection.execute(INSERT, "known")
        case "savepoint":
            async with connection.transaction():
                await connection.execute("INSERT INTO customers VALUES (gen_random_uuid()::text)")
        case "savepoint caught":
            with suppress(asyncpg.UniqueViolationError):
                async with connection.transaction():
                    await connection.execute(INSERT, "known")
        case "raise":
            raise ValueError
        case "kill":
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            await bench.superuser.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        case _:
            await connection.execute(step)


async def test_a_run_that_blocks_the_loop_past_its_time_and_its_connection_has_failed(bench: Bench) -> None:
    """Its connection has gone meanwhile: that is not Postgres being away, or it would be tried again without end."""

    async def block(connection: DatabaseConnection) -> None:
        await connection.execute(INSERT, "blocked")
        server = await connection.fetchval("SELECT pg_backend_pid()")

        async def end() -> None:
            other = await asyncpg.connect(bench.url)
            await other.execute("SELECT pg_terminate_backend($1, 10000)", server)
            await other.close()

        ending = threading.Thread(target=lambda: asyncio.run(end()))
        ending.start()
        ending.join()
        threading.Event().wait(1)

    await bench.run(lambda connection: connection.execute("SELECT"))  # so that no time goes by with connecting
    result = await bench.run(block, seconds=1)
    assert isinstance(result, FailedRun)
    assert (result.reason, await bench.marked(), await bench.customers()) == ("ran longer than 1 s", False, {"known"})
    assert "block_bench.py" in result.trace, "its author's line is told"


def run_elsewhere(asks: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Ask in a loop of this thread's own."""
    asyncio.run(asks())


async def test_what_another_loop_asks_the_context_is_refused(bench: Bench) -> None:
    """A connection of ours that another thread's loop used would fail the runs of others, or end the process."""

    async def ask(ctx: Context) -> None:
        async def use() -> None:
            async with ctx.transaction() as connection:
                await connection.execute(INSERT, "elsewhere")

        for asks in (use, ctx.booking, ctx.state.get):
            with pytest.raises(RuntimeError, match="belongs to the event loop of the handler"):
                await asyncio.to_thread(run_elsewhere, asks)
        async with ctx.transaction() as connection:
            await connection.execute(INSERT, "here")

    assert await bench.run_whole(ask) == SuccessfulRun(marked=True)
    assert await bench.customers() == {"known", "here"}


async def test_a_deaf_run_whose_connection_is_gone_is_let_go(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends a transaction that idles, and so one of a run that waits without end: its attempt counts."""
    monkeypatch.setattr(interruption, "LET_END_SECONDS", 0)

    async def block(connection: DatabaseConnection) -> None:
        server = await connection.fetchval("SELECT pg_backend_pid()")
        await bench.superuser.execute("SELECT pg_terminate_backend($1, 10000)", server)
        while True:
            with suppress(BaseException):
                await asyncio.Event().wait()

    await bench.run(lambda connection: connection.execute("SELECT"))  # so that no time goes by with connecting
    result = await bench.run(block, seconds=0.2)
    assert isinstance(result, FailedRun)
    assert result.reason.startswith("ran longer than 0.2 s and caught its interruption, at ")
    assert await bench.pool.fetchval("SELECT true"), "its place in the pool is free"
