"""Migrations outside a transaction: indexes that are built and dropped while everybody reads and writes.

Such a file begins with the line `MARK` and holds one statement, in one of two forms:

    CREATE [UNIQUE] INDEX CONCURRENTLY IF NOT EXISTS name ON slotwire.table …;
    DROP INDEX CONCURRENTLY IF EXISTS slotwire.name;

It may be cut off anywhere, and is run again. A build that was cut off leaves an index that is written and never read
(`indisvalid` is false): it is dropped, and built again. Postgres builds no index of a partitioned table this way. There
the index is made without parts, and new partitions get theirs by themselves; for each partition that is there, its
part is built and attached:

    parent's index ─▶ for each partition without its part:  build ─▶ attach
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from slotwire.ingest.foundation.errors import DatabaseUnavailable, RowRefused, SchemaMismatch
from slotwire.ingest.foundation.postgres import Connection, translated
from slotwire.ingest.foundation.schema_locks import MigrationLimits, patiently

MARK = "-- slotwire: outside a transaction\n"
"""The first line of a migration that no transaction is put around."""
_NAME = r"[a-z_][a-z0-9_]*"
_CREATE = re.compile(
    rf"CREATE (?P<unique>UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (?P<name>{_NAME})\s+"
    rf"ON slotwire\.(?P<table>{_NAME})\s+(?P<rest>.+)",
    re.DOTALL,
)
_DROP = re.compile(rf"DROP INDEX CONCURRENTLY IF EXISTS slotwire\.(?P<name>{_NAME})")
_KIND = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass('slotwire.' || quote_ident($1))"
_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('slotwire.' || quote_ident($1))"
_WITHOUT_PART = """
SELECT p.relname FROM pg_inherits t JOIN pg_class p ON p.oid = t.inhrelid
WHERE t.inhparent = to_regclass('slotwire.' || quote_ident($1)) AND NOT EXISTS (
    SELECT FROM pg_index i JOIN pg_inherits a ON a.inhrelid = i.indexrelid
    WHERE i.indrelid = p.oid AND a.inhparent = to_regclass('slotwire.' || quote_ident($2)))
