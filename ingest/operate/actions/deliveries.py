"""Operations on deliveries."""

from __future__ import annotations

from slotwire.ingest.operate import log_pages
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.cursors import read_id_place, write_id_place
from slotwire.ingest.operate.models import DeliveryPage, DeliveryQuery
from slotwire.ingest.operate.roles import Principal, Role


class DeliveryActions(ResourceActions):
    """Deliveries from Calendly."""

    async def list(self, who: Principal, query: DeliveryQuery) -> DeliveryPage:
        """List deliveries, newest first."""
        who.require(Role.READER)
        items = await log_pages.deliveries(
            self.pool,
            before=None if query.cursor is None else read_id_place("deliveries", query.cursor),
            org=who.reach(query.organization),
            outcome=query.outcome,
            event_id=query.event_id,
            limit=query.limit + 1,
        )
        more, items = len(items) > query.limit, items[: query.limit]
        cursor = write_id_place("deliveries", items[-1].id) if more else None
        return DeliveryPage(items=tuple(items), next_cursor=cursor)
