"""Who leads a shard of the log: a lock that lives exactly as long as one connection to Postgres.

The lock chooses one leader; it does not keep a leader that slept from publishing. That fence stands at the
broker: see `relay_publisher`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.postgres import Connection, close, connect, read_queries, translated
from slotwire.ingest.foundation.settings import Settings

QUERIES = read_queries("slotwire.ingest.sql", "relay.sql")
CHANNEL = "slotwire_log"
"""Writers notify it after their commit, with the shard as payload. A hint: the log is asked anyway."""
LEASE_SECONDS = 6.0
"""A leader that gives no sign of life for so long loses its connection, and with it the lock."""
HEARTBEAT_SECONDS = 1.5
CLOSE_SECONDS = 1.0


class Lease:
    """The right to lead one shard, with the connection it hangs on. Only `taking` makes one.

    Attributes:
        shard: which shard.
        lost: set as soon as the connection is known to be gone.
        woken: set when a writer says that there is something new.
    """

    def __init__(self, connection: Connection, shard: int) -> None:
        self._connection = connection
        self._in_use = asyncio.Lock()
        self.shard = shard
        self.lost = asyncio.Event()
        self.woken = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def taking(cls, settings: Settings, shard: int) -> AsyncIterator[Lease | None]:
        """Try to become the shard's leader while the block runs; yields None when somebody else is.

        Raises:
            DatabaseUnavailable: Postgres is out of reach.
            SchemaMismatch: the log has not been made yet.
        """
        dsn = settings.database_url.get_secret_value()
        connection = await connect(dsn, settings.database, application="relay")
        try:
            with translated():
                taken = await connection.fetchval(QUERIES["take_lease"], shard, str(int(LEASE_SECONDS * 1000)))
            if not taken:
                yield None
                return
            lease = cls(connection, shard)
            connection.add_termination_listener(lease._on_end)
            with translated():
                await connection.add_listener(CHANNEL, lease._on_notice)
            yield lease
        finally:
            await close(connection, seconds=CLOSE_SECONDS)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """Use the lease's connection, one user at a time.

        Raises:
            DatabaseUnavailable: it is gone, and the lease with it.
        """
        async with self._in_use:
            if self.lost.is_set():
                raise _lost()
            try:
                with translated():
                    yield self._connection
            except DatabaseUnavailable as error:
                if self._connection.is_closed():
                    raise _lost() from error
                raise

    async def confirm(self) -> None:
        """Ask Postgres whether the lease still holds.

        Raises:
            DatabaseUnavailable: it does not.
        """
        async with self.session() as connection:
            await connection.fetchval(QUERIES["hold_lease"])

    async def guard(self) -> None:
        """Give signs of life; return never.

        Raises:
            DatabaseUnavailable: the lease is lost.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self.lost.wait()
            await self.confirm()

    def _on_end(self, _: Any) -> None:
        self.lost.set()
        self.woken.set()

    def _on_notice(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if payload == str(self.shard):
            self.woken.set()


def _lost() -> DatabaseUnavailable:
    return DatabaseUnavailable("the relay's connection to Postgres ended: it leads no more", reason="lease_lost")
