"""Ranges: the partitions of the log, a day each. Those of the coming days are made ahead, old ones are dropped.

If they are not made, nothing stops: accept goes on in the last range there is, and retention has larger steps.
"""

from __future__ import annotations

import asyncio

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.telemetry import get_logger

DAYS_AHEAD = 7
INTERVAL_SECONDS = 3600.0

_SQL = read_queries("slotwire.ingest.sql", "control.sql")
_log = get_logger("ranges")


async def run(pool: Pool, clock: Clock, retention_days: int | None) -> None:
    """See to the ranges now and then, for ever. A round that fails is logged, and the next one does its work."""
    while True:
        try:
            await run_once(pool, clock)
            if retention_days is not None:
                await drop_old(pool, clock, retention_days)
        except SlotwireError as problem:
            _log.warning("round_failed", error=problem.message)
        await asyncio.sleep(INTERVAL_SECONDS)


async def run_once(pool: Pool, clock: Clock) -> int:
    """Make what is missing of the coming days; return how many days are ahead."""
    with translated():
        ahead: int = await pool.fetchval(_SQL["make_ranges"], clock.now(), DAYS_AHEAD)
    return ahead


async def drop_old(pool: Pool, clock: Clock, retention_days: int) -> list[int]:
    """Drop the ranges that are older than the retention, settled and published; return which.

    Identities and bookings stay: a late copy of an event that was dropped is still a copy.
    """
    dropped: list[int] = []
    while True:
        with translated():
            number = await pool.fetchval(_SQL["drop_range"], clock.now(), retention_days)
        if number is None:
            return dropped
        dropped.append(number)
        _log.info("range_dropped", range=number)
