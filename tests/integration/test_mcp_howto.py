"""The how-to of agents by MCP: its commands and its program run as they stand."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.clock import DrivenClock
from tests.support import fork_server
from tests.support.command import environment, shell, slotwire
from tests.support.mcp_server import McpWorld, mcp_world
from tools.documents import ROOT

HOWTO = ROOT / "docs" / "howto" / "connect-agents-by-mcp.md"
_BLOCK = re.compile(r"^ *```(sh|python)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
HERE = "http://127.0.0.1:8084"


class Kept:
    """Keeps what a client of OAuth wants to keep, as the program's reader would."""

    tokens: Any = None
    client: Any = None

    async def get_tokens(self) -> Any:
        """Return the tokens."""
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        """Keep the tokens."""
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        """Return the client."""
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        """Keep the client."""
        self.client = client_info


@pytest.fixture
async def world(database: Database) -> AsyncIterator[McpWorld]:
    """An organization, and the server."""
    async with mcp_world(database, clock=DrivenClock()) as running:  # that of the commands
        yield running


async def test_the_page_works_as_it_stands(world: McpWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Register, exchange, a token by hand; and the program connects with the secret alone and calls a tool."""
    fork_server.put_command(tmp_path)
    keys = {"SLOTWIRE_MCP__PUBLIC_URL": world.url}
    keys["SLOTWIRE_MCP__TOKEN_KEYS"] = world.settings.mcp.token_keys[0].get_secret_value()
    settings = world.settings.model_copy(update={"database_url": world.api.actions.granted_calls.settings.database_url})
    env = {**environment(settings, **keys), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    blocks = _BLOCK.findall(HOWTO.read_text(encoding="utf-8"))
    lines = "\n".join(body for kind, body in blocks if kind == "sh").replace(HERE, world.url)
    typed = await shell(f'set -e\n{lines}\necho "$SECRET"', env=env, cwd=tmp_path)
    assert typed.code == 0, typed.stderr
    exchanged, _, rest = typed.stdout.partition("}")
    by_hand, secret = rest.split()
    assert re.search(r'"token_type":"Bearer","expires_in":\d+,"scope":"mcp user:\w+"', exchanged)
    assert (await world.raw("assistant", by_hand, "tools/list")).status_code == 200
    [program] = [body for kind, body in blocks if kind == "python"]
    names: dict[str, Any] = {"url": f"{world.url}/mcp/assistant", "secret": secret, "storage": Kept()}
    indented = "".join(f"    {line}\n" for line in program.replace(HERE, world.url).splitlines())
    exec(f"async def program():\n{indented}", names)  # noqa: S102 -- because it is the page's own
    await names["program"]()
    assert "event_types" in capsys.readouterr().out
    tokens = [use["result"] for use in await world.uses() if use["action"] == "mcp.token"]
    assert tokens == ["done", "done"]


async def test_commands_say_who_has_what(world: McpWorld) -> None:
    """`list`, `show` and `revoke` by id; a tool that there is none of is refused with near ones."""
    settings = world.settings.model_copy(update={"database_url": world.api.actions.granted_calls.settings.database_url})
    env = environment(settings)

    async def mcp(*words: str) -> tuple[int, str, str]:
        done = await slotwire("mcp", *words, env=env)
        return done.code, done.stdout, done.stderr

    code, _, said = await mcp("agents", "add", "helper", "--tools", "read,list_cantacts")
    assert (code, "list_contacts" in said) == (1, True)
    code, made, _ = await mcp("agents", "add", "helper", "--tools", "read,list_contacts", "--json")
    agent = json.loads(made)
    assert (code, "list_contacts" in agent["tools"], len(agent["secret"])) == (0, True, 48)
    assert "list_contacts" in (await mcp("agents", "show", agent["id"]))[1]
    listed = json.loads((await mcp("agents", "list", "--json"))[1])
    assert (listed["name"], "secret" in listed, listed["revoked_at"]) == ("helper", False, None)
    assert json.loads((await mcp("agents", "revoke", agent["id"], "--json"))[1])["revoked_at"] is not None
    code, _, said = await mcp("token", "helper")
    assert (code, "SLOTWIRE_MCP__PUBLIC_URL" in said) == (1, True)
