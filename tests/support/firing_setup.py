"""What tests of firings need beside bookings: an effect to write, and what to wait for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from slotwire.handlers import Context, Firing
from slotwire.ingest.foundation.clock import ManualClock
from tests.support.agent_setup import NOTE_EFFECT, AgentSetup, until

BEGIN = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
SOON: dict[str, Any] = {"look_interval": 0.02}


async def noted(ctx: Context, firing: Firing) -> None:
    """Write an effect: what fired, and how many minutes after the beginning it was due."""
    async with ctx.transaction() as connection:
        due = int((firing.due - BEGIN) / MINUTE)
        await connection.execute(NOTE_EFFECT, firing.id, f"{firing.schedule} {ctx.organization} {ctx.tenant}", due)


async def effects(setup: AgentSetup) -> list[tuple[str, int]]:
    """What has fired, sorted."""
    return sorted((row["key"], row["sequence"]) for row in await setup.effects())


async def looked(setup: AgentSetup, clock: ManualClock, *names: str) -> None:
    """Wait until schedules have come to the clock's time."""

    async def reached() -> bool:
        found = await setup.pool.fetch("SELECT schedule, reached FROM slotwire.agent_schedules WHERE declared")
        times = {row["schedule"]: row["reached"] for row in found}
        return all(times.get(name) == clock.now() for name in names)

    await until(reached)


async def counted(setup: AgentSetup, count: int) -> bool:
    """Whether so many have fired."""
    return len(await setup.effects()) == count


async def declared(setup: AgentSetup, count: int) -> bool:
    """Whether an agent has declared so much work."""
    return bool(await setup.pool.fetchval("SELECT count(*) = $1 FROM slotwire.agent_schedules", count))


async def queue_is_empty(setup: AgentSetup) -> bool:
    """Whether no firing waits."""
    return not await setup.pool.fetchval("SELECT count(*) FROM slotwire.agent_queue")
