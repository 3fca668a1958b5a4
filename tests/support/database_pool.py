"""A database per test without making one per test: a returned database is emptied and lent again.

Copying the migrated template costs a third of a second of CPU, and most tests only write rows. Postgres counts what is
written to each table: those that were not written to are left alone. Tables and schemas that a test has added are
dropped. A database whose own schema, rights or settings were changed, or which grew, is dropped in place of being lent
again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import asyncpg

from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.local.databases import Database, create_database, drop_database
from slotwire.ingest.local.postgres import SUPERUSER, EmbeddedPostgres

MAX_GROWTH_BYTES = 8_388_608
"""What deleted rows may leave behind in a database that is lent again."""
_DISCONNECT_MILLISECONDS = 60_000
_CATALOGS = (
    *("pg_attrdef", "pg_attribute", "pg_class", "pg_constraint", "pg_default_acl", "pg_depend", "pg_event_trigger"),
    *("pg_extension", "pg_index", "pg_inherits", "pg_namespace", "pg_policy", "pg_proc", "pg_publication"),
    *("pg_rewrite", "pg_sequence", "pg_trigger", "pg_type"),
)
_SCHEMA = f"""
SELECT jsonb_agg(to_jsonb(c)) FROM ({
    " UNION ALL ".join(f"SELECT '{name}', count(*), max(xmin::text::bigint) FROM {name}" for name in _CATALOGS)
}) c
"""
_SETTINGS = """
SELECT jsonb_build_array(
    (SELECT jsonb_agg(to_jsonb(s)) FROM pg_db_role_setting s WHERE setdatabase = d.oid),
    d.datdba::text, d.datacl::text, d.datallowconn, d.datconnlimit
) FROM pg_database d WHERE datname = current_database()
"""
_TABLES = """
SELECT c.oid, c.oid::regclass::text AS name, pg_total_relation_size(c.oid) AS size
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 2
"""
_RELATIONS = "SELECT oid FROM pg_class"
_SCHEMAS = "SELECT oid FROM pg_namespace"
_ADDED = """
SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace
WHERE NOT oid = ANY($1::text::oid[]) AND nspname NOT LIKE 'pg\\_%'
UNION ALL
SELECT format('DROP TABLE IF EXISTS %s CASCADE', c.oid::regclass) FROM pg_class c
WHERE relkind IN ('r', 'p') AND NOT oid = ANY($2::text::oid[]) AND relnamespace = ANY($1::text::oid[])
"""
_SEQUENCES = "SELECT format('%I.%I', schemaname, sequencename) AS name, start_value, last_value FROM pg_sequences"
_DISCONNECT = (
    "SELECT pg_terminate_backend(pid, $1) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_COUNTED = "SELECT pg_stat_force_next_flush()"
_WRITTEN = """
SELECT format('%s %s', pg_postmaster_start_time(), stats_reset) AS era, (
    SELECT string_agg(
        (pg_stat_get_tuples_inserted(o) + pg_stat_get_tuples_updated(o) + pg_stat_get_tuples_deleted(o))::text, ','
    ) FROM unnest($1::text::oid[]) AS o
) AS rows FROM pg_stat_bgwriter
"""
_SIZE = "SELECT coalesce(sum(pg_total_relation_size(o)), 0)::bigint FROM unnest($1::text::oid[]) AS o"


@dataclass(frozen=True)
class _Table:
    """A table of a new database.

    Attributes:
        size: in bytes, with indexes.
        restore: SQL that deletes all rows and puts the first ones back.
    """

    size: int
    restore: str


@dataclass(frozen=True)
class _New:
    """What a database is like before its first use; a copy has the ids of the template.

    Attributes:
        schema: the newest row of each catalog.
        settings: of the database.
        schemas: the ids of all schemas.
        relations: the ids of all tables, indexes and so on.
        catalogs: the ids of those catalogs.
        tables: by their ids.
        sequences: SQL that sets them to their start.
        day: on which its log begins, in UTC: positions of later days have a range of their own. A run that goes on past
            midnight dates the logs that it lends anew.
    """

    schema: str
    settings: str
    schemas: Sequence[int]
    relations: Sequence[int]
    catalogs: Sequence[int]
    tables: Mapping[int, _Table]
    sequences: str
    day: date


@dataclass(frozen=True)
class _Written:
    """How many rows were ever written, by the id of the table; counts of another era do not compare."""

    era: str
    rows: Mapping[int, int]

    def since(self, before: _Written | None) -> set[int]:
        """Return the tables that were written to after `before`; all, if that cannot be known."""
        if before is None or before.era != self.era:
            return set(self.rows)
        return {table for table, rows in self.rows.items() if rows != before.rows[table]}


@dataclass
class DatabasePool:
    """Lends databases of one server, one borrower at a time."""

    server: EmbeddedPostgres
    _free: list[Database] = field(default_factory=list)
    _new: _New | None = None
    _written: dict[str, _Written] = field(default_factory=dict)

    async def borrow(self) -> Database:
        """Return a database that is as `create_database` makes it."""
        borrowed = self._free.pop() if self._free else await create_database(self.server)
        if self._new is None:
            async with self._superuser(borrowed) as connection:
                self._new = await _describe(connection)
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self._new.day != today.date():
            async with self._superuser(borrowed) as connection:
                await connection.execute("UPDATE slotwire.log SET created_at = $1", today)
        return borrowed

    async def give_back(self, database: Database) -> bool:
        """End its connections and make it as new; returns False if it had to be dropped."""
        assert self._new is not None
        try:
            async with self._superuser(database) as connection:
                await connection.fetch(_DISCONNECT, _DISCONNECT_MILLISECONDS)
                reusable = await self._restored(connection, database, self._new)
        except asyncpg.InvalidCatalogNameError:  # the test dropped it
            return False
        if reusable:
            self._free.append(database)
        else:
            await drop_database(self.server, database)
        return reusable

    async def _restored(self, connection: Connection, database: Database, new: _New) -> bool:
        if await connection.fetchval(_SETTINGS) != new.settings:
            return False
        written = (await _read_written(connection, new)).since(self._written.get(database.name))
        if not written.isdisjoint(new.catalogs):
            for [drop] in await connection.fetch(_ADDED, _listed(new.schemas), _listed(new.relations)):
                await connection.execute(drop)
            if await connection.fetchval(_SCHEMA) != new.schema:
                return False
        tables = [table for table in new.tables if table in written]
        room = sum(new.tables[table].size for table in tables) + MAX_GROWTH_BYTES
        if await connection.fetchval(_SIZE, _listed(tables)) > room:
            return False
        # Triggers and foreign keys are off while rows are restored: some refuse any deletion.
        begin = ("BEGIN", "SET LOCAL session_replication_role = replica")
        restore = (new.tables[table].restore for table in tables)
        await connection.execute(";\n".join([*begin, *restore, new.sequences, "COMMIT"]))
        await connection.fetch(_COUNTED)
        self._written[database.name] = await _read_written(connection, new)
        return True

    @asynccontextmanager
    async def _superuser(self, database: Database) -> AsyncIterator[Connection]:
        connection = await asyncpg.connect(self.server.url(SUPERUSER, database.name), timeout=60)
        try:
            yield connection
        finally:
            await connection.close()


async def _read_written(connection: Connection, new: _New) -> _Written:
    of = [*new.catalogs, *new.tables]
    [found] = await connection.fetch(_WRITTEN, _listed(of))
    return _Written(found["era"], dict(zip(of, map(int, found["rows"].split(",")), strict=True)))


def _listed(ids: Iterable[int]) -> str:
    """Write ids as a text: for arrays of them, a new connection of asyncpg asks Postgres about types first."""
    return f"{{{','.join(map(str, ids))}}}"


async def _describe(connection: Connection) -> _New:
    tables = {}
    for oid, table, size in await connection.fetch(_TABLES):
        restore = [f"DELETE FROM {table}"]
        rows = await connection.fetchval(f"SELECT jsonb_agg(to_jsonb(t)) FROM {table} t")
        if rows is not None:
            literal = await connection.fetchval("SELECT quote_literal($1::text)", json.dumps(json.loads(rows)))
            restore.append(
                f"INSERT INTO {table} OVERRIDING SYSTEM VALUE"
                f" SELECT * FROM jsonb_populate_recordset(NULL::{table}, {literal}::jsonb)"
            )
        tables[oid] = _Table(size, ";\n".join(restore))
    sequences = [
        f"SELECT setval('{name}', {start if last is None else last}, {last is not None})"
        for name, start, last in await connection.fetch(_SEQUENCES)
    ]
    return _New(
        schema=await connection.fetchval(_SCHEMA),
        settings=await connection.fetchval(_SETTINGS),
        schemas=[row[0] for row in await connection.fetch(_SCHEMAS)],
        relations=[row[0] for row in await connection.fetch(_RELATIONS)],
        catalogs=[row[0] for row in await connection.fetch("SELECT unnest($1::text[])::regclass::oid", _CATALOGS)],
        tables=tables,
        sequences=";\n".join(sequences),
        day=(await connection.fetchval("SELECT created_at FROM slotwire.log")).date(),
    )
