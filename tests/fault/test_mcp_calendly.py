"""Tools of the MCP server while Calendly fails behind them, their client goes away, or their agent is revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from mcp_types import TextContent

from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.local.databases import Database
from slotwire.ingest.mcp.principal import AgentPrincipal
from slotwire.ingest.mcp.tools.calls import ToolGrants
from slotwire.ingest.mcp.tools.every import every_tool
from slotwire.ingest.mcp.tools.toolbox import Call
from slotwire.ingest.operate.roles import COMMAND_LINE
from tests.support.actions_setup import ActionsSetup
from tests.support.agent_setup import until
from tests.support.altered_calendly import AlteredCalendly, Answer
from tests.support.mcp_acting import acting_world
from tests.support.mcp_server import McpWorld, told

World = tuple[McpWorld, ActionsSetup, AlteredCalendly]


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """An organization whose bookings come in, and the server, with somebody between it and Calendly."""
    async with acting_world(database, altered=True) as (mcp, setup):
        assert setup.between is not None
        yield mcp, setup, setup.between


FAILS: dict[str, Answer] = {
    "a page of a proxy": (502, b"<html>Bad Gateway</html>"),
    "a page in place of a document": (200, b"<html>Sign in</html>"),
    "a refusal without words": (400, None),
    "a refusal in other words": (422, ["no"]),
    "nothing": (200, None),
    "no list": (200, {"collection": {"uri": "x"}}),
    "another document": (200, ["x"]),
    "too much": (200, {"collection": [{"name": "x" * 300_000}]}),
    "too deep": (200, b'{"collection": [' + b"[" * 300 + b"]" * 301 + b"}"),
}
"""What Calendly may answer to a list."""


async def test_whatever_calendly_answers_a_tool_says_what_to_do(world: World) -> None:
    """Errors, pages and other shapes become words with a next step; an odd list is told as it is."""
    mcp, _, between = world
    answering: Answer | None = None
    between.alter = lambda request, *_: answering if request.path.startswith("/event_types") else None
    async with mcp.client("helper", await mcp.token(await mcp.agent())) as client:
        await client.list_tools()  # the client compares answers with the schemas that it was told
        for what, answer in FAILS.items():
            answering = answer
            found = await client.call_tool("list_event_types", {})
            [said] = found.content
            assert isinstance(said, TextContent)
            assert (found.is_error, said.text.partition("(")[0]) == (True, "Not done "), what
            assert "(defect)" not in said.text, what
        odd = {"collection": [1, None, {"name": None}], "pagination": {"next_page_token": 5}}
        answering = (200, odd)
        found = told(await client.call_tool("list_event_types", {}))
        assert (found["items"], found["next_page"]) == (odd["collection"], None)
        answering = (200, {"resource": None})
        assert told(await client.call_tool("get_event_type", {"event_type": "X"}))["item"] is None
    codes = [use["result"] for use in await mcp.uses("refused", "failed") if use["action"] == "mcp.list_event_types"]
    assert len(codes) == len(FAILS)


async def test_an_act_is_settled_though_its_client_has_gone(world: World) -> None:
    """The call is in the audit as one whose client went; what it asked for is done, once, and a repeat tells so."""
    mcp, setup, between = world
    token = await mcp.token(await mcp.agent(tools=("schedule",)))
    reached, goes_on = asyncio.Event(), asyncio.Event()

    async def holding(request: web.Request) -> None:
        if request.method == "POST" and request.path.endswith("/invitees"):
            reached.set()
            await goes_on.wait()

    between.holding = holding
    slot = {"event_type": setup.event_type(), "start_time": setup.start().isoformat(), "timezone": "Europe/Paris"}
    params = {"name": "book_meeting", "arguments": {**slot, "email": "zoe@example.test", "name": "Zoe"}}
    calling = asyncio.create_task(mcp.raw("helper", token, "tools/call", params))
    await reached.wait()
    calling.cancel()

    async def is_told() -> bool:
        return [use["code"] for use in await mcp.uses("failed")] == ["client_gone"]

    await until(is_told)
    goes_on.set()

    async def is_settled() -> bool:
        return [row["state"] for row in await setup.rows("SELECT state FROM slotwire.actions")] == ["done"]

    await until(is_settled)
    again = (await mcp.raw("helper", token, "tools/call", params)).json()["result"]["structuredContent"]["item"]
    [booked] = setup.bookings()
    assert (again["state"], again["invitee"]) == ("done", booked.uri)


async def test_a_revocation_in_the_middle_of_a_call_is_noticed(world: World) -> None:
    """`control` makes no call for a grant whose agent was revoked after it was given, and none for another tool."""
    mcp, setup, between = world
    agent = await mcp.agent()
    url = mcp.settings.database_url.get_secret_value()
    organization, ends = setup.calendly.organization, mcp.clock.now()
    who = AgentPrincipal(agent.id, "helper", organization, mcp.user, frozenset(), frozenset(), None, ends)
    async with (
        create_pool(url, mcp.settings.database, application="mcp") as pool,
        ControlClient(mcp.settings.mcp.control_url) as control,
    ):
        grants = ToolGrants(pool, mcp.clock)

        def asked(name: str) -> Call:
            return Call(agent.id, who, every_tool()[name], {})

        grant = await grants.grant(asked("get_current_user"))
        with pytest.raises(RequestRefused, match="the grant is for get_current_user"):
            await control.call_as_agent(grant, "list-event-types", {})
        assert (await control.call_as_agent(grant, "get-current-user", {}))["item"]["uri"] == mcp.user
        with pytest.raises(RequestRefused, match="may not do that any more"):
            await grants.grant(asked("delete_contact"))
        before = list(between.asked)
        await mcp.api.actions.mcp_agents.revoke(COMMAND_LINE, agent.id)
        with pytest.raises(RequestRefused) as refused:
            await control.call_as_agent(grant, "get-current-user", {})
        assert refused.value.code == "unauthenticated"
        assert between.asked == before
