"""The inbox: the events that an agent has settled, in Postgres, so that an effect happens once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from functools import lru_cache
from time import monotonic
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from slotwire.handlers.batching import CallBatcher, Reply
from slotwire.handlers.database import DatabaseConnection
from slotwire.handlers.unawaited import dropped_so_far
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import DatabaseUnavailable
from slotwire.ingest.foundation.postgres import borrowed, is_lost, read_queries, translated
from slotwire.ingest.foundation.postgres_transaction import BriefTransaction, written

_QUERIES = read_queries("slotwire.handlers.sql", "inbox.sql")
_READ_ONLY = "25006"
_HAS_FAILED = "25P02"
_NONE_INSERTED = "INSERT 0 0"
_ENDING = re.compile(r"\b(?:commit|rollback|abort|end|prepare)\b", re.IGNORECASE)
_FAILED = "its transaction was rolled back: the handler caught {} of a statement, and Postgres commits nothing after it"
_ENDED = "the handler ended its transaction by a statement of its own"
_CLOSED = "the handler closed the connection of its transaction"
_TWICE = "the handler used the connection of its transaction for two statements at once, or left one running"
_IDLE = "Postgres ended its transaction: no statement for {:g} s (SLOTWIRE_DATABASE__STATEMENT_TIMEOUT_SECONDS)"


@lru_cache(maxsize=128)
def _may_end(statement: str) -> bool:
    """Whether a statement has a word that may end a transaction."""
    return _ENDING.search(statement) is not None


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

    @property
    def is_here(self) -> bool:
        """Whether the running loop is the one that it works in: connections are of no other one's."""
        ...

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

    def undo(self, event_id: UUID, connection: DatabaseConnection) -> None:
        """End the transaction that a run has left behind, without its commit."""
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
        self._claiming = re.split(r"\$[23]", _QUERIES["claim"].replace("$1", written(agent)))
        self._clock = clock
        self._seen = CallBatcher(self._load_seen)
        self._mark = CallBatcher(self._write_marks)

    @property
    def is_here(self) -> bool:
        """Whether the running loop is the pool's."""
        pool: Any = self._pool
        return asyncio.get_running_loop() is pool._loop  # noqa: SLF001 - no public way to it

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
            NotCommitted: the block ended, and its transaction had failed before, or was ended by the block; or a
                statement of the block was never awaited.
        """
        with translated():
            connection = await self._pool.acquire()
        statements: _Statements | None = None
        transaction, at = BriefTransaction(connection), self._clock.now()
        try:
            try:
                statements = await self._claim(transaction, event_id, at)
                yield connection
                await self._commit(connection, transaction, event_id, statements)
            except BaseException as error:
                lost = is_lost(connection)
                if lost and transaction.is_closed_here and isinstance(error, Exception):
                    raise NotCommitted(_CLOSED) from error
                if not lost:
                    await self._undo(transaction, error)
                if not isinstance(error, Exception):
                    raise  # a cancellation stays one
                if lost and statements is not None and statements.pause() >= self._idle_seconds:
                    raise NotCommitted(_IDLE.format(self._idle_seconds)) from error
                if lost or getattr(error, "sqlstate", None) == _READ_ONLY:
                    raise DatabaseUnavailable(
                        "the connection to Postgres was lost in a transaction", reason="lost"
                    ) from error
                if statements is not None and await self._is_marked(connection, event_id, at):
                    raise NotCommitted(_ENDED, marked=True) from error
                raise
        finally:
            with translated():
                await self._pool.release(connection)

    def undo(self, event_id: UUID, connection: DatabaseConnection) -> None:
        """End the transaction that a run has left behind: its connection is closed, so that the server undoes it."""
        del event_id
        left: Any = connection
        with suppress(DatabaseUnavailable), translated():  # the server may have closed it before
            left.terminate()

    async def _undo(self, transaction: BriefTransaction, error: BaseException) -> None:
        """Roll back. While a statement of the block still runs, that cannot be said: the connection is closed then."""
        try:
            with translated():
                await transaction.roll_back()
        except DatabaseUnavailable as problem:
            if not isinstance(error, Exception):
                return transaction.abandon()  # a cancellation stays one
            if not isinstance(problem.__cause__, asyncpg.InterfaceError):
                raise
            transaction.abandon()
            raise NotCommitted(_TWICE) from error

    def _claim_of(self, event_id: UUID, at: datetime) -> str:
        before, between, behind = self._claiming
        return f"{before}'{event_id}'{between}'{at.isoformat()}'{behind}"

    async def _claim(self, transaction: BriefTransaction, event_id: UUID, at: datetime) -> _Statements:
        """Begin with the mark; raises `AlreadyDone` where it is there."""
        statements = _Statements()
        with translated():
            tag = await transaction.begin(self._claim_of(event_id, at), statements)
        if tag == _NONE_INSERTED:
            raise AlreadyDone
        statements.begin()
        return statements

    async def _commit(
        self, connection: DatabaseConnection, transaction: BriefTransaction, event_id: UUID, statements: _Statements
    ) -> None:
        """Commit, unless the transaction that has the mark has failed or was ended.

        In one that has failed, Postgres answers COMMIT with a rollback and without an error; in one that the block has
        ended, there is nothing left to commit.
        """
        if dropped := dropped_so_far():
            raise NotCommitted(dropped)
        try:
            ended = not transaction.is_open
            if statements.may_have_ended and not ended:
                ended = not await connection.fetchval(_QUERIES["marked_here"], self._agent, event_id)
            if not ended:
                return await transaction.commit()
        except Exception as error:
            if getattr(error, "sqlstate", None) != _HAS_FAILED:
                raise
            raise NotCommitted(_FAILED.format(statements.failed)) from error
        raise NotCommitted(_ENDED)

    async def _is_marked(self, connection: DatabaseConnection, event_id: UUID, at: datetime) -> bool:
        """Say whether this run committed its mark all the same: by a COMMIT of the block."""
        with translated():
            found: bool = await connection.fetchval(_QUERIES["marked_at"], self._agent, event_id, at)
        return found


class _Statements:
    """What a block did with its connection.

    Attributes:
        failed: the exception of the first statement that failed, by its class.
        may_have_ended: whether a statement has a word that may end a transaction.
    """

    __slots__ = ("_ended", "_longest", "failed", "may_have_ended")

    def __init__(self) -> None:
        self.failed = ""
        self.may_have_ended = False
        self._longest = 0.0
        self._ended = monotonic()

    def begin(self) -> None:
        """Count pauses from now on."""
        self._ended = monotonic()

    def __call__(self, statement: str, began: float, error: BaseException | None) -> None:
        """Note a statement that has ended."""
        self._longest = max(self._longest, began - self._ended)
        self._ended = monotonic()
        self.may_have_ended = self.may_have_ended or _may_end(statement)
        if error is not None and not self.failed:
            self.failed = type(error).__name__

    def pause(self) -> float:
        """Return the longest time without a statement so far, in seconds."""
        return max(self._longest, monotonic() - self._ended)
