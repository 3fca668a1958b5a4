"""Operations on the events of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.operate import log_pages
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.cursors import read_log_place, write_log_place
from slotwire.ingest.operate.models import EventDetail, EventItem, EventPage, EventQuery
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role

FOLLOW_SECONDS = 0.25
"""The pause between two queries while the log is followed."""


class EventActions(ResourceActions):
    """Events of the log."""

    async def list(self, who: Principal, query: EventQuery) -> EventPage:
        """List events of the log, oldest first."""
        who.require(Role.READER)
        only = log_pages.EventFilter(who.reach(query.organization), query.type, query.subject)
        if query.cursor is not None and query.after is not None:
            raise RequestRefused(
                "`cursor` and `after` cannot be combined", code="parameter_invalid", remedy="Leave one out."
            )
        with narrowed_by(query):
            if query.cursor is not None:
                place = read_log_place("events", query.cursor)
            else:
                place = await log_pages.everywhere(self.pool, query.after or 0)
            # Read one more than asked, to know whether there is another page.
            items = await log_pages.events_after(self.pool, place, only, limit=query.limit + 1)
        more, items = len(items) > query.limit, items[: query.limit]
        reached = log_pages.place_after(place, items, only)
        return EventPage(items=tuple(items), next_cursor=write_log_place("events", reached) if more else None)

    async def get(self, who: Principal, event_id: UUID) -> EventDetail:
        """Read one event with its data."""
        who.require(Role.READER)
        found = await log_pages.event(self.pool, event_id, who.org)
        if found is None:
            raise RequestRefused("there is no such event within reach", code="not_found", remedy="Check its id.")
        return found

    async def latest(self, who: Principal, query: EventQuery) -> tuple[EventItem, ...]:
        """Read the latest events, oldest first."""
        who.require(Role.READER)
        only = log_pages.EventFilter(who.reach(query.organization), query.type, query.subject)
        with narrowed_by(query):
            return tuple(await log_pages.latest_events(self.pool, only, limit=query.limit))

    async def follow(self, who: Principal, query: EventQuery, stop: asyncio.Event) -> AsyncIterator[EventItem]:
        """Yield events as they are committed, from `after` (or from now on) until `stop` is set."""
        who.require(Role.READER)
        only = log_pages.EventFilter(who.reach(query.organization), query.type, query.subject)
        place = await log_pages.log_ends(self.pool)
        if query.after is not None:
            place = dict.fromkeys(place, query.after)
        while not stop.is_set():
            items = await log_pages.events_after(self.pool, place, only, limit=query.limit)
            place = log_pages.place_after(place, items, only)
            for item in items:
                yield item
            if len(items) < query.limit:
                await wait_for(stop, FOLLOW_SECONDS)
