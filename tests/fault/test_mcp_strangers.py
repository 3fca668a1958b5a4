"""Whatever is sent to the MCP server, it answers with words, counts it, and goes on: nothing is a failure of ours."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slotwire.ingest.foundation.mcp_metrics import MCP_REQUESTS
from slotwire.ingest.local.databases import Database
from slotwire.ingest.mcp.listener import FREE_REFUSALS, MAX_FIELDS
from tests.support.mcp_request import MODERN, wire_request
from tests.support.mcp_server import McpWorld, mcp_world
from tests.support.wire import wires

CREATED = "com.calendly.invitee.created.v1"
OLD = "2025-11-25"
HALF = "\ud800"
"""A half of a character: JSON can say it, nothing can keep it."""


@pytest.fixture
async def world(database: Database) -> AsyncIterator[McpWorld]:
    """An organization, and the server; no request may have failed for a defect of ours."""
    before = failures()
    async with mcp_world(database) as running:
        yield running
    assert failures() == before


def failures() -> float:
    """Count the answers of this process that say that we have failed."""
    found = (each for metric in MCP_REQUESTS.collect() for each in metric.samples if each.name.endswith("_total"))
    return sum(each.value for each in found if each.labels["status"].startswith("5"))


async def send(world: McpWorld, token: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Send a document to the agent's endpoint; return the status and what came back."""
    sent = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
    sent |= {"Content-Type": "application/json", **(headers or {})}
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await world.http.post(f"{world.url}/mcp/helper", content=octets, headers=sent)
    text = answer.text.partition("data: ")[2] if answer.text.startswith("event:") else answer.text
    return answer.status_code, json.loads(text) if text else None


async def call(world: McpWorld, token: str, method: str, params: dict[str, Any]) -> Any:
    """Send a request of the modern protocol, whatever its parameters hold."""
    headers, body = wire_request(token, method, params)
    return (await send(world, token, body, headers))[1]


async def test_who_comes_another_way_is_refused(world: McpWorld) -> None:
    """Other methods, content types, doubled headers, tokens in addresses, forms and secrets that are none of ours."""
    agent = await world.agent()
    token, url = await world.token(agent), f"{world.url}/mcp/helper"
    bearer = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
    for method in ("GET", "DELETE", "OPTIONS", "PUT"):
        refused = await world.http.request(method, url, headers=bearer)
        assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
    _, listing = wire_request(token, "tools/list")
    for kind in ("text/plain", "multipart/form-data", "application/jsonp"):
        assert (await send(world, token, listing, {"Content-Type": kind}))[0] == 415
    assert (await world.http.post(f"{url}?access_token={token}", json=listing)).status_code == 401
    host = world.url.partition("//")[2]
    head = f"POST /mcp/helper HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n"
    async with wires(world.url, 6) as connections:
        for wire, line in zip(
            connections,
            ("Authorization: Bearer x", f"Host: {host}", "Origin: null\r\nOrigin: https://ui.test"),
            strict=False,
        ):
            wire.send(f"{head}{line}\r\n\r\n".encode())
            assert (await wire.answer())[0] == 400
        chunked = head.replace("Content-Length: 0", "Content-Type: application/json\r\nTransfer-Encoding: chunked")
        connections[3].send(f"{chunked}\r\nzz\r\n".encode())
        assert b" 400 " in (await connections[3].until_closed()).partition(b"\r\n")[0]
        connections[4].send(f"{chunked}\r\n5\r\nabc".encode())
        connections[4].abort()
        connections[5].send(b"POST /mcp/helper HTTP/1.1\r\nHost: " + host.upper().encode() + b"\r\n\r\n")
        assert (await connections[5].answer())[0] == 401
    assert (await world.raw("helper", token, "tools/list")).status_code == 200

    form = {"grant_type": "client_credentials", "client_id": "helper"}
    basic = base64.b64encode(f"helper:{agent.secret}".encode()).decode()
    for header, more, status, error in (
        (b"Basic \xe9", {}, 401, "invalid_client"),
        (b"Basic ////", {}, 401, "invalid_client"),
        (b"Basic " + basic.encode(), {"client_secret": agent.secret}, 400, "invalid_request"),
        (b"Basic " + basic.encode(), {}, 200, None),
        (b"", {"client_secret": "\0"}, 401, "invalid_client"),
        (b"", {"client_secret": agent.secret, "scope": "chain:\0"}, 400, "invalid_scope"),
        (b"", {f"field-{number}": "1" for number in range(MAX_FIELDS)}, 400, "invalid_request"),
    ):
        answer = await world.http.post(
            f"{world.url}/oauth/token", data={**form, **more}, headers=[(b"Authorization", header)] if header else None
        )
        assert (answer.status_code, answer.json().get("error")) == (status, error), more


async def test_a_flood_of_wrong_secrets_keeps_nobody_out(world: McpWorld) -> None:
    """Each is answered 401, the later ones late; whoever has the secret gets a token meanwhile."""
    agent = await world.agent()
    wrong = agent.model_copy(update={"secret": "slwm_" + "A" * 43})
    flood = [asyncio.create_task(world.exchange(wrong)) for _ in range(2 * FREE_REFUSALS)]
    await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
    assert (await world.exchange(agent)).status_code == 200
    assert {each.result().status_code for each in flood if each.done()} == {401}
    for each in flood:
        each.cancel()


