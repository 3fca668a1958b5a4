"""Operations on the scheduled work of agents."""

from __future__ import annotations

from slotwire.ingest.operate import schedule_pages
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.agent_filter import AgentFilter
from slotwire.ingest.operate.cursors import read_schedule_place, write_schedule_place
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.ingest.operate.schedule_models import SchedulePage, ScheduleQuery


class ScheduleActions(ResourceActions):
    """The scheduled work of agents."""

    async def list(self, who: Principal, query: ScheduleQuery) -> SchedulePage:
        """List scheduled work with what is due next, by agent, name and organization."""
        who.require(Role.READER)
        only = AgentFilter(who.reach(query.organization), query.agent)
        behind = None if query.cursor is None else read_schedule_place(query.cursor)
        with narrowed_by(query):
            found = await schedule_pages.read_page(
                self.pool, only, behind=behind, limit=query.limit + 1, now=self.clock.now()
            )
        more, found = len(found) > query.limit, found[: query.limit]
        last = found[-1] if more else None
        cursor = None if last is None else write_schedule_place((last.agent, last.schedule, last.organization))
        return SchedulePage(items=found, next_cursor=cursor)
