"""The MCP server: the official client works with it, and nobody gets in who should not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.connection_models import ConnectionRequest
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.model import API
from tests.support.management_api import write_organization
from tests.support.mcp_server import McpWorld, mcp_world, told


@pytest.fixture
async def world(database: Database) -> AsyncIterator[McpWorld]:
    """An organization, and the server."""
    async with mcp_world(database) as running:
        yield running


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_reads_with_a_token(world: McpWorld, mode: str) -> None:
    """Clients of 2026-07-28 and of 2025-11-25 list the tools of their agent, and call one that asks Calendly."""
    agent = await world.agent()
    async with world.client("helper", await world.token(agent), mode=mode) as client:
        listed = await client.list_tools()
        assert [tool.name for tool in listed.tools] == list(agent.tools)
        me = told(await client.call_tool("get_current_user", {}))
        assert me["item"]["uri"] == world.user
        kinds = told(await client.call_tool("list_event_types", {"limit": 2}))
        assert len(kinds["items"]) == 2
        assert any(place.endswith("/name") for place in kinds["untrusted"])


async def test_what_an_agent_was_not_given_does_not_exist_for_it(world: McpWorld) -> None:
    """A hidden tool, called by name, is as unknown as one that nobody has; both refusals are in the audit."""
    agent = await world.agent(tools=("list_event_types",))
    token = await world.token(agent)
    listed = await world.raw("helper", token, "tools/list")
    assert [tool["name"] for tool in listed.json()["result"]["tools"]] == ["list_event_types"]
    answers = []
    for name in ("get_current_user", "no_such_tool"):
        call: dict[str, object] = {"name": name, "arguments": {}}
        answer = await world.raw("helper", token, "tools/call", call)
        answers.append(
            (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["message"].replace(name, ""))
        )
    assert answers[0] == answers[1]
    assert answers[0][:2] == (400, -32602)
    refused = [(use["action"], use["code"]) for use in await world.uses("refused")]
    assert refused == [("mcp.unknown", "tool_unknown")] * 2


async def test_a_token_is_good_for_one_endpoint_until_it_ends(world: McpWorld) -> None:
    """Without a token, with another agent's, a forged, an ended or a revoked one: 401 that says where to get one."""
    agent, other = await world.agent(), await world.agent("other")
    token, others = await world.token(agent), await world.token(other)
    listed = await world.raw("helper", token, "tools/list")
    assert (listed.status_code, listed.headers["Server"]) == (200, "slotwire")
    metadata = f"{world.url}/.well-known/oauth-protected-resource/mcp/helper"
    forged = token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB")
    for wrong in (None, others, forged, "x", token + "x" * 5_000):
        refused = await world.raw("helper", wrong, "tools/list")
        assert refused.status_code == 401
        assert refused.headers["Server"] == "slotwire"
        assert refused.headers["WWW-Authenticate"].endswith(f'resource_metadata="{metadata}"')
    assert (await world.raw("other", token, "tools/list")).status_code == 401
    assert (await world.raw("nobody", token, "tools/list")).status_code == 401
    world.advance(899)
    assert (await world.raw("helper", token, "tools/list")).status_code == 200
    world.advance(1)
    assert (await world.raw("helper", token, "tools/list")).status_code == 401
    fresh = await world.token(agent)
    await world.api.actions.mcp_agents.revoke(COMMAND_LINE, agent.id)
    assert (await world.raw("helper", fresh, "tools/list")).status_code == 401
    assert (await world.exchange(agent)).json()["error"] == "invalid_client"


async def test_the_token_endpoint_gives_what_was_asked_and_no_more(world: McpWorld) -> None:
    """Metadata leads there; a secret gives a token for one user, and whatever does not fit is said in OAuth's words."""
    agent = await world.agent()
    resource = (await world.http.get(f"{world.url}/.well-known/oauth-protected-resource/mcp/helper")).json()
    assert resource["resource"] == f"{world.url}/mcp/helper"
    [issuer] = resource["authorization_servers"]
    server = (await world.http.get(f"{issuer}/.well-known/oauth-authorization-server")).json()
    assert (server["issuer"], server["grant_types_supported"]) == (world.url, ["client_credentials"])
    browser = await world.http.get(server["authorization_endpoint"], params={"response_type": "code"})
    assert (browser.status_code, browser.json()["error"]) == (400, "unsupported_response_type")
    given = await world.exchange(agent, resource=resource["resource"], scope="mcp")
    identity = world.user.rpartition("/")[2]
    assert (given.json()["token_type"], given.json()["expires_in"]) == ("Bearer", 899)
    assert given.json()["scope"] == f"mcp user:{identity}"
    wrong = {
        "invalid_client": {"client_secret": "slwm_" + "A" * 43},
        "invalid_target": {"resource": f"{world.url}/mcp/other"},
        "unsupported_grant_type": {"grant_type": "authorization_code"},
        "invalid_scope": {"scope": "user:SOMEBODY"},
    }
    for error, form in wrong.items():
        assert (await world.exchange(agent, **form)).json()["error"] == error
    tokens = [use for use in await world.uses("done") if use["action"] == "mcp.token"]
    assert [(use["agent"], use["user_uri"], use["org"]) for use in tokens] == [("helper", world.user, world.org)]