ORDER BY p.oid
"""
_SET = "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS wanted (name, value)"
_OUT_OF_TIME = "57014"
_LIMITS = ("lock_timeout", "statement_timeout", "client_connection_check_interval")


@dataclass(frozen=True)
class IndexBuild:
    """An index to build.

    Attributes:
        name: of the index.
        table: what it is on.
        unique: whether two rows may not be equal in it.
        rest: what follows the table's name in the statement.
    """

    name: str
    table: str
    unique: bool
    rest: str

    def statement(self, name: str, table: str, *, how: str = "CONCURRENTLY") -> str:
        """Write the statement for one table, under a name; `how` may be `ONLY` for a partitioned one."""
        beside, only = ("CONCURRENTLY ", "") if how == "CONCURRENTLY" else ("IF NOT EXISTS ", "ONLY ")
        return f"CREATE {'UNIQUE ' * self.unique}INDEX {beside}{name} ON {only}slotwire.{table} {self.rest}"

    def at_once(self) -> str:
        """Write what does it in a transaction, where nobody works yet; what a build left that was cut off goes."""
        made = f"CREATE {'UNIQUE ' * self.unique}INDEX {self.name} ON slotwire.{self.table} {self.rest}"
        return f"DROP INDEX IF EXISTS slotwire.{self.name}; {made}"

    def part_name(self, partition: str) -> str:
        """Name the part of a partition: `events_org_3` of `events_org` on `events_3`."""
        return f"{self.name}_{partition.removeprefix(f'{self.table}_')}"


@dataclass(frozen=True)
class IndexDrop:
    """An index to drop."""

    name: str

    def at_once(self) -> str:
        """Write what does the same in a transaction."""
        return f"DROP INDEX IF EXISTS slotwire.{self.name}"


def read_statement(name: str, sql: str) -> IndexBuild | IndexDrop:
    """Read a migration that begins with `MARK`.

    Args:
        name: of the migration, for errors.
        sql: its text.

    Raises:
        SchemaMismatch: it is not one statement of those that can be cut off and run again.
    """
    lines = (line.partition("--")[0].rstrip() for line in sql.splitlines())
    statement = "\n".join(line for line in lines if line).removesuffix(";")
    if ";" not in statement and (found := _CREATE.fullmatch(statement)):
        return IndexBuild(found["name"], found["table"], found["unique"] is not None, found["rest"])
    if found := _DROP.fullmatch(statement):
        return IndexDrop(found["name"])
    raise SchemaMismatch(
        f"migration {name} is not a statement that can run outside a transaction and be run again",
        remedy="Write one CREATE INDEX CONCURRENTLY IF NOT EXISTS, or one DROP INDEX CONCURRENTLY IF EXISTS.",
    )


class IndexBuilder:
    """Brings about what a migration outside a transaction asks for, from wherever the last try has got to."""

    def __init__(self, connection: Connection, limits: MigrationLimits, say: Callable[[str], None]) -> None:
        self._connection, self._limits, self._say = connection, limits, say

    async def run(self, wanted: IndexBuild | IndexDrop) -> None:
        """Build or drop the index.

        Raises:
            DatabaseUnavailable: a lock was not to be had, or the time was over; run it again.
            RowRefused: rows that are there are not unique.
        """
        if isinstance(wanted, IndexDrop):
            await self._drop(wanted.name)
        elif await self._ask(_KIND, wanted.table) == "p":
            await self._build_parts(wanted)
        else:
            await self._build(wanted, wanted.name, wanted.table)

    async def _drop(self, name: str) -> None:
        if await self._ask(_KIND, name) == "I":  # of a partitioned table: Postgres drops none of these beside others
            await self._at_once(f"DROP INDEX IF EXISTS slotwire.{name}")
        else:
            await self._beside_others(f"DROP INDEX CONCURRENTLY IF EXISTS slotwire.{name}")

    async def _build_parts(self, wanted: IndexBuild) -> None:
        await self._at_once(wanted.statement(wanted.name, wanted.table, how="ONLY"))
        while left := await self._without_part(wanted):
            for number, partition in enumerate(left, start=1):
                part = wanted.part_name(partition)
                self._say(f"index {wanted.name}: {part}, {number} of {len(left)}")
                try:
                    await self._build(wanted, part, partition)
                    await self._at_once(f"ALTER INDEX slotwire.{wanted.name} ATTACH PARTITION slotwire.{part}")
                except SchemaMismatch:
                    if await self._ask(_KIND, partition) is not None:
                        raise
                    # retention has dropped the partition meanwhile

    async def _without_part(self, wanted: IndexBuild) -> list[str]:
        with translated():
            rows = await self._connection.fetch(_WITHOUT_PART, wanted.table, wanted.name)
        return [row["relname"] for row in rows]

    async def _build(self, wanted: IndexBuild, name: str, table: str) -> None:
        valid = await self._ask(_VALID, name)
        if valid is False:
            self._say(f"index {name} was not finished: it is dropped, and built again")
            await self._beside_others(f"DROP INDEX CONCURRENTLY IF EXISTS slotwire.{name}")
        if not valid:
            await self._beside_others(wanted.statement(name, table))

    async def _ask(self, question: str, name: str) -> str | bool | None:
        with translated():
            answer: str | bool | None = await self._connection.fetchval(question, name)
        return answer

    async def _at_once(self, statement: str) -> None:
        await patiently(self._connection, self._limits, lambda: self._connection.execute(statement))

    async def _beside_others(self, statement: str) -> None:
        try:
            async with self._unhurried():
                with translated():
                    # The server's limit comes first: cancelled from here, it would not be known how it ended.
                    await self._connection.execute(statement, timeout=self._limits.build_seconds + 5.0)
        except DatabaseUnavailable as error:
            if error.reason != _OUT_OF_TIME:
                raise
            raise DatabaseUnavailable(
                f"an index was not finished within {self._limits.build_seconds:g} s",
                reason=error.reason,
                remedy="It waits for transactions that began before it: end those that run for long (pg_stat_activity"
                " shows them), or raise SLOTWIRE_MIGRATE__BUILD_TIMEOUT_SECONDS. Then run this again.",
            ) from error

    @asynccontextmanager
    async def _unhurried(self) -> AsyncIterator[None]:
        """Lift the limits on waiting: a build that waits for old transactions holds up neither readers nor writers.

        A client that is gone is noticed, so that its build does not hold up the next `migrate`.
        """
        with translated():
            row = await self._connection.fetchrow(
                f"SELECT {', '.join(f'current_setting({name!r})' for name in _LIMITS)}"
            )
        before = [str(value) for value in row or ()]
        seconds = f"{self._limits.build_seconds * 1_000:.0f}"
        await self._set(("0", seconds))
        with suppress(RowRefused):  # a server on a system that cannot notice it
            await self._set(("0", seconds, "1000"))
        try:
            yield
        finally:
            if not self._connection.is_closed():
                await self._set(before)

    async def _set(self, values: tuple[str, ...] | list[str]) -> None:
        with translated():
            await self._connection.execute(_SET, _LIMITS[: len(values)], values)
