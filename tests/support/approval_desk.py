"""The pages on which people decide about what agents ask for, with a management API behind them and a browser."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx

from slotwire.ingest.control.approval_listener import ApprovalDesk
from slotwire.ingest.control.oauth_listener import PublicPages, listening
from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.foundation.oauth_settings import OAuthSettings
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import COMMAND_LINE
from tests.support.children import free_port
from tests.support.management_api import ManagementApi, management_api, write_approval, write_organization
from tests.support.owner import owner_rows
from tests.support.plain_http import NO_TLS
from tests.support.public_endpoint import settings_for

TYPED = {"guest": "</pre><script>alert(1)</script>\u202eevil", "amount": 70}
"""What an invitee typed, in what an agent asks for."""


@dataclass
class DecisionDesk:
    """The pages, the management API behind them, and a browser that follows nothing by itself."""

    api: ManagementApi
    database: Database
    settings: Settings
    clock: ManualClock
    url: str
    browser: httpx.AsyncClient

    async def asked(self, number: int = 1, *, days: int = 1) -> UUID:
        """Have an agent ask for something."""
        what = json.dumps(TYPED, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        return await write_approval(self.database, "ORG", number, days=days, what=what)

    async def link(self, approval: UUID) -> str:
        """Make its link, as an operator does."""
        return (await self.api.actions.approvals.link(COMMAND_LINE, approval)).url

    async def press(self, url: str, decision: str | None = "approve", **changed: str) -> httpx.Response:
        """Press a button of a page, with its hidden fields, or others in place of them."""
        shown = await self.browser.get(url)
        fields = dict(re.findall(r'name="(ticket|digest)" value="([^"]*)"', shown.text))
        given = {"ticket": parse_qs(urlsplit(url).query)["ticket"][0], **fields, **changed}
        form = given if decision is None else {**given, "decision": decision}
        return await self.browser.post(url.partition("?")[0], data=form)

    async def state(self, approval: UUID) -> tuple[str, str]:
        """Return what became of an approval, and of its run."""
        rows = await owner_rows(
            self.database,
            "SELECT a.state, r.state AS run FROM slotwire.approvals a JOIN slotwire.runs r USING (agent, event_id)"
            " WHERE a.id = $1",
            approval,
        )
        return rows[0]["state"], rows[0]["run"]


@asynccontextmanager
async def opened(database: Database, *, integrator: str = "") -> AsyncIterator[DecisionDesk]:
    """Open the pages where there is no OAuth app."""
    await write_organization(database, "ORG")
    port, clock = free_port(), ManualClock(SystemClock().now())
    oauth = OAuthSettings(host="127.0.0.1", port=port, public_url=f"http://127.0.0.1:{port}", integrator=integrator)
    settings = settings_for(database).model_copy(update={"oauth": oauth})
    async with management_api(settings, clock=clock) as api, httpx.AsyncClient(timeout=60, verify=NO_TLS) as browser:
        desk = ApprovalDesk(api.actions.approvals.links(), api.actions.approvals.decided_by_link, integrator)
        async with listening(PublicPages(oauth, approvals=desk)) as url:
            assert url is not None
            yield DecisionDesk(api, database, settings, clock, url, browser)
