"""What is known of when users can be booked."""

from __future__ import annotations

import orjson

from slotwire.ingest.foundation.postgres import read_queries, translated
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.availability_models import AvailabilityItem, AvailabilityPage, AvailabilityQuery
from slotwire.ingest.operate.cursors import read_offer_place, write_offer_place
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role

_SQL = read_queries("slotwire.ingest.sql", "availability.sql")


class AvailabilityActions(ResourceActions):
    """Availability, by user and event type."""

    async def list(self, who: Principal, query: AvailabilityQuery) -> AvailabilityPage:
        """List availability, ordered by organization, user and event type."""
        who.require(Role.READER)
        after = ("", "", "") if query.cursor is None else read_offer_place(query.cursor)
        org = who.reach(query.organization)
        with narrowed_by(query), translated():
            rows = await self.pool.fetch(
                _SQL["availability_page"], org, query.user, query.event_type, *after, query.limit + 1
            )
        more, rows = len(rows) > query.limit, rows[: query.limit]
        items = tuple(
            AvailabilityItem(
                organization=row["org"],
                user=row["user_uri"],
                event_type=row["event_type"],
                read_at=row["read_at"],
                changed_since=row["due_since"],
                ends=row["ends"],
                slots=orjson.loads(row["slots"]),
                busy=orjson.loads(row["busy"]),
                gone=row["gone"],
                published=row["is_published"],
                writer=row["writer"],
            )
            for row in rows
        )
        last = items[-1] if items else None
        cursor = None if last is None else write_offer_place((last.organization, last.user, last.event_type))
        return AvailabilityPage(items=items, next_cursor=cursor if more else None)
