"""Operations on organizations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from uuid import UUID

from slotwire.ingest.control.backfill import BACKGROUND_RETRIES, BackfillProgress
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.calendly_client.uses import Behalf
from slotwire.ingest.control.changes.sweep_records import sweep_state
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.operate.actions.base import WRITER_SECONDS, ResourceActions
from slotwire.ingest.operate.cursors import read_name_place, write_name_place
from slotwire.ingest.operate.organization_models import (
    OrganizationAdded,
    OrganizationDetail,
    OrganizationItem,
    OrganizationPage,
    OrganizationQuery,
    OrganizationRemoved,
    OrganizationRequest,
    RenameRequest,
    added_item,
    organization_detail,
    organization_item,
    removed_item,
)
from slotwire.ingest.operate.roles import CONTROL, Principal, Role


class OrganizationActions(ResourceActions):
    """Organizations: added, read, renamed, backfilled, removed."""

    async def list(self, who: Principal, query: OrganizationQuery) -> OrganizationPage:
        """List organizations, ordered by name."""
        who.require(Role.READER)
        after = None if query.cursor is None else read_name_place("organizations", query.cursor)
        found = await self.organizations(who).page(who.org, after=after, ended=query.ended, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_name_place("organizations", found[-1].org) if more else None
        return OrganizationPage(items=tuple(map(organization_item, found)), next_cursor=cursor)

    async def get(self, who: Principal, org: str) -> OrganizationDetail:
        """Read one organization with its wanted subscriptions, and how the comparing of its meetings is."""
        who.require(Role.READER)
        who.reach(org)
        organizations = self.organizations(who)
        found, wanted = await organizations.get(org), await organizations.subscriptions.wanted(org)
        return organization_detail(found, wanted, await sweep_state(self.pool, org))

    async def add(self, who: Principal, request: OrganizationRequest) -> OrganizationAdded:
        """Connect a token's user, subscribe the organization, and record what is to be fetched."""
        async with self.audited(who, "organizations.add", org=request.organization) as entry:
            who.require(Role.OPERATOR)
            if request.external_id is not None:
                # Events carry it: who is bound to one organization may not take another's name, nor find out about it.
                who.require_everywhere()
            organizations = self.organizations(who)
            org = who.reach(request.organization)
            begun = await organizations.add(
                request.token,
                org=org,
                external_id=request.external_id,
                events=request.events,
                max_age_seconds=request.max_age_seconds,
            )
            entry.org = entry.target = begun.organization.org
            if request.backfill_days is not None:
                start_from = self.clock.now() - timedelta(days=request.backfill_days)
                await organizations.request_backfill(begun.organization.org, start_from)
                return added_item(begun).model_copy(
                    update={"organization": organization_item(await organizations.get(begun.organization.org))}
                )
            return added_item(begun)

    async def rename(self, who: Principal, org: str, request: RenameRequest) -> OrganizationItem:
        """Give an organization another external id, or none. Its next events carry it as `ce_tenant`."""
        async with self.audited(who, "organizations.rename", org=org, target=org):
            who.require(Role.ADMIN)
            who.require_everywhere()
            return organization_item(await self.organizations(who).rename(org, request.external_id))

    async def remove(self, who: Principal, org: str, *, force: bool, at_once: bool = False) -> OrganizationRemoved:
        """Remove an organization, at Calendly first, then here. `at_once` revokes its signing keys before."""
        async with self.audited(who, "organizations.remove", org=org, target=org):
            who.require(Role.ADMIN)
            who.reach(org)
            return removed_item(await self.organizations(who).remove(org, force=force, at_once=at_once))

    async def backfill(
        self, who: Principal, org: str, report: Callable[[BackfillProgress], None]
    ) -> BackfillProgress | None:
        """Fetch now what is recorded to be fetched of an organization; None when nothing is."""
        async with self.audited(who, "organizations.backfill", org=org, target=org):
            who.require(Role.OPERATOR)
            who.reach(org)
            organizations = Organizations.from_settings(
                self.settings,
                self.pool,
                self.clock,
                self.calendly,
                retries=BACKGROUND_RETRIES,
                behalf=Behalf(who.actor),
            )
            best = await organizations.connections.for_organization(org)
            async with organizations.connections.acting(best, priority=Priority.SWEEP) as calendly:
                return await organizations.run_backfill(org, calendly, report, patience=WRITER_SECONDS)

    async def named(self, who: Principal, org: str | None) -> str:
        """Return the organization a caller means: the one named, the one of the key, or the only one there is."""
        who.require(Role.READER)
        reached = who.reach(org)
        if reached is not None:
            return reached
        return (await self.organizations(who).only()).org

    def of_rounds(self, action: str, org: str, target: UUID | str) -> AbstractAsyncContextManager[object]:
        """Wrap a change that the subscription manager makes on its rounds, so that the audit has it too."""
        return self.audited(CONTROL, action, org=org, target=target)
