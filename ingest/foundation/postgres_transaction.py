"""A transaction on a pool's connection that takes as few round trips as can be: one to begin, and one to end.

It begins together with its first statement, and ends together with what makes the connection ready for the next use.
asyncpg 0.32 has no way to send statements with arguments together, so what begins it is written out as text. Its own
transactions can be opened inside, as savepoints: to it this is one of them.
"""

from __future__ import annotations

from typing import Any

from asyncpg.transaction import TransactionState

from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.foundation.postgres_session import StatementObserver

_READY = "SELECT;"
"""Fails in a transaction in which a statement has failed: there COMMIT alone would roll back without an error."""


class BriefTransaction:
    """One transaction on a connection of a pool."""

    def __init__(self, connection: Connection) -> None:
        lent: Any = connection
        self._session: Any = lent._con  # noqa: SLF001 - the `Session`, without the pool's proxy

    @property
    def is_open(self) -> bool:
        """Whether the server has said, with its last answer, that a transaction is open."""
        return bool(self._session.is_in_transaction())

    @property
    def is_closed_here(self) -> bool:
        """Whether this process has closed the connection, which was not lost."""
        return bool(self._session.closed_here)

    def abandon(self) -> None:
        """Close the connection, so that the server undoes everything, also what runs."""
        self._leave()
        self._session.terminate()

    async def begin(self, statement: str, observer: StatementObserver) -> str:
        """Begin with a statement; returns its command tag. After an exception, call `roll_back`.

        Args:
            statement: the first one.
            observer: told of each one that follows.
        """
        tag: str = await self._session.execute(f"BEGIN;{statement}")
        self._session.observe(observer)
        if self._session.outer is None:
            self._session.outer = self._session.transaction()
            self._session.outer._state = TransactionState.STARTED  # noqa: SLF001 - see the module
        self._session._top_xact = self._session.outer  # noqa: SLF001 - it has no stub
        return tag

    async def commit(self) -> None:
        """Commit, and undo what the block has set for its session.

        Raises:
            asyncpg.InFailedSQLTransactionError: nothing was committed, because a statement had failed.
        """
        self._leave()
        protocol = self._session._protocol  # noqa: SLF001 - no public way to how many statements have begun
        begun = protocol.queries_count
        await self._session.execute(f"{_READY}COMMIT;{self._session.get_reset_query()}")
        # What the block has left behind may have begun another one between the answer and now: it runs yet.
        self._session.is_ready = protocol.queries_count == begun + 1

    async def roll_back(self) -> None:
        """Undo everything, whether it has begun or not."""
        self._leave()
        if self._session.is_in_transaction():
            await self._session.execute("ROLLBACK")

    def _leave(self) -> None:
        self._session._top_xact = None  # noqa: SLF001 - see the module
        self._session.observe(None)


def written(text: str) -> str:
    """Write a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
