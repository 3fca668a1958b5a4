"""Operations on events that Kafka refused."""

from __future__ import annotations

from uuid import UUID

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.operate import log_pages
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.cursors import read_id_place, write_id_place
from slotwire.ingest.operate.models import EventItem, ParkedPage, ParkedQuery
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role


class ParkedEventActions(ResourceActions):
    """Events that are in the log and not in Kafka, because the broker refused their records."""

    async def list(self, who: Principal, query: ParkedQuery) -> ParkedPage:
        """List parked events by id."""
        who.require(Role.READER)
        after = None if query.cursor is None else read_id_place("parked", query.cursor)
        with narrowed_by(query):
            reach = who.reach(query.organization)
            found = await log_pages.parked_page(self.pool, reach, after=after, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        return ParkedPage(items=tuple(found), next_cursor=write_id_place("parked", found[-1].id) if more else None)

    async def settle(self, who: Principal, event_id: UUID) -> EventItem:
        """Note that everybody who needs a parked event has been told: it is parked no more, and stays in the log.

        A second time, or where it was not parked, changes nothing.
        """
        async with self.audited(who, "parked_events.settle", org=None, target=event_id) as entry:
            who.require(Role.OPERATOR)
            found = await log_pages.event(self.pool, event_id, who.org)
            if found is None:
                raise RequestRefused(
                    "there is no such event within reach",
                    code="not_found",
                    remedy="`slotwire events parked` shows those that are parked.",
                )
            entry.org = found.organization
            await log_pages.settle_parked(self.pool, event_id)
        return EventItem(**{name: getattr(found, name) for name in EventItem.model_fields})
