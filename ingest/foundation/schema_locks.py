"""Locks of those who change the schema: one at a time, and nobody else queues behind them for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from slotwire.ingest.foundation.errors import DatabaseUnavailable
from slotwire.ingest.foundation.postgres import Connection, translated

LOOK_SECONDS = 0.2
"""How often a `migrate` that waits for another one looks whether it is through."""
PAUSE_SECONDS = (0.1, 5.0)
"""First and longest pause between two tries for a lock, so that those who queued behind the last one get through."""
_LOCK = 1936487270
_TAKEN_BY_OTHERS = frozenset({"55P03", "40P01"})
"""No lock in time, and a deadlock: both end with the transactions of others."""


@dataclass(frozen=True)
class MigrationLimits:
    """How long migrations go on trying.

    Attributes:
        patience_seconds: for another `migrate` to end, and for locks that others hold.
        build_seconds: for the index of one table to be built.
    """

    patience_seconds: float = 120.0
    build_seconds: float = 3_600.0


@asynccontextmanager
async def alone(connection: Connection, limits: MigrationLimits) -> AsyncIterator[None]:
    """Migrate alone while the block runs.

    The lock belongs to the session, and whoever waits for it asks again and again: a statement that waited would hold a
    snapshot, and an index that is built beside its readers waits for every snapshot there is.

    Raises:
        DatabaseUnavailable: another one is at work, and did not end in time.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + limits.patience_seconds
    while True:
        with translated():
            if await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                break
        if loop.time() >= until:
            raise DatabaseUnavailable(
                "another `slotwire migrate` is at work",
                reason="migrating",
                remedy="Wait until it has ended, then run this again; it goes on where the other one stopped.",
            )
        await asyncio.sleep(LOOK_SECONDS)
    try:
        yield
    finally:
        if not connection.is_closed():
            with translated():
                await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def patiently(connection: Connection, limits: MigrationLimits, change: Callable[[], Awaitable[object]]) -> None:
    """Change something in a transaction; if a lock is not to be had at once, step back and try again.

    A change that waits for its lock holds up everybody who comes after it, readers too. So no try waits longer than the
    session's `lock_timeout`, and the next one comes after a pause.

    Args:
        connection: in no transaction.
        limits: how long to go on trying.
        change: runs in a transaction, maybe several times.

    Raises:
        DatabaseUnavailable: others held a lock all the while; nothing was changed.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + limits.patience_seconds
    pause, longest = PAUSE_SECONDS
    while True:
        try:
            with translated():
                async with connection.transaction():
                    await change()
        except DatabaseUnavailable as error:
            if error.reason not in _TAKEN_BY_OTHERS or connection.is_closed():
                raise
            if loop.time() + pause > until:
                raise DatabaseUnavailable(
                    "other transactions held what the migration has to lock",
                    reason=error.reason,
                    remedy="End those that run for long (pg_stat_activity shows them), then run this again.",
                ) from error
        else:
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)
