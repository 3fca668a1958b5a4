"""A chore: removes the rate budgets of users whom nobody acts as any more, with the processes that waited there."""

from __future__ import annotations

from datetime import timedelta

from slotwire.ingest.control.calendly_client.leases import prune
from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool

IDLE_AFTER = timedelta(days=2)
"""How long a budget is kept after its last call: its minute is long over, the day that bookings are counted by, and
whatever a 429 asked to wait."""
REMOVE_EVERY_SECONDS = 3_600.0
"""The pause between two rounds."""


async def run(pool: Pool, clock: Clock) -> None:
    """Remove idle budgets until cancelled. A failed round is logged, and the next one does its work."""
    await repeat(lambda: run_once(pool, clock), stage="budget", seconds=REMOVE_EVERY_SECONDS)


async def run_once(pool: Pool, clock: Clock) -> int:
    """Remove idle budgets once; return how many.

    Raises:
        DatabaseUnavailable: nothing was removed.
    """
    return await prune(pool, (clock.now() - IDLE_AFTER).timestamp())
