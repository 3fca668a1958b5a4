"""One event at a time through a handler that does what a test says in its transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from slotwire.handlers import Agent, Context
from slotwire.handlers.database import DatabaseConnection
from slotwire.handlers.dispatch.attempt import RunResult, run_once
from slotwire.handlers.reach.calendly import MemoryCalls
from slotwire.handlers.reach.chains import MemoryChains
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


@asynccontextmanager
async def block_bench(database: Database, postgres_url: str) -> AsyncIterator[Bench]:
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
