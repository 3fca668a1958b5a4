"""Organizations whose hooks lead to a receiver with scripted answers, all on the simulator's clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import orjson
from pydantic import SecretStr

from slotwire.ingest.control import rounds
from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.control.rounds import RoundOutcome
from slotwire.ingest.foundation.settings import CalendlySettings, Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.organization_models import OrganizationRequest
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from slotwire.ingest.simulator.clock import DrivenClock
from slotwire.ingest.simulator.model import SimulatedSubscription
from slotwire.schemas.ids import last_segment
from tests.support.hurried_turns import hurried
from tests.support.management_api import management_api
from tests.support.owner import owner_rows
from tests.support.plain_http import NO_TLS
from tests.support.public_endpoint import settings_for
from tests.support.simulated_calendly import STILL, Receiver, receiving
from tests.support.writing import write_all

LOST = "io.slotwire.subscription.disabled.v1"
RESTORED = "io.slotwire.subscription.restored.v1"


@dataclass(frozen=True)
class GuardedSetup:
    """A simulated Calendly whose clock everybody follows, the receiver of its deliveries, and our operations."""

    calendly: Simulator
    receiver: Receiver
    actions: Actions
    settings: Settings
    database: Database
    http: httpx.AsyncClient

    @property
    def clock(self) -> DrivenClock:
        """The simulator's clock."""
        return self.calendly.engine.clock

    @property
    def org(self) -> str:
        """The first organization."""
        return last_segment(self.calendly.organization)

    @property
    def organizations(self) -> Organizations:
        """What a `slotwire control` goes its rounds with; made anew each time, as after a restart."""
        return Organizations.from_settings(
            self.settings,
            self.actions.pool,
            self.clock,
            self.actions.calendly,
            changing=self.actions.organizations.of_rounds,
        )

    async def add(self, **options: Any) -> None:
        """Add the organization of a token, the first one's owner's where none is named."""
        options = {"token": SecretStr(self.calendly.owner_token), **options}
        await self.actions.organizations.add(COMMAND_LINE, OrganizationRequest(**options))

    async def round(self) -> RoundOutcome:
        """Make a round over all organizations; return the outcome of the first."""
        return (await rounds.run_once(self.organizations))[self.org]

    async def act(self, path: str, **body: object) -> None:
        """Cause something at Calendly, and wait until nothing more is due."""
        answer = await self.http.post(f"/simulator/{path}", json=body)
        assert answer.is_success, answer.text
        async with asyncio.timeout(60):
            await self.calendly.engine.sender.idle()

    async def advance(self, **by: float) -> None:
        """Move everybody's clock."""
        await self.act("clock", advance_seconds=timedelta(**by).total_seconds())

    def at_calendly(self) -> list[SimulatedSubscription]:
        """Return what Calendly has, the oldest first."""
        return list(self.calendly.engine.ledger.subscriptions())

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database as its owner."""
        return await owner_rows(self.database, query, *arguments)

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Write what was accepted, and return the events about subscriptions: type and data."""
        await write_all(self.settings, clock=self.clock)
        found = await self.rows(
            "SELECT type, data FROM slotwire.events WHERE type = ANY ($1) ORDER BY position", [LOST, RESTORED]
        )
        return [(row["type"], orjson.loads(row["data"])) for row in found]

    async def audited(self) -> dict[str, int]:
        """Return how often `control` is in the audit with each action that was begun and done."""
        rows = await self.rows(
            "SELECT s.action, count(*) AS times FROM slotwire.audit s JOIN slotwire.audit e ON e.begun = s.id"
            " WHERE s.actor = 'control' AND e.result = 'done' GROUP BY s.action"
        )
        return {row["action"]: row["times"] for row in rows}


@asynccontextmanager
async def guarded_setup(
    database: Database, *, organizations: int = 1, still: bool = True
) -> AsyncIterator[GuardedSetup]:
    """Run all of it; with `still`, the clock moves only when the test moves it, and turns at Calendly come at once."""
    clock = DrivenClock(real=lambda: STILL) if still else DrivenClock()
    async with (
        receiving() as receiver,
        simulator(Options(seed="guarded", organizations=organizations, clock=clock)) as calendly,
    ):
        settings = settings_for(database).model_copy(
            update={"public_url": receiver.url, "calendly": CalendlySettings(api_url=calendly.url)}
        )
        async with (
            management_api(settings, clock=clock, budgets=hurried if still else Budgets) as api,
            httpx.AsyncClient(base_url=calendly.url, timeout=60, verify=NO_TLS) as http,
        ):
            yield GuardedSetup(calendly, receiver, api.actions, settings, database, http)
