"""A pool of asyncpg's that tells how long its users wait, and how many of its connections are used."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import asyncpg

from slotwire.ingest.foundation.telemetry import POOL_CONNECTIONS, POOL_CONNECTIONS_LIMIT, POOL_WAIT_SECONDS

if TYPE_CHECKING:
    AsyncpgPool = asyncpg.Pool[asyncpg.Record]
else:
    AsyncpgPool = asyncpg.Pool


class MeasuredPool(AsyncpgPool):
    """Measures every acquisition. A process has one pool, and the metrics are about it."""

    __slots__ = ()

    async def _acquire(self, timeout: float | None) -> Any:  # noqa: ASYNC109 - asyncpg's signature
        """Do as asyncpg does: every way to a connection leads through here (read in `pool.py` of 0.32)."""
        started = perf_counter()
        try:
            return await super()._acquire(timeout)  # type: ignore[misc]  # it has no stub
        finally:
            POOL_WAIT_SECONDS.observe(perf_counter() - started)


def make_pool(dsn: str, *, max_size: int, **options: Any) -> MeasuredPool:
    """Make a pool that opens its connections when they are first needed, and keeps them.

    Args:
        dsn: the database's address.
        max_size: the most connections.
        options: asyncpg's: how to connect, and the class of connections.
    """
    pool = MeasuredPool(
        dsn,
        min_size=0,
        max_size=max_size,
        max_queries=50_000,
        max_inactive_connection_lifetime=0,
        loop=None,
        record_class=asyncpg.Record,
        **options,
    )
    POOL_CONNECTIONS.labels("used").set_function(lambda: pool.get_size() - pool.get_idle_size())
    POOL_CONNECTIONS.labels("idle").set_function(pool.get_idle_size)
    POOL_CONNECTIONS_LIMIT.set(max_size)
    return pool