async def test_arguments_that_nothing_can_take_are_refused_with_words(world: McpWorld) -> None:
    """Halves of characters, null characters, numbers out of bounds, depth: said, in the audit, and no failure."""
    token = await world.token(await world.agent(tools=("operate",)))
    deep: Any = "x"
    for _ in range(30):
        deep = [deep]
    odd: list[dict[str, Any]] = [
        *({"page": text} for text in (HALF, "\0", "a\0b")),
        *({"limit": number} for number in (10**30, float("nan"), 1e308, True, 5.5, "5", None)),
        *({name: 1} for name in (HALF, "nobody_knows", "")),
        {"limit": deep},
        {"limit": {"a": deep}},
    ]
    for arguments in odd:
        answer = await call(world, token, "tools/call", {"name": "list_event_types", "arguments": arguments})
        assert "arguments_invalid" in answer["result"]["content"][0]["text"], arguments
    whole = await call(world, token, "tools/call", {"name": "get_recent_events", "arguments": {"limit": 5.0}})
    assert whole["result"]["structuredContent"]["items"] == []
    wrongs: tuple[Any, ...] = ([], "x", 5)
    for wrong in wrongs:
        answer = await call(world, token, "tools/call", {"name": "list_event_types", "arguments": wrong})
        assert answer["error"]["code"] == -32602
    for method, name, value in (("prompts/get", "name", "x"), ("resources/read", "uri", "x://y")):
        headers, body = wire_request(token, method, {name: value})
        status, answer = await send(world, token, body, {**headers, "Mcp-Name": value})
        assert (status, answer["error"]["code"]) == (400, -32602), answer
    refused = [use["code"] for use in await world.uses("refused", "failed")]
    assert refused == ["arguments_invalid"] * len(odd)
    for method in ("events/poll", "events/stream", "events/subscribe", "events/unsubscribe"):
        for params in (
            {"name": HALF},
            {"name": CREATED, "cursor": "\0"},
            {"name": CREATED, "arguments": {"event_type": HALF}},
            {"name": CREATED, "delivery": {"mode": "webhook", "url": HALF}},
            {"name": CREATED, "arguments": {"origin": deep}},
        ):
            headers, body = wire_request(token, method, params)
            headers.pop("Mcp-Name", None)
            status, answer = await send(world, token, body, headers)
            assert (status, answer["error"]["code"]) == (400, -32602), (method, params)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(HALF),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(["list_bookings", "get_booking_timeline", "get_recent_events", "book_meeting", "nothing"])
_ARGUMENTS = st.dictionaries(
    st.sampled_from(["page", "limit", "invitee", "type", "event_id", "state", "email", "x"]), _JSON, max_size=3
)
_PARAMS = _JSON | st.fixed_dictionaries(
    {"name": _NAMES | st.just(CREATED) | _JSON},
    optional={
        "arguments": _ARGUMENTS | _JSON,
        "cursor": _JSON,
        "maxEvents": _JSON,
        "maxAgeMs": _JSON,
        "delivery": _JSON,
        "requestState": _JSON,
        "inputResponses": _JSON,
    },
)
_METHODS = st.sampled_from(
    [
        *("tools/call", "tools/list", "server/discover", "initialize", "ping", "resources/read", "prompts/get"),
        *("events/list", "events/poll", "events/subscribe", "events/unsubscribe", "notifications/cancelled"),
        *("subscriptions/listen", "completion/complete", "logging/setLevel", "nobody/knows"),
    ]
)
_BODIES = (
    st.binary(max_size=40)
    | _JSON
    | st.fixed_dictionaries(
        {"jsonrpc": st.just("2.0") | _JSON, "method": _METHODS | _JSON},
        optional={"id": st.just(1) | st.just("1") | _JSON, "params": _PARAMS},
    )
)


async def check(world: McpWorld, body: Any, version: str) -> None:
    """Send a body; it is answered as the protocol says, whatever it is, and not as a failure of ours."""
    token, headers = await _token(world), {"MCP-Protocol-Version": version}
    if isinstance(body, dict) and version == MODERN:
        method, params = body.get("method"), body.get("params")
        headers |= {"Mcp-Method": method} if isinstance(method, str) and method.isascii() else {}
        if isinstance(params, dict):
            _, whole = wire_request(token, "x")
            body = {**body, "params": {**params, **whole["params"]}}
            name = params.get("name")
            headers |= {"Mcp-Name": name} if method == "tools/call" and isinstance(name, str) and name.isascii() else {}
    headers = {name: value for name, value in headers.items() if value.isprintable()}
    status, answer = await send(world, token, body, headers)
    assert status in {200, 202, 400, 404, 406}, answer
    if answer is not None and "error" in answer:
        assert answer["error"]["code"] != -32603, answer
    elif answer is not None and "isError" in answer["result"]:
        assert "(defect)" not in answer["result"]["content"][0]["text"], answer


_EXAMPLES = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


@settings(_EXAMPLES, max_examples=15)
@given(body=_BODIES, version=st.sampled_from([MODERN, OLD]))
async def test_any_body_is_answered(body: Any, version: str, world: McpWorld) -> None:
    """Whatever JSON says, of either version: an answer of the protocol, and no failure of ours."""
    await check(world, body, version)


@pytest.mark.soak
@settings(_EXAMPLES, max_examples=5_000)
@given(body=_BODIES, version=st.sampled_from([MODERN, OLD]))
async def test_any_body_is_answered_soak(body: Any, version: str, world: McpWorld) -> None:
    """The same, five thousand times."""
    await check(world, body, version)


async def _token(world: McpWorld) -> str:
    """Return a token of an agent, the same for all examples of a server."""
    if world.url not in _TOKENS:
        _TOKENS[world.url] = await world.token(await world.agent(tools=("operate",)))
    return _TOKENS[world.url]


_TOKENS: dict[str, str] = {}
