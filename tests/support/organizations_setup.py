"""Organizations from a token to live events: simulated Calendly, endpoint, writer and management API together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
from pydantic import SecretStr

from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.foundation.settings import CalendlySettings, Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.organization_models import OrganizationAdded, OrganizationRequest
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from slotwire.schemas.ids import last_segment
from tests.support.children import free_port
from tests.support.management_api import ManagementApi, management_api
from tests.support.owner import owner_rows
from tests.support.public_endpoint import running_endpoint, settings_for
from tests.support.simulated_calendly import AMPLE
from tests.support.writing import until_written, writing


@dataclass(frozen=True)
class OrganizationsSetup:
    """A simulated Calendly, the endpoint it sends to, and the management API, on one database."""

    calendly: Simulator
    api: ManagementApi
    database: Database
    settings: Settings
    client: httpx.AsyncClient

    @property
    def org(self) -> str:
        """The first simulated organization."""
        return last_segment(self.calendly.organization)

    @property
    def actions(self) -> Actions:
        """The verbs."""
        return self.api.actions

    @property
    def organizations(self) -> Organizations:
        """What the control process goes its rounds with."""
        actions = self.actions
        return Organizations.from_settings(
            self.settings, actions.pool, actions.clock, actions.calendly, changing=actions.organizations.of_rounds
        )

    @property
    def calls(self) -> int:
        """How many REST calls were made at the simulator."""
        return int(str(self.calendly.gate.calls.summary()["calls"]))

    async def add(self, **options: Any) -> OrganizationAdded:
        """Add the organization of a token; the first one's owner's where none is named."""
        options = {"token": SecretStr(self.calendly.owner_token), **options}
        return await self.actions.organizations.add(COMMAND_LINE, OrganizationRequest(**options))

    async def simulate(self, verb: str, **body: Any) -> Any:
        """Make something happen at the simulated Calendly."""
        answer = await self.client.post(f"{self.calendly.url}/simulator/{verb}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def settled(self) -> None:
        """Wait until nothing is on its way any more."""
        async with asyncio.timeout(60):
            await self.calendly.engine.sender.idle()
        await until_written(self.database.owner_url)

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database as its owner."""
        return await owner_rows(self.database, query, *arguments)

    def token(self, org: str, role: str = "owner") -> SecretStr:
        """Return the token of a member of an organization."""
        user = next(each for each in self.calendly.world.members(org) if each.role == role)
        return SecretStr(next(each.value for each in self.calendly.world.tokens if each.user == user.id))


@asynccontextmanager
async def organizations_setup(
    database: Database, *, organizations: int = 2, with_writer: bool = True, **http: Any
) -> AsyncIterator[OrganizationsSetup]:
    """Run all of it, with a writer beside unless there shall be none, and with these settings of the endpoint."""
    port = free_port()
    async with simulator(Options(seed="organizations", organizations=organizations, rate_limit=AMPLE)) as calendly:
        settings = settings_for(database, port=port, **http).model_copy(
            update={
                "public_url": f"http://127.0.0.1:{port}",
                "calendly": CalendlySettings(api_url=calendly.url, assumed_calls_per_minute=AMPLE),
            }
        )
        async with (
            running_endpoint(settings) as endpoint,
            management_api(settings) as api,
            writing(settings) if with_writer else nullcontext(),
        ):
            yield OrganizationsSetup(calendly, api, database, settings, endpoint.client)
