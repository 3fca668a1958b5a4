"""The lock of shard 0 in a test's hand: commits come as far as it, and wait until the test lets them go."""

from __future__ import annotations

import asyncio

from slotwire.ingest.foundation.postgres import Connection

_LOCK = (1936487278, 0)
_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND NOT granted"


async def hold(connection: Connection) -> None:
    """Take the lock for the connection's session."""
    await connection.execute("SELECT pg_advisory_lock($1, $2)", *_LOCK)


async def release(connection: Connection) -> None:
    """Let those who wait go on."""
    await connection.execute("SELECT pg_advisory_unlock($1, $2)", *_LOCK)


async def until_waiting(connection: Connection, count: int) -> None:
    """Wait until so many commits have come as far as the lock."""
    async with asyncio.timeout(60):
        while await connection.fetchval(_WAITING, *_LOCK) != count:
            pass
