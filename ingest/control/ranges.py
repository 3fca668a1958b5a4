"""Ranges: the partitions of the log, and of the uses of credentials, a day each.

Those of the coming days are made ahead; `retention` drops old ones. If they are not made, nothing stops: accept goes on
in the last range there is, uses go among the rest, and retention has larger steps, or more rows to remove.
"""

from __future__ import annotations

from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated

DAYS_AHEAD = 7
INTERVAL_SECONDS = 3600.0

_SQL = read_queries("slotwire.ingest.sql", "control.sql")


async def run(pool: Pool, clock: Clock) -> None:
    """See to the ranges now and then, for ever. A round that fails is logged, and the next one does its work."""
    await repeat(lambda: run_once(pool, clock), stage="ranges", seconds=INTERVAL_SECONDS)


async def run_once(pool: Pool, clock: Clock) -> int:
    """Make what is missing of the coming days; return how many days of the log are ahead."""
    with translated():
        ahead: int = await pool.fetchval(_SQL["make_ranges"], clock.now(), DAYS_AHEAD)
        await pool.execute(_SQL["make_use_days"], clock.now(), DAYS_AHEAD)
    return ahead
