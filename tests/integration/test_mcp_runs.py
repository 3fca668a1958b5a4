"""Tokens of handlers' runs: each is for one chain of bookings, and ends with its run, however that ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from slotwire.handlers import Context, Event
from slotwire.handlers.results import RecordStatus
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import COMMAND_LINE
from tests.support.actions_setup import ActionsSetup
from tests.support.mcp_acting import acting_world
from tests.support.mcp_runs import HANDLERS, event_of, handled, killed_while_it_runs, of_agents, running_handler
from tests.support.mcp_server import McpWorld

World = tuple[McpWorld, ActionsSetup]


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """An organization whose bookings come in, and the server."""
    async with acting_world(database) as running:
        yield running


async def status(mcp: McpWorld, token: str, name: str = "helper") -> int:
    """Say how a token is answered."""
    return (await mcp.raw(name, token, "tools/list")).status_code


async def test_a_runs_token_ends_with_the_run(world: World) -> None:
    """Settled, failed, interrupted, killed, silent or old: afterwards the token is refused, and before it is not."""
    mcp, setup = world
    booked = setup.book_directly()
    await setup.written()
    event_id = await event_of(setup, booked.uri)
    async with running_handler(mcp, event_id, interrupted=True) as ctx:
        with pytest.raises(RequestRefused) as refused:
            await ctx.mcp_token()
    assert f"--runs-of {HANDLERS}" in refused.value.remedy
    agent = await mcp.agent(tools=("schedule",), runs_of=HANDLERS)
    await mcp.agent("other", tools=("schedule",))

    killed = await killed_while_it_runs(mcp, event_id)
    mcp.advance(14)
    assert await status(mcp, killed) == 200
    mcp.advance(1)
    assert await status(mcp, killed) == 401

    # An interrupted run is not settled: the event comes again.
    async with running_handler(mcp, event_id, interrupted=True) as ctx:
        interrupted = await ctx.mcp_token()
        assert await status(mcp, interrupted.token) == 200
    assert await status(mcp, interrupted.token) == 401

    async with running_handler(mcp, event_id) as ctx:
        given = await ctx.mcp_token()
        assert given.url == f"{mcp.url}/mcp/helper"
        assert await status(mcp, given.token, "other") == 401
        stream = await mcp.raw("helper", given.token, "events/stream", {"name": "com.calendly.invitee.created.v1"})
        assert "use events/poll" in stream.json()["error"]["message"]
        mcp.advance(14)
        assert (await ctx.mcp_token()).token == given.token  # which says that the run goes on
        mcp.advance(14)
        assert await status(mcp, given.token) == 200
        mcp.advance(1)
        assert await status(mcp, given.token) == 401
        second = await ctx.mcp_token()
        for _ in range(65):
            mcp.advance(13)
            await ctx.mcp_token()
        assert await status(mcp, second.token) == 200
        mcp.advance(55)
        assert await status(mcp, second.token) == 401
        third = await ctx.mcp_token()
        await mcp.api.actions.mcp_agents.revoke(COMMAND_LINE, agent.id)
        assert await status(mcp, third.token) == 401
    with pytest.raises(RuntimeError, match="the run of the handler is over"):
        await ctx.mcp_token()


async def test_a_try_that_failed_takes_its_token_along(world: World) -> None:
    """Each run has a token of its own; the last one ends when the event is settled, and the audit has them."""
    mcp, setup = world
    booked = setup.book_directly()
    await setup.written()
    await mcp.agent(tools=("schedule",), runs_of=HANDLERS)
    tries: list[str] = []

    async def fails_once(_: Event[Any], ctx: Context) -> None:
        tries.append((await ctx.mcp_token()).token)
        assert [await status(mcp, each) for each in tries] == [401] * (len(tries) - 1) + [200]
        if len(tries) == 1:
            raise ValueError("once")

    result = await handled(of_agents(mcp), mcp.clock, await event_of(setup, booked.uri), fails_once)
    assert (result.status, len(tries)) == (RecordStatus.DONE, 2)
    assert await asyncio.gather(*(status(mcp, each) for each in tries)) == [401, 401]
    uses = [use for use in await mcp.uses() if use["action"] == "mcp.token"]
    assert [(use["agent"], use["user_uri"], use["org"], use["target"]) for use in uses] == [
        ("helper", mcp.user, mcp.org, booked.uri)
    ] * 2
