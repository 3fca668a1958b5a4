"""Operations on webhook subscriptions of MCP Events, which agents make and their hosts refresh."""

from __future__ import annotations

from uuid import UUID

from slotwire.ingest.operate import mcp_subscriptions
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.cursors import read_time_place, write_time_place
from slotwire.ingest.operate.mcp_subscription_models import (
    McpSubscriptionItem,
    McpSubscriptionPage,
    McpSubscriptionQuery,
)
from slotwire.ingest.operate.roles import Principal, Role


class McpSubscriptionActions(ResourceActions):
    """Webhook subscriptions of MCP Events."""

    async def list(self, who: Principal, query: McpSubscriptionQuery) -> McpSubscriptionPage:
        """List subscriptions, oldest first."""
        who.require(Role.READER)
        found = await mcp_subscriptions.page(
            self.pool,
            self.clock.now(),
            org=who.reach(query.organization),
            agent=query.agent_id,
            state=query.state,
            after=None if query.cursor is None else read_time_place("mcp_subscriptions", query.cursor),
            limit=query.limit + 1,
        )
        more, found = len(found) > query.limit, found[: query.limit]
        place = (found[-1].created_at, UUID(found[-1].id)) if more else None
        cursor = None if place is None else write_time_place("mcp_subscriptions", place)
        return McpSubscriptionPage(items=tuple(found), next_cursor=cursor)

    async def get(self, who: Principal, subscription: UUID) -> McpSubscriptionItem:
        """Read one subscription."""
        who.require(Role.READER)
        return await mcp_subscriptions.read(self.pool, self.clock.now(), subscription, who.org)

    async def delete(self, who: Principal, subscription: UUID) -> McpSubscriptionItem:
        """End a subscription: nothing more is sent, and its host is told where it understands that."""
        async with self.audited(who, "mcp_subscriptions.delete", org=None, target=subscription.hex) as entry:
            who.require(Role.OPERATOR)
            found = await mcp_subscriptions.read(self.pool, self.clock.now(), subscription, who.org)
            entry.org = found.organization
            await mcp_subscriptions.end(self.pool, subscription, who.org)
        return found
