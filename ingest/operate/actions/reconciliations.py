"""Operations on reconciliations: holes, and the fetches that fill them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from slotwire.ingest.control.backfill import BACKGROUND_RETRIES
from slotwire.ingest.control.fetch_progress import FetchProgress
from slotwire.ingest.control.hole_fetch import Turn
from slotwire.ingest.control.hole_records import claim, hasten, read_one, read_page
from slotwire.ingest.control.hole_rounds import FillOutcome, fill
from slotwire.ingest.control.holes import HoleCause, note_hole
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.lifecycle import pause
from slotwire.ingest.operate.actions.base import WRITER_SECONDS, ResourceActions
from slotwire.ingest.operate.cursors import read_time_place, write_time_place
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.reconciliation_models import (
    ReconciliationItem,
    ReconciliationPage,
    ReconciliationQuery,
    ReconciliationRequest,
    reconciliation_item,
)
from slotwire.ingest.operate.roles import Principal, Role

SINCE = timedelta(days=1)
"""How far back a reconciliation goes that names no time: Calendly drops a message after a day."""
LOOK_SECONDS = 1.0
"""How often somebody who waits for another process' fetch looks."""


class ReconciliationActions(ResourceActions):
    """Holes, noticed or asked for, and the fetches that fill them."""

    async def list(self, who: Principal, query: ReconciliationQuery) -> ReconciliationPage:
        """List holes, newest first."""
        who.require(Role.READER)
        before = None if query.cursor is None else read_time_place("reconciliations", query.cursor)
        with narrowed_by(query):
            reach = who.reach(query.organization)
            found = await read_page(self.pool, reach, before=before, closed=query.ended, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_time_place("reconciliations", (found[-1].noticed_at, found[-1].id)) if more else None
        return ReconciliationPage(items=tuple(map(reconciliation_item, found)), next_cursor=cursor)

    async def get(self, who: Principal, hole: UUID) -> ReconciliationItem:
        """Read one hole, with its report once it is closed."""
        who.require(Role.READER)
        return reconciliation_item(await read_one(self.pool, hole, who.org))

    async def create(self, who: Principal, request: ReconciliationRequest) -> ReconciliationItem:
        """Ask for a fetch of what an organization may have missed; `slotwire control` makes it at once."""
        async with self.audited(who, "reconciliations.create", org=request.organization) as entry:
            who.require(Role.OPERATOR)
            org = who.reach(request.organization)
            organizations, now = self.organizations(who), self.clock.now()
            organization = await (organizations.get(org) if org else organizations.only())
            entry.org = organization.org
            if organization.ended_at is not None:
                raise RequestRefused(
                    "the organization was removed: it has no credential to fetch with",
                    code="organization_refused",
                    remedy="Add it again: slotwire organizations add --token-file FILE",
                )
            since = request.since or now - SINCE
            if since > now:
                raise RequestRefused(
                    "that time is still to come",
                    code="parameter_invalid",
                    remedy="Give a time until which nothing was missed.",
                )
            hole = await note_hole(
                self.pool, organization.org, cause=HoleCause.ASKED, since=since, now=now, subscription=None
            )
            await hasten(self.pool, organization.org, now)
            entry.target = hole
        return reconciliation_item(await read_one(self.pool, hole))

    async def run(
        self, who: Principal, hole: UUID, report: Callable[[FetchProgress], None] = lambda _: None
    ) -> ReconciliationItem:
        """Fetch now what a hole hides, or wait for who fetches it already. Ends when it is closed, or a fetch fails."""
        async with self.audited(who, "reconciliations.run", org=None, target=hole) as entry:
            who.require(Role.OPERATOR)
            found = await read_one(self.pool, hole, who.org)
            entry.org = found.org
            organizations = Organizations.from_settings(
                self.settings, self.pool, self.clock, self.calendly, retries=BACKGROUND_RETRIES
            )
            await organizations.connections.for_organization(found.org)  # without one nobody can fetch
            turn, outcome = Turn(report=report, patience=WRITER_SECONDS), FillOutcome.ENDED
            while found.state != "closed" and outcome in {FillOutcome.ENDED, FillOutcome.TURN_OVER, FillOutcome.LOST}:
                held = await claim(self.pool, self.clock.now(), org=found.org)
                if held is None:
                    await pause(LOOK_SECONDS)
                else:
                    outcome = await fill(organizations, held, self.settings.reconcile, turn)
                found = await read_one(self.pool, hole)
                if held is None and found.state == "open" and found.problem is not None:
                    break  # another process has tried
        return reconciliation_item(found)