async def test_other_hosts_and_pages_of_other_sites_are_refused(world: McpWorld) -> None:
    """A name that was bound to this machine, and a page of a site that is not allowed, come to nothing."""
    token = await world.token(await world.agent())
    answers = [
        (await world.raw("helper", token, "tools/list", headers=headers)).status_code
        for headers in (
            {"Host": "evil.example"},
            {"Origin": "https://evil.example"},
            {"Origin": "http://localhost.evil.example"},
            {"Origin": "null"},
            {"Origin": "https://ui.test"},
            {"Origin": "http://["},
            {"Origin": "http://localhost:5173"},
        )
    ]
    assert answers == [421, 403, 403, 403, 200, 403, 200]
    # A browser asks first, and keeps the answer from a page that is not named in it.
    for origin, status, shared in (("https://ui.test", 204, "https://ui.test"), ("https://evil.example", 403, None)):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        before = await world.http.options(f"{world.url}/mcp/helper", headers=asked)
        after = await world.raw("helper", None, "tools/list", headers={"Origin": origin})
        assert (before.status_code, before.headers.get("Access-Control-Allow-Origin")) == (status, shared)
        assert ("Authorization" in before.headers.get("Access-Control-Allow-Headers", "")) == (status == 204)
        assert after.headers.get("Access-Control-Allow-Origin") == shared
        assert "Access-Control-Allow-Credentials" not in after.headers
    long = await world.raw("helper", token, "tools/call", {"name": "x", "arguments": {"y": "z" * 300_000}})
    assert long.status_code == 413


async def test_fifty_users_of_one_agent_never_meet(database: Database) -> None:
    """One agent, fifty-two tokens at once: every call at Calendly is made with the token of the user it is for."""
    async with mcp_world(database, organizations=13) as world:
        tokens = {f"{API}/users/{token.user}": token.value for token in world.simulator.world.tokens}
        everywhere = [organization.rpartition("/")[2] for organization in world.simulator.world.organizations]
        for org in everywhere[1:]:
            await write_organization(database, org)
        few = asyncio.Semaphore(8)  # more would wait for each other's connections longer than one may

        async def add(token: str) -> None:
            async with few:
                await world.api.actions.connections.add(COMMAND_LINE, None, ConnectionRequest(token=SecretStr(token)))

        await asyncio.gather(*map(add, list(tokens.values())[1:]))
        agent = await world.agent(organizations=tuple(everywhere), tools=("read",))
        assert (await world.exchange(agent)).json()["error"] == "invalid_scope"
        before = world.simulator.gate.calls.summary()["calls"]

        async def ask(user: str) -> None:
            mine = await world.token(agent, f"user:{user.rpartition('/')[2]}")
            params = {"name": "get_current_user", "arguments": {}}
            me = (await world.raw("helper", mine, "tools/call", params)).json()["result"]["structuredContent"]
            assert me["item"]["uri"] == user
            params = {"name": "list_event_types", "arguments": {}}
            kinds = (await world.raw("helper", mine, "tools/call", params)).json()["result"]["structuredContent"]
            assert {each["profile"]["owner"] for each in kinds["items"]} == {user}

        await asyncio.gather(*map(ask, tokens))
        made = world.simulator.gate.calls.listing(int(str(before)), 1_000, lambda _: True)
        assert {f"{API}/users/{call.user}" for call in made} == set(tokens)
        assert len({(call.token, call.user) for call in made}) == len(tokens)
        assert not [call for call in made if call.foreign]
        uses = [use for use in await world.uses("done") if use["action"] == "mcp.get_current_user"]
        assert {use["user_uri"] for use in uses} == set(tokens)
