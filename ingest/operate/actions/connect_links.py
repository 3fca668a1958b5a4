"""Operations on links under which customers connect their Calendly."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from uuid import UUID

from slotwire.ingest.control.connect_links import ConnectLinks
from slotwire.ingest.control.oauth_flow import ConnectFlow
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.audit import AuditEntry
from slotwire.ingest.operate.connect_link_models import (
    CodeRequest,
    ConnectLinkCreated,
    ConnectLinkItem,
    ConnectLinkLive,
    ConnectLinkPage,
    ConnectLinkQuery,
    ConnectLinkRequest,
    link_created,
    link_item,
    live_item,
)
from slotwire.ingest.operate.cursors import read_time_place, write_time_place
from slotwire.ingest.operate.roles import Principal, Role


class ConnectLinkActions(ResourceActions):
    """Links for customers."""

    async def list(self, who: Principal, query: ConnectLinkQuery) -> ConnectLinkPage:
        """List links, oldest first, without their addresses."""
        who.require(Role.READER)
        after = None if query.cursor is None else read_time_place("connect_links", query.cursor)
        found = await self._links().page(who.reach(query.organization), after=after, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_time_place("connect_links", (found[-1].created_at, found[-1].id)) if more else None
        now = self.clock.now()
        return ConnectLinkPage(items=tuple(link_item(link, now) for link in found), next_cursor=cursor)

    async def get(self, who: Principal, link_id: UUID) -> ConnectLinkItem:
        """Read one link."""
        who.require(Role.READER)
        return link_item(await self._links().get(link_id, who.org), self.clock.now())

    async def create(self, who: Principal, request: ConnectLinkRequest) -> ConnectLinkCreated:
        """Make a link, and return its address, once."""
        async with self.audited(who, "connect_links.create", org=request.organization) as entry:
            who.require(Role.OPERATOR)
            if request.external_id is not None:
                # As when an organization is added: who is bound to one may not give names, nor find out about them.
                who.require_everywhere()
            if not self._links().has_app:
                raise _no_app()
            now, days = self.clock.now(), request.backfill_days
            link, url = await self._links().create(
                org=who.reach(request.organization),
                external_id=request.external_id,
                customer=request.customer,
                return_url=request.return_url,
                life=timedelta(seconds=request.life_seconds),
                backfill_from=None if days is None else now - timedelta(days=days),
            )
            entry.target = link.id
        return link_created(link, url.get_secret_value(), now)

    async def withdraw(self, who: Principal, link_id: UUID) -> ConnectLinkItem:
        """End a link before its time. One that brought a connection stays as it is."""
        async with self.audited(who, "connect_links.withdraw", org=None, target=link_id) as entry:
            who.require(Role.OPERATOR)
            links = self._links()
            link = await links.get(link_id, who.org)
            entry.org = link.org
            await links.withdraw(link)
            return link_item(await links.get(link_id, who.org), self.clock.now())

    async def exchange(self, who: Principal, link_id: UUID, request: CodeRequest) -> ConnectLinkLive:
        """Go live with what waits for a code: the caller says that the browser was the right customer's."""
        async with self.audited(who, "connect_links.exchange", org=None, target=link_id) as entry:
            who.require(Role.OPERATOR)
            organizations = self.organizations(who)
            flow = ConnectFlow.from_settings(self.settings, self.pool, self.clock, organizations, self.consented)
            if flow is None:
                raise _no_app()
            link = await flow.links.get(link_id, who.org)
            live = await flow.present(request.code, link)
            entry.org = live.org
            return live_item(live, await flow.links.get(link_id), self.clock.now())

    def consented(self, link_id: UUID, org: str) -> AbstractAsyncContextManager[AuditEntry]:
        """Wrap the storing of what somebody consented to, so that the audit has it: their link is the actor."""
        return self.audited(Principal(Role.OPERATOR, name=str(link_id)), "connections.consent", org=org)

    def _links(self) -> ConnectLinks:
        """Links as they are stored; a new one needs an app."""
        return ConnectLinks.from_settings(self.settings, self.pool, self.clock)


def _no_app() -> RequestRefused:
    return RequestRefused(
        "there is no OAuth app, so nobody can connect in the browser",
        code="oauth_app_missing",
        remedy="Set SLOTWIRE_OAUTH__CLIENT_ID and what belongs to it: docs/howto/connect-calendly.md",
    )
