"""Operations on bookings."""

from __future__ import annotations

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.operate import booking_pages
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.booking_models import BookingPage, BookingQuery, Timeline, TimelineQuery
from slotwire.ingest.operate.cursors import read_booking_place, write_booking_place
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role


class BookingActions(ResourceActions):
    """Bookings, and the timeline of one."""

    async def list(self, who: Principal, query: BookingQuery) -> BookingPage:
        """List bookings, ordered by invitee URI."""
        who.require(Role.READER)
        after = None if query.cursor is None else read_booking_place(query.cursor)
        org = who.reach(query.organization)
        with narrowed_by(query):
            items = await booking_pages.page(self.pool, query, org, after=after, limit=query.limit + 1)
        more, items = len(items) > query.limit, items[: query.limit]
        cursor = write_booking_place((items[-1].invitee, items[-1].organization)) if more else None
        return BookingPage(items=tuple(items), next_cursor=cursor)

    async def timeline(self, who: Principal, query: TimelineQuery) -> Timeline:
        """Read the way of one booking from the POST to the topic."""
        who.require(Role.READER)
        prefix, org = self.settings.kafka.topic_prefix, who.reach(query.organization)
        organizations = await booking_pages.organizations_of(self.pool, query.invitee, org)
        if len(organizations) > 1:
            raise RequestRefused(
                f"several organizations were told of this invitee: {', '.join(organizations)}",
                code="organization_missing",
                remedy="Name one of them: --organization ORG, or `organization` in the query.",
            )
        found = await booking_pages.timeline(self.pool, query.invitee, org, topic_prefix=prefix)
        if found is None:
            raise RequestRefused(
                "there is no such booking within reach",
                code="not_found",
                remedy="Give the invitee's full URI, as `slotwire bookings list` shows it.",
            )
        return found
