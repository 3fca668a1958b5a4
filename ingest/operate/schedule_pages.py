"""The scheduled work of agents as operators see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.operate.agent_filter import AgentFilter
from slotwire.ingest.operate.cursors import SchedulePlace
from slotwire.ingest.operate.schedule_models import ScheduleItem

LATE_AFTER = timedelta(seconds=60)
"""What is due for so long and was not fired is late. Up to where moments have come is noted every few seconds only."""
_SQL = read_queries("slotwire.ingest.sql", "agent_schedules.sql")


async def read_page(
    pool: Pool, only: AgentFilter, *, behind: SchedulePlace | None, limit: int, now: datetime
) -> tuple[ScheduleItem, ...]:
    """Read scheduled work behind a place, by agent, name and organization."""
    with translated():
        rows = await pool.fetch(_SQL["schedules_page"], only.org, only.agent, *(behind or (None, None, None)), limit)
    return tuple(
        ScheduleItem.model_validate({**row, "late_seconds": _seconds_late(row["due_at"], now)}) for row in rows
    )


def _seconds_late(due_at: datetime | None, now: datetime) -> int:
    # The last time that there is comes without a zone.
    late = timedelta(0) if due_at is None else now - due_at.replace(tzinfo=UTC)
    return int(late.total_seconds()) if late > LATE_AFTER else 0
