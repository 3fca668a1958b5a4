"""Operations on deliveries."""

from __future__ import annotations

from slotwire.ingest.operate import delivery_pages, log_pages
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.cursors import read_log_place, write_log_place
from slotwire.ingest.operate.models import MAX_POSITION, DeliveryPage, DeliveryQuery
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role


class DeliveryActions(ResourceActions):
    """Deliveries from Calendly."""

    async def list(self, who: Principal, query: DeliveryQuery) -> DeliveryPage:
        """List deliveries, newest first."""
        who.require(Role.READER)
        only = delivery_pages.DeliveryFilter(who.reach(query.organization), query.outcome, query.event_id)
        with narrowed_by(query):
            if query.cursor is None:
                place = await log_pages.everywhere(self.pool, MAX_POSITION)
            else:
                place = read_log_place("deliveries", query.cursor)
            rows = await delivery_pages.read_page(self.pool, place, only, limit=query.limit + 1)
        more, rows = len(rows) > query.limit, rows[: query.limit]
        cursor = write_log_place("deliveries", delivery_pages.place_before(place, rows, only)) if more else None
        return DeliveryPage(items=tuple(map(delivery_pages.delivery_item, rows)), next_cursor=cursor)
