"""What tests of the MCP server need: a simulated Calendly, `control`, the server with its own role, and clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from pydantic import SecretStr

from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.health import Health
from slotwire.ingest.foundation.mcp_settings import McpSettings
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings
from slotwire.ingest.foundation.settings import CalendlySettings, Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.mcp.process import serving_mcp
from slotwire.ingest.operate.mcp_agent_models import McpAgentRequest, NewMcpAgent
from slotwire.ingest.operate.organization_models import OrganizationRequest
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from tests.support.management_api import ManagementApi, management_api
from tests.support.mcp_request import wire_request
from tests.support.public_endpoint import random_key, settings_for, with_role

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@dataclass
class McpWorld:
    """An organization that is connected, and a running MCP server."""

    url: str
    settings: Settings
    simulator: Simulator
    api: ManagementApi
    owner: asyncpg.Connection[asyncpg.Record]
    clock: ManualClock
    http: httpx.AsyncClient

    @property
    def user(self) -> str:
        """The user who connected it, its owner."""
        first = next(iter(self.simulator.world.users.values()))
        return f"https://api.calendly.com/users/{first.id}"

    @property
    def org(self) -> str:
        """The connected organization."""
        return self.simulator.organization.rpartition("/")[2]

    async def agent(self, name: str = "helper", **given: Any) -> NewMcpAgent:
        """Register an agent."""
        return await self.api.actions.mcp_agents.create(COMMAND_LINE, McpAgentRequest(name=name, **given))

    async def exchange(self, agent: NewMcpAgent, **form: str) -> httpx.Response:
        """Ask for a token with an agent's secret."""
        fields = {"grant_type": "client_credentials", "client_id": agent.name, "client_secret": agent.secret, **form}
        return await self.http.post(f"{self.url}/oauth/token", data=fields)

    async def token(self, agent: NewMcpAgent, scope: str = "mcp") -> str:
        """Get a token."""
        answer = await self.exchange(agent, scope=scope)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    async def raw(
        self,
        name: str,
        token: str | None,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send one request of the modern protocol."""
        sent, body = wire_request(token, method, params)
        return await self.http.post(f"{self.url}/mcp/{name}", json=body, headers={**sent, **(headers or {})})

    @asynccontextmanager
    async def client(self, name: str, token: str, **options: Any) -> AsyncIterator[Client]:
        """Connect the official client."""
        http = create_mcp_http_client(headers={"Authorization": f"Bearer {token}"})
        transport = streamable_http_client(f"{self.url}/mcp/{name}", http_client=http)
        async with http, Client(transport, **options) as client:
            yield client

    async def uses(self, *results: str) -> Sequence[Mapping[str, Any]]:
        """Return what the audit has of agents."""
        rows = await self.owner.fetch(
            "SELECT agent, user_uri, org, action, target, result, code FROM slotwire.uses"
            " WHERE agent IS NOT NULL AND result = ANY ($1) ORDER BY id",
            list(results or ("done", "refused", "failed")),
        )
        return [dict(row) for row in rows]


@asynccontextmanager
async def mcp_world(database: Database, *, seed: str = "mcp") -> AsyncIterator[McpWorld]:
    """Run everything while the block runs."""
    clock = ManualClock(NOW)
    owner = await asyncpg.connect(database.owner_url)
    try:
        async with simulator(Options(seed=seed)) as running, httpx.AsyncClient(timeout=20) as http:
            settings = settings_for(database).model_copy(update={"calendly": CalendlySettings(api_url=running.url)})
            async with management_api(settings, clock=clock) as api:
                await api.actions.organizations.add(COMMAND_LINE, OrganizationRequest(token=running.owner_token))
                chosen = McpSettings(
                    port=0,
                    control_url=api.url,
                    token_keys=(SecretStr(f"k1:{random_key()}"),),
                    allowed_origins=("https://ui.test",),
                )
                outgoing = OutgoingSettings(allow_local=True)
                mine = with_role(settings.model_copy(update={"mcp": chosen, "outgoing": outgoing}), "mcp")
                async with _served(mine, clock) as url:
                    yield McpWorld(url, mine, running, api, owner, clock, http)
    finally:
        await owner.close()


@asynccontextmanager
async def _served(settings: Settings, clock: ManualClock) -> AsyncIterator[str]:
    """Serve in a task of its own: the library's scopes have to end in the task that began them, a fixture's do not."""
    begun, stop = asyncio.get_running_loop().create_future(), asyncio.Event()

    async def serve() -> None:
        async with serving_mcp(settings, Health("mcp"), clock) as url:
            begun.set_result(url)
            await stop.wait()

    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve())
        await asyncio.wait({serving, begun}, return_when=asyncio.FIRST_COMPLETED)
        yield begun.result()
        stop.set()


def told(result: Any) -> Any:
    """Return the structured answer of a tool, which the text repeats."""
    assert not result.is_error, result.content
    written = result.content[0].text
    assert json.loads(written[written.index("{") :]) == result.structured_content
    return result.structured_content
