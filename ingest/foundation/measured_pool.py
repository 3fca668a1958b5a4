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

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        """Do as asyncpg does; where nothing is left to undo or to wait for, without the task that it makes for that."""
        session, holder = connection._con, connection._holder  # noqa: SLF001 - as asyncpg's own way does, in 0.32
        current: int = self._generation  # type: ignore[attr-defined]  # it has no stub
        if (
            session is None
            or not session.is_undone
            or holder._generation != current  # noqa: SLF001 - see above
            or session._protocol.queries_count >= holder._max_queries  # noqa: SLF001 - see above
        ):
            await super().release(connection, timeout=timeout)
            return
        session.is_ready = False
        session._on_release()  # noqa: SLF001 - see above
        holder._release()  # noqa: SLF001 - see above


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
