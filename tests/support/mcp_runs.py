"""A handler that runs beside the MCP server: in this process, or in one of its own that is killed while it runs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from slotwire.handlers import Agent, Context, Event
from slotwire.handlers.author.past_events import past_event
from slotwire.handlers.reach.calendly import ControlledCalls
from slotwire.handlers.registry import Handler
from slotwire.handlers.testing import RecordResult, Trial
from slotwire.ingest.foundation.clock import Clock, ManualClock
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import Settings, load_settings
from slotwire.schemas.events import InviteeCreated
from tests.support import fork_server
from tests.support.actions_setup import ActionsSetup
from tests.support.children import environment
from tests.support.mcp_server import McpWorld
from tests.support.public_endpoint import with_role

HANDLERS = "concierge"
"""The agent whose handlers run."""


async def event_of(setup: ActionsSetup, invitee: str) -> UUID:
    """Return the id of the event that a booking was made."""
    [row] = await setup.rows("SELECT event_id FROM slotwire.events WHERE subject = $1", invitee)
    found: UUID = row["event_id"]
    return found


async def handled(settings: Settings, clock: Clock, event_id: UUID, handler: Handler) -> RecordResult:
    """Have an event of the log handled: dispatch, inbox and grants are real."""
    agent = Agent(HANDLERS)
    agent.on(InviteeCreated)(handler)
    pool_of = settings.database_url.get_secret_value()
    async with create_pool(pool_of, settings.database, application="agents") as pool:
        async with pool.acquire() as connection:
            event: Any = await past_event(connection, event_id)
        trial = Trial(agent, pool=pool, clock=clock)
        url = settings.mcp.public_url
        trial.calendly = ControlledCalls(pool, ControlClient(""), agent=HANDLERS, clock=clock, mcp_url=url)  # type: ignore[assignment]  # these are real
        [result] = await trial.deployed(agent).deliver(event)
        assert not trial.dead_letters, trial.dead_letters
        return result


@asynccontextmanager
async def running_handler(mcp: McpWorld, event_id: UUID, *, interrupted: bool = False) -> AsyncIterator[Context]:
    """Have a handler run while the block runs; yields what it was given. Its run then succeeds, or is interrupted."""
    given: asyncio.Future[Context] = asyncio.get_running_loop().create_future()
    finish = asyncio.Event()

    async def handler(_: Event[Any], ctx: Context) -> None:
        given.set_result(ctx)
        await finish.wait()

    async with asyncio.TaskGroup() as group:
        run = group.create_task(handled(of_agents(mcp), mcp.clock, event_id, handler))
        either: set[asyncio.Future[Any]] = {run, given}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        yield await given
        if interrupted:
            run.cancel()
        else:
            finish.set()


def of_agents(mcp: McpWorld) -> Settings:
    """Return the settings of a process of agents."""
    url = mcp.settings.database_url.get_secret_value().partition("role=")[0].rstrip("?&")
    there = mcp.settings.mcp.model_copy(update={"public_url": mcp.url})
    shared = mcp.settings.model_copy(update={"mcp": there, "database_url": SecretStr(url)})
    return with_role(shared, "agents")


async def killed_while_it_runs(mcp: McpWorld, event_id: UUID) -> str:
    """Have a process of its own handle an event, and end itself with SIGKILL as soon as it has a token; return that."""
    settings = of_agents(mcp)
    env = environment(settings, SLOTWIRE_MCP__PUBLIC_URL=mcp.url)
    stdin = f"{event_id}\n{mcp.clock.now().isoformat()}".encode()
    code, out, err = await asyncio.to_thread(lambda: fork_server.run((), env, stdin, entry=f"{__name__}:main"))
    assert code == -signal.SIGKILL, (code, out, err.decode())
    return out.decode()


def main() -> None:
    """Be that process."""
    event_id, now = UUID(input()), datetime.fromisoformat(input())

    async def handler(_: Event[Any], ctx: Context) -> None:
        os.write(1, (await ctx.mcp_token()).token.encode())
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(handled(load_settings(), ManualClock(now), event_id, handler))
