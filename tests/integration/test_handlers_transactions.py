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

from slotwire.handlers import Agent, Context
from slotwire.handlers.database import DatabaseConnection
from slotwire.handlers.dispatch.attempt import FailedRun, RunResult, SuccessfulRun, UncountedRun, run_once
from slotwire.handlers.reach.calendly import MemoryCalls
from slotwire.handlers.reach.chains import MemoryChains
from slotwire.handlers.settle.dead_letters import GiveUpReason
from slotwire.handlers.settle.inbox import PostgresInbox
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.postgres import Connection, Pool, create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import invitee_created

TABLE = """
CREATE TABLE customers (name text PRIMARY KEY);
GRANT ALL ON customers TO PUBLIC;
INSERT INTO customers VALUES ('known');
"""
INSERT = "INSERT INTO customers VALUES ($1)"
IDLE_SECONDS = 30.0
"""A busy machine may pause for long; where a test waits for it, less is set."""
Block = Callable[[DatabaseConnection], Awaitable[object]]
Around = Callable[[Awaitable[None]], Awaitable[None]]


class Bench:
    """One event at a time through a handler that does what a test says."""

    def __init__(self, pool: Pool, owner: Connection, superuser: Connection, url: str) -> None:
        self.pool, self.owner, self.superuser, self.url = pool, owner, superuser, url
        self.idle_seconds, self._number = IDLE_SECONDS, 0

    async def run(self, block: Block, *, around: Around | None = None, seconds: float = 300) -> RunResult:
        """Run a block in the transaction of a new event."""

        async def whole(ctx: Context) -> None:
            async def inside() -> None:
                async with ctx.transaction() as connection:
                    await block(connection)

            await (inside() if around is None else around(inside()))

        return await self.run_whole(whole, seconds=seconds)

    async def run_whole(self, whole: Callable[[Context], Awaitable[None]], *, seconds: float = 300) -> RunResult:
        """Run a handler for a new event."""
        self._number += 1
        agent = Agent("crm", timeout_seconds=seconds)

        @agent.on(InviteeCreated)
        async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
            del event
            await whole(ctx)

        self.event = invitee_created("chain", self._number)
        context = Context(
            event=self.event,
            agent="crm",
            attempt=1,
            published_at=SystemClock().now(),
            started_at=SystemClock().now(),
            clock=SystemClock(),
            chains=MemoryChains(),
            calls=MemoryCalls(),
            inbox=PostgresInbox(self.pool, agent="crm", clock=SystemClock(), idle_seconds=self.idle_seconds),
        )
        return await run_once(agent, context)

    async def marked(self) -> bool:
        """Whether the last event is marked as done."""
        found: bool = await self.owner.fetchval(
            "SELECT EXISTS (SELECT FROM slotwire.inbox WHERE event_id = $1)", self.event.id
        )
        return found

    async def customers(self) -> set[str]:
        """What is in the author's table."""
        return {row["name"] for row in await self.owner.fetch("SELECT name FROM customers")}


@pytest.fixture
async def bench(database: Database, postgres_url: str) -> AsyncIterator[Bench]:
    """A table of the author's own, and a pool with a limit on idle transactions."""
    owner, superuser = await asyncpg.connect(database.owner_url), await asyncpg.connect(postgres_url)
    await owner.execute(TABLE)
    limits = DatabaseSettings(statement_timeout_seconds=IDLE_SECONDS, pool_size=2)
    try:
        async with create_pool(database.runtime_url, limits, application="test") as pool:
            yield Bench(pool, owner, superuser, postgres_url)
    finally:
        await owner.close()
        await superuser.close()


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

    result = await bench.run(block, seconds=0)
    assert isinstance(result, FailedRun)
    assert (result.reason, await bench.marked(), await bench.customers()) == ("ran longer than 0 s", False, {"known"})
    assert "test_handlers_transactions.py" in result.trace, "its author's line is told"


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
