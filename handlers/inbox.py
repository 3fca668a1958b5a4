"""The inbox: the events that an agent has settled, in Postgres, so that an effect happens once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from uuid import UUID

import asyncpg

from slotwire.handlers.batching import CallBatcher, Reply
from slotwire.handlers.database import DatabaseConnection
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import DatabaseUnavailable
from slotwire.ingest.foundation.postgres import borrowed, read_queries, translated

_QUERIES = read_queries("slotwire.handlers", "inbox.sql")
_READ_ONLY = "25006"


class AlreadyDone(Exception):
    """Another run of this agent has committed the event's effect, so this run must not repeat it."""


class Inbox(Protocol):
    """Stores which events an agent has settled: in Postgres, or in memory for an agent's own tests."""

    async def seen(self, event_id: UUID) -> bool:
        """Say whether the event was settled."""
        ...

    async def mark(self, event_id: UUID) -> None:
        """Mark the event as settled; marking it twice is no error."""
        ...

    def transaction(self, event_id: UUID) -> AbstractAsyncContextManager[DatabaseConnection]:
        """Open a transaction that begins with the event's mark; raises `AlreadyDone` if the mark is there."""
        ...

    async def data_of(self, event_id: UUID) -> bytes | None:
        """Fetch the data of an event whose record was published without it."""
        ...


class PostgresInbox:
    """The inbox of one agent.

    Every method raises DatabaseUnavailable, SchemaMismatch or ConfigurationError. A run that fails with one of these
    does not count as an attempt.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], *, agent: str, clock: Clock) -> None:
        self._pool = pool
        self._agent = agent
        self._clock = clock
        self._seen = CallBatcher(self._load_seen)
        self._mark = CallBatcher(self._write_marks)

    async def seen(self, event_id: UUID) -> bool:
        """Say whether the event was settled."""
        return await self._seen(event_id)

    async def mark(self, event_id: UUID) -> None:
        """Mark the event as settled; marking it twice is no error."""
        await self._mark(event_id)

    async def _load_seen(self, event_ids: tuple[UUID, ...], reply: Reply[UUID, bool]) -> None:
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["seen"], self._agent, event_ids)
            settled = {row["event_id"] for row in rows}
            reply({event_id: event_id in settled for event_id in event_ids})

    async def _write_marks(self, event_ids: tuple[UUID, ...], reply: Reply[UUID, None]) -> None:
        # Sorted, so that two members that mark the same events cannot wait for each other.
        async with borrowed(self._pool) as connection:
            await connection.execute(_QUERIES["mark"], self._agent, sorted(event_ids), self._clock.now())
            reply(dict.fromkeys(event_ids))

    async def data_of(self, event_id: UUID) -> bytes | None:
        """Fetch the data of an event whose record was published without it; None when the log no longer has it."""
        with translated():
            data: bytes | None = await self._pool.fetchval(_QUERIES["data_of_event"], event_id)
        return data

    @asynccontextmanager
    async def transaction(self, event_id: UUID) -> AsyncGenerator[DatabaseConnection, None]:
        """Open a transaction that begins with the event's mark, and commit it with the block's writes.

        An exception in the block rolls everything back and is raised as it is. If the connection was lost, it is
        `DatabaseUnavailable`.
        """
        with translated():
            connection = await self._pool.acquire()
        try:
            transaction = connection.transaction()
            with translated():
                await transaction.start()
            try:
                await self._claim(connection, event_id)
                yield connection
            except BaseException as error:
                lost = connection.is_closed()
                if not lost:
                    with translated():
                        await transaction.rollback()
                if isinstance(error, Exception) and (lost or getattr(error, "sqlstate", None) == _READ_ONLY):
                    raise DatabaseUnavailable(
                        "the connection to Postgres was lost in a transaction", reason="lost"
                    ) from error
                raise  # a cancellation stays one
            with translated():
                await transaction.commit()
        finally:
            with translated():
                await self._pool.release(connection)

    async def _claim(self, connection: DatabaseConnection, event_id: UUID) -> None:
        with translated():
            mine = await connection.fetchval(_QUERIES["claim"], self._agent, event_id, self._clock.now())
        if not mine:
            raise AlreadyDone
