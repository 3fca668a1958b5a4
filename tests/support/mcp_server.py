"""What tests of the MCP server need: a simulated Calendly, `control`, the server with its own role, and clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from pydantic import SecretStr

from slotwire.ingest.foundation.clock import Clock
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
from slotwire.ingest.simulator.clock import DrivenClock
from tests.support.management_api import ManagementApi, management_api
from tests.support.mcp_request import wire_request
from tests.support.owner import owner_connection
from tests.support.public_endpoint import random_key, settings_for, with_role
from tests.support.simulated_calendly import AMPLE, STILL


@dataclass
class McpWorld:
    """An organization that is connected, and a running MCP server."""

    url: str
    settings: Settings
    simulator: Simulator
    api: ManagementApi
    owner: asyncpg.Connection[asyncpg.Record]
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

    @property
    def clock(self) -> Clock:
        """Everybody's."""
        return self.simulator.engine.clock

    def advance(self, seconds: float) -> None:
        """Move everybody's clock."""
        self.simulator.engine.advance(timedelta(seconds=seconds))

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
async def mcp_world(
    database: Database, *, organizations: int = 1, clock: DrivenClock | None = None
) -> AsyncIterator[McpWorld]:
    """Run everything while the block runs; without a clock of the test's, it moves only when the test moves it."""
    clock = clock or DrivenClock(real=lambda: STILL)
    chosen = Options(seed="mcp", organizations=organizations, rate_limit=AMPLE, clock=clock)
    async with (
        simulator(chosen) as running,
        httpx.AsyncClient(timeout=60) as http,
        owner_connection(database) as owner,
    ):
        calendly = CalendlySettings(api_url=running.url, assumed_calls_per_minute=AMPLE)
        settings = settings_for(database).model_copy(update={"calendly": calendly})
        async with management_api(settings, clock=clock) as api:
            await api.actions.organizations.add(COMMAND_LINE, OrganizationRequest(token=running.owner_token))
            mine = mcp_settings(settings, api.url)
            async with served_mcp(mine, clock) as url:
                yield McpWorld(url, mine, running, api, owner, http)


def mcp_settings(settings: Settings, control_url: str) -> Settings:
    """Return the settings of the server: its role, its keys, a free port."""
    mine = McpSettings(
        port=0,
        control_url=control_url,
        token_keys=(SecretStr(f"k1:{random_key()}"),),
        allowed_origins=("https://ui.test",),
    )
    return with_role(settings.model_copy(update={"mcp": mine, "outgoing": OutgoingSettings(allow_local=True)}), "mcp")


@asynccontextmanager
async def served_mcp(settings: Settings, clock: Clock) -> AsyncIterator[str]:
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
