"""The inbox: the events that an agent has settled, in Postgres, so that an effect happens once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic
from typing import Protocol
from uuid import UUID

import asyncpg

from slotwire.handlers.batching import CallBatcher, Reply
from slotwire.handlers.database import DatabaseConnection
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import DatabaseUnavailable
from slotwire.ingest.foundation.postgres import borrowed, is_lost, read_queries, translated

_QUERIES = read_queries("slotwire.handlers", "inbox.sql")
_READ_ONLY = "25006"
_HAS_FAILED = "25P02"
_FAILED = "its transaction was rolled back: the handler caught {} of a statement, and Postgres commits nothing after it"
_ENDED = "the handler ended its transaction by a statement of its own"
_IDLE = "Postgres ended its transaction: no statement for {:g} s (SLOTWIRE_DATABASE__STATEMENT_TIMEOUT_SECONDS)"


class AlreadyDone(Exception):
    """Another run of this agent has committed the event's effect, so this run must not repeat it."""


class NotCommitted(Exception):
    """A transaction ended otherwise than by the commit at the end of its block.

    Attributes:
        reason: why, for the dead letter: no values, no names but those of exceptions.
        marked: whether the block itself committed the mark, so that the event cannot be tried again.
    """

    def __init__(self, reason: str, *, marked: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.marked = marked


class Inbox(Protocol):
    """Stores which events an agent has settled: in Postgres, or in memory for an agent's own tests."""

    async def seen(self, event_id: UUID) -> bool:
        """Say whether the event was settled."""
        ...

    async def mark(self, event_id: UUID) -> None:
        """Mark the event as settled; marking it twice is no error."""
        ...

    def transaction(self, event_id: UUID) -> AbstractAsyncContextManager[DatabaseConnection]:
        """Open a transaction that begins with the event's mark; raises `AlreadyDone` if the mark is there.

        Raises `NotCommitted` at its end if it was not committed.
        """
        ...

    async def data_of(self, event_id: UUID) -> bytes | None:
        """Fetch the data of an event whose record was published without it."""
        ...


class PostgresInbox:
    """The inbox of one agent.

    Every method raises DatabaseUnavailable, SchemaMismatch or ConfigurationError. A run that fails with one of these
    does not count as an attempt.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], *, agent: str, clock: Clock, idle_seconds: float) -> None:
        """Take what it needs.

        Args:
            pool: the database.
            agent: the agent's name.
            clock: for the time of a mark.
            idle_seconds: after how long without a statement Postgres ends a transaction.
        """
        self._pool = pool
        self._agent = agent
        self._idle_seconds = idle_seconds
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
        `DatabaseUnavailable`, or `NotCommitted` where the block itself had left it idle for too long.

        Raises:
            NotCommitted: the block ended, and its transaction had failed before, or was ended by the block.
        """
        with translated():
            connection = await self._pool.acquire()
        statements = _Statements()
        try:
            connection.add_query_logger(statements)
            transaction = connection.transaction()
            with translated():
                await transaction.start()
            number = None
            try:
                number = await self._claim(connection, event_id)
                yield connection
                await _require_whole(connection, number, statements)
            except BaseException as error:
                lost = is_lost(connection)
                if not lost:
                    with translated():
                        await transaction.rollback()
                if not isinstance(error, Exception):
                    raise  # a cancellation stays one
                if lost and statements.pause() >= self._idle_seconds:
                    raise NotCommitted(_IDLE.format(self._idle_seconds)) from error
                if lost or getattr(error, "sqlstate", None) == _READ_ONLY:
                    raise DatabaseUnavailable(
                        "the connection to Postgres was lost in a transaction", reason="lost"
                    ) from error
                if number is not None and await self._is_marked(connection, event_id, number):
                    raise NotCommitted(_ENDED, marked=True) from error
                raise
            with translated():
                await transaction.commit()
        finally:
            if not is_lost(connection):
                connection.remove_query_logger(statements)
            with translated():
                await self._pool.release(connection)

    async def _claim(self, connection: DatabaseConnection, event_id: UUID) -> str:
        """Insert the mark, and return the transaction's number."""
        with translated():
            number: str | None = await connection.fetchval(_QUERIES["claim"], self._agent, event_id, self._clock.now())
        if number is None:
            raise AlreadyDone
        return number

    async def _is_marked(self, connection: DatabaseConnection, event_id: UUID, number: str) -> bool:
        """Say whether the transaction of this number committed its mark: by a COMMIT of the block."""
        with translated():
            found: bool = await connection.fetchval(_QUERIES["marked_by"], self._agent, event_id, number)
        return found


class _Statements:
    """What a block did with its connection.

    Attributes:
        failed: the exception of the first statement that failed, by its class.
    """

    def __init__(self) -> None:
        self.failed = ""
        self._longest = 0.0
        self._ended = monotonic()

    def __call__(self, statement: asyncpg.connection.LoggedQuery) -> None:
        """Note a statement that has ended: asyncpg calls this."""
        now = monotonic()
        self._longest = max(self._longest, now - statement.elapsed - self._ended)
        self._ended = now
        if statement.exception is not None and not self.failed:
            self.failed = type(statement.exception).__name__

    def pause(self) -> float:
        """Return the longest time without a statement so far, in seconds."""
        return max(self._longest, monotonic() - self._ended)


async def _require_whole(connection: DatabaseConnection, number: str, statements: _Statements) -> None:
    """Check that the transaction that has the mark is still open, and can be committed.

    In one that has failed, Postgres answers COMMIT with a rollback and without an error; in one that the block has
    ended, there is nothing left to commit.
    """
    try:
        now = await connection.fetchval(_QUERIES["transaction_number"])
    except Exception as error:
        if getattr(error, "sqlstate", None) != _HAS_FAILED:
            raise
        raise NotCommitted(_FAILED.format(statements.failed)) from error
    if now != number:
        raise NotCommitted(_ENDED)
