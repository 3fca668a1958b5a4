"""Statements that wait for a lock, so that a test knows when they have come to it."""

from __future__ import annotations

import asyncio

from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.foundation.settings import DatabaseSettings

WAIT_SECONDS = 30
HELD_UP = DatabaseSettings(pool_size=8, lock_timeout_seconds=60, statement_timeout_seconds=60)
"""For whoever is to wait: as long as the test holds the lock, also on a busy machine."""


_WAITING = """
SELECT count(*) FROM pg_locks
WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def until_blocked(connection: Connection, sessions: int) -> None:
    """Wait until so many sessions of a database wait for a lock of a table, or for an advisory one."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await connection.fetchval(_WAITING) < sessions:
            pass
