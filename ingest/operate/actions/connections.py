"""Operations on connections: credentials at Calendly."""

from __future__ import annotations

from uuid import UUID

from slotwire.ingest.control import capabilities
from slotwire.ingest.control.connection_records import read_page
from slotwire.ingest.control.disconnect import disconnect
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.connection_models import (
    ConnectionDetail,
    ConnectionItem,
    ConnectionPage,
    ConnectionRequest,
    connection_detail,
    connection_item,
)
from slotwire.ingest.operate.cursors import read_time_place, write_time_place
from slotwire.ingest.operate.models import PageQuery
from slotwire.ingest.operate.roles import Principal, Role


class ConnectionActions(ResourceActions):
    """Credentials at Calendly."""

    async def list(self, who: Principal, org: str | None, query: PageQuery) -> ConnectionPage:
        """List connections, oldest first, in the state last seen."""
        who.require(Role.READER)
        after = None if query.cursor is None else read_time_place("connections", query.cursor)
        found = await read_page(self.pool, who.reach(org), after=after, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_time_place("connections", (found[-1].created_at, found[-1].id)) if more else None
        return ConnectionPage(items=tuple(map(connection_item, found)), next_cursor=cursor)

    async def add(self, who: Principal, org: str | None, request: ConnectionRequest) -> tuple[ConnectionItem, bool]:
        """Connect a token's user, or replace the user's token. Returns also whether the user is new."""
        async with self.audited(who, "connections.add", org=org) as entry:
            who.require(Role.OPERATOR)
            added = await self.connections(who).add(request.token, org=who.reach(org))
            entry.org, entry.target = added.connection.org, added.connection.id
        return connection_item(added.connection), added.new

    async def get(self, who: Principal, org: str | None, connection_id: UUID) -> ConnectionDetail:
        """Read one connection, in the state last seen."""
        who.require(Role.READER)
        found = await self.connections(who).get(connection_id, who.reach(org))
        return connection_detail(found, await capabilities.read(self.pool, found))

    async def probe(self, who: Principal, org: str | None, connection_id: UUID) -> ConnectionDetail:
        """Ask Calendly what a connection can do, family by family."""
        async with self.audited(who, "connections.probe", org=org, target=connection_id) as entry:
            who.require(Role.OPERATOR)
            manager = self.connections(who)
            found = await manager.get(connection_id, who.reach(org))
            entry.org = found.org
            able = await capabilities.probe(manager, found)
        return connection_detail(await manager.get(connection_id, who.reach(org)), able)

    async def check(self, who: Principal, org: str | None, connection_id: UUID) -> ConnectionItem:
        """Ask Calendly once whether a connection is still good. The result is in its state."""
        async with self.audited(who, "connections.check", org=org, target=connection_id) as entry:
            who.require(Role.OPERATOR)
            found = await self.connections(who).check(connection_id, who.reach(org))
            entry.org = found.org
        return connection_item(found)

    async def delete(self, who: Principal, org: str | None, connection_id: UUID) -> ConnectionItem:
        """Delete a credential and return it as it was. Subscriptions made with it continue."""
        async with self.audited(who, "connections.delete", org=org, target=connection_id) as entry:
            who.require(Role.OPERATOR)
            gone = await disconnect(self.organizations(who), connection_id, who.reach(org))
            entry.org = gone.org
        return connection_item(gone)
