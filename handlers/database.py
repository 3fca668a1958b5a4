"""The connection that `ctx.transaction()` yields, typed for authors.

The object is asyncpg's own. asyncpg ships no type information, and an author's environment need not have stubs for
it, so these protocols say what a handler may call. A test compares them with the real object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class DatabaseRow(Protocol):
    """A row of a result: `row["starts_at"]`, or `row[0]`."""

    def __getitem__(self, column: Any, /) -> Any:
        """Return a column by its name or number. Raises KeyError or IndexError when there is none."""
        ...

    def __len__(self) -> int:
        """Count the columns."""
        ...

    def __contains__(self, column: object, /) -> bool:
        """Say whether there is a column of this name."""
        ...

    def get(self, column: str, /) -> Any:
        """Return a column, or None when there is none of this name."""
        ...

    def keys(self) -> Iterator[str]:
        """Name the columns."""
        ...

    def values(self) -> Iterator[Any]:
        """Return the columns' values."""
        ...

    def items(self) -> Iterator[tuple[str, Any]]:
        """Return each column's name with its value."""
        ...


class DatabaseConnection(Protocol):
    """A connection to Postgres inside a transaction. Arguments stand for `$1`, `$2`, … of the statement.

    Every method raises asyncpg's exceptions. Let those you do not expect pass: the transaction is then rolled back, and
    the event is tried again.
    """

    async def execute(self, query: str, /, *args: Any) -> str:
        """Run a statement; returns its command tag, for example `INSERT 0 1`."""
        ...

    async def executemany(self, command: str, /, args: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each sequence of arguments."""
        ...

    async def fetch(self, query: str, /, *args: Any) -> Sequence[DatabaseRow]:
        """Run a query; returns all its rows."""
        ...

    async def fetchrow(self, query: str, /, *args: Any) -> DatabaseRow | None:
        """Run a query; returns its first row, or None when it has none."""
        ...

    async def fetchval(self, query: str, /, *args: Any, column: int = 0) -> Any:
        """Run a query; returns one column of its first row, or None when it has no row."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a savepoint: an exception that leaves its block undoes that block only."""
        ...
