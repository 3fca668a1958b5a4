"""Retention: what is old enough and no longer needed is removed, kind by kind, as the settings say.

    bodies, results, events, uses              whole days, by dropping a partition
    inbox, quarantine, dead letters, actions,  row by row
    the audit of changes

What is not written, not published, parked or waiting stays, however old it is, and so does what an agent may be handed
again. Identities and bookings stay for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated
from slotwire.ingest.foundation.retention_settings import RetentionSettings
from slotwire.ingest.foundation.telemetry import PRUNED, get_logger

INTERVAL_SECONDS = 3600.0
ROWS_AT_ONCE = 5_000
"""Rows that one statement removes, so that none holds its locks for long."""
TABLES = {"bodies": "deliveries", "results": "results", "events": "events"}
"""Kinds that are ranges, with their tables. Results go after their deliveries."""

_SQL = read_queries("slotwire.ingest.sql", "control.sql")
_ACTIONS = read_queries("slotwire.ingest.sql", "actions.sql")
_log = get_logger("retention")


@dataclass(frozen=True, slots=True)
class HeldRange:
    """A day that is older than its retention and still kept.

    Attributes:
        kind: `bodies`, `results` or `events`.
        range: its number: days since the log was made.
        needed_for: `writing`, `waiting`, `bodies`, `publishing` or `parked`; None where the next round drops it.
    """

    kind: str
    range: int
    needed_for: str | None


async def run(pool: Pool, clock: Clock, settings: RetentionSettings) -> None:
    """Remove what may go now and then, for ever. A round that fails is logged, and the next one does its work."""
    await repeat(lambda: run_once(pool, clock, settings), stage="retention", seconds=INTERVAL_SECONDS)


async def run_once(pool: Pool, clock: Clock, settings: RetentionSettings) -> dict[str, int]:
    """Remove what may go; return how many ranges or rows of each kind went.

    Raises:
        DatabaseUnavailable: also where somebody reads a partition that is to go; nothing waits for that.
    """
    gone = {kind: 0 for kind, _ in settings.kept()}
    for kind, days in settings.kept():
        gone[kind] = await _remove(pool, kind, days, clock)
        PRUNED.labels(kind=kind).inc(gone[kind])
        if gone[kind]:
            _log.info("pruned", kind=kind, count=gone[kind])
    return gone


async def held_ranges(connection: Connection | Pool, settings: RetentionSettings, now: datetime) -> Sequence[HeldRange]:
    """Return the days that are older than their retention, with what each is still needed for."""
    found: list[HeldRange] = []
    for kind, days in settings.kept():
        if kind in TABLES:
            with translated():
                rows = await connection.fetch(_SQL["held_ranges"], now, TABLES[kind], days)
            found += [HeldRange(kind, row["range"], row["needed_for"]) for row in rows]
    return found


async def retained(connection: Connection | Pool, now: datetime) -> dict[str, int]:
    """Return for how many days each kind goes back; a kind of which there is nothing is left out."""
    with translated():
        row = await connection.fetchrow(_SQL["retained"], now)
    return {kind: days for kind, days in row.items() if days is not None} if row is not None else {}


async def _remove(pool: Pool, kind: str, days: int, clock: Clock) -> int:
    count = 0
    while True:
        with translated():
            if kind in TABLES:
                gone = await pool.fetchval(_SQL["drop_range"], clock.now(), TABLES[kind], days)
                if gone is None:
                    return count
                count += 1
                continue
            if kind == "uses" and await pool.fetchval(_SQL["drop_use_day"], clock.now(), days) is not None:
                count += 1
                continue
            rows: int
            if kind == "audit":
                rows = await pool.fetchval(_SQL["prune_audit"], clock.now(), days, ROWS_AT_ONCE)
            elif kind == "uses":
                rows = await pool.fetchval(_SQL["prune_uses"], clock.now(), days, ROWS_AT_ONCE)
            elif kind == "actions":
                rows = await pool.fetchval(_ACTIONS["prune_actions"], clock.now(), days, ROWS_AT_ONCE)
            else:
                rows = await pool.fetchval(_SQL["prune"], clock.now(), kind, days, ROWS_AT_ONCE)
        count += rows
        if rows == 0:
            return count
