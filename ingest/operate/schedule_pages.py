"""The scheduled work of agents as operators see it."""

from __future__ import annotations

from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.operate.agent_filter import AgentFilter
from slotwire.ingest.operate.cursors import SchedulePlace
from slotwire.ingest.operate.schedule_models import ScheduleItem

_SQL = read_queries("slotwire.ingest.sql", "agent_schedules.sql")


async def read_page(
    pool: Pool, only: AgentFilter, *, behind: SchedulePlace | None, limit: int
) -> tuple[ScheduleItem, ...]:
    """Read scheduled work behind a place, by agent, name and organization."""
    with translated():
        rows = await pool.fetch(_SQL["schedules_page"], only.org, only.agent, *(behind or (None, None, None)), limit)
    return tuple(ScheduleItem.model_validate(dict(row)) for row in rows)
