"""An organization whose holes are filled over answers that a test alters, and contacts that the simulator has not."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from aiohttp import web

from slotwire.ingest.control import hole_rounds
from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.calendly_client.transport import open_calendly
from slotwire.ingest.control.hole_records import read_one
from slotwire.ingest.control.holes import HoleCause, note_hole
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.foundation.reconcile_settings import ReconcileSettings
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.local.databases import Database
from tests.support.altered_calendly import AlteredCalendly, Answer, altered_calendly
from tests.support.organizations_setup import OrganizationsSetup, organizations_setup
from tests.support.simulated_calendly import AMPLE

NOT_FOUND: Answer = (
    404,
    {"title": "Resource Not Found", "message": "The server could not find the requested resource."},
)


@dataclass(frozen=True)
class HolesSetup:
    """A connected organization, and what stands between its fetches and the simulator."""

    of: OrganizationsSetup
    between: AlteredCalendly
    organizations: Organizations

    async def in_the_dark(self, bookings: int, **asked: Any) -> list[str]:
        """Book with nobody listening; return the invitees."""
        await self.of.settled()
        await self.of.simulate("faults", drop_rate=1.0)
        made = [await self.of.simulate("book", organization=self.of.org, **asked) for _ in range(bookings)]
        await self.of.simulate("faults", drop_rate=0.0)
        return [each["invitees"][0] for each in made]

    async def fetch(self, settings: ReconcileSettings | None = None, *, since: datetime | None = None) -> Any:
        """Note a hole of the last hour, or since a time; fill it, and return the report."""
        now = self.of.actions.clock.now()
        since = since or now - timedelta(hours=1)
        hole = await note_hole(
            self.of.actions.pool, self.of.org, cause=HoleCause.NO_DATABASE, since=since, now=now, subscription=None
        )
        outcomes = await hole_rounds.run_once(self.organizations, settings or ReconcileSettings())
        assert outcomes == {self.of.org: ["ended"]}
        return (await read_one(self.of.actions.pool, hole)).report

    async def deliver(self, event: str, payload: dict[str, Any]) -> None:
        """Let a webhook come that the simulator does not make by itself."""
        [subscription] = self.of.calendly.engine.ledger.subscriptions()
        told = {"event": event, "created_at": "2026-11-20T15:00:00.000000Z", "payload": payload}
        await self.of.simulate("send", subscription=subscription.id, body=orjson.dumps(told).decode())
        await self.of.settled()

    async def told(self) -> Counter[tuple[str, str]]:
        """Read the log: how often each event about each subject is there."""
        rows = await self.of.rows("SELECT type, subject FROM slotwire.events WHERE type LIKE 'com.%'")
        return Counter((row["type"].split(".", 2)[2].removesuffix(".v1"), row["subject"]) for row in rows)


@asynccontextmanager
async def connected(database: Database, *events: str) -> AsyncIterator[HolesSetup]:
    """Connect an organization, subscribed to these events or the usual ones."""
    async with organizations_setup(database, organizations=1) as of, altered_calendly(of.calendly.url) as between:
        await of.add(events=events)
        settings = of.settings.model_copy(
            update={"calendly": CalendlySettings(api_url=between.url, assumed_calls_per_minute=AMPLE)}
        )
        actions = of.actions
        budgets = Budgets(actions.pool, actions.clock, settings.calendly)
        async with open_calendly(settings.calendly, budgets) as calendly:
            organizations = Organizations.from_settings(settings, actions.pool, actions.clock, calendly)
            yield HolesSetup(of, between, organizations)


def contact(name: str, *, minutes: int, company: str | None = None) -> dict[str, Any]:
    """Write a contact that was changed so many minutes after two o'clock; it was made at one."""
    return {
        "uri": f"https://api.calendly.com/contacts/{name}",
        "name": name,
        "emails": [{"email": f"{name.lower()}@example.test", "is_primary": True}],
        "company": company,
        "created_at": "2026-11-20T13:00:00.000000Z",
        "updated_at": f"2026-11-20T14:{minutes:02}:00.000000Z",
    }


def recap(name: str, *, minutes: int) -> dict[str, Any]:
    """Write a recap that was changed so many minutes after two o'clock; it was made at one."""
    return {
        "uri": f"https://api.calendly.com/meeting_recaps/{name}",
        "summary_md": f"{minutes} minutes",
        "created_at": "2026-11-20T13:00:00.000000Z",
        "updated_at": f"2026-11-20T14:{minutes:02}:00.000000Z",
    }


def listing(*resources: dict[str, Any], at: str = "/contacts") -> Any:
    """Answer a list with these resources, contacts with what REST adds to each."""
    added = {"app_url": "https://calendly.example.test/a"} if at == "/contacts" else {}
    shown = {each["uri"].rpartition("/")[2]: {**each, **added} for each in resources}

    def alter(request: web.Request, *_: object) -> Answer | None:
        if request.path == at:
            return 200, {"collection": [*shown.values()], "pagination": {"count": len(shown)}}
        name = request.path.removeprefix(f"{at}/")
        if name == request.path:
            return None
        return (200, {"resource": shown[name]}) if name in shown else NOT_FOUND

    return alter
