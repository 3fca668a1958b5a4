"""A database per test without making one per test: a returned database is emptied and lent again.

Copying the migrated template costs about a tenth of a second of CPU, and most tests only write rows. A database whose
schema, rights or settings were changed, or which grew, is dropped in place of being lent again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from slotwire.ingest.local.databases import Database, create_database, drop_database
from slotwire.ingest.local.postgres import SUPERUSER, EmbeddedPostgres

MAX_GROWTH_BYTES = 8_388_608
"""What deleted rows may leave behind in a database that is lent again."""
_DISCONNECT_MILLISECONDS = 5_000
_CATALOGS = (
    *("pg_attrdef", "pg_attribute", "pg_class", "pg_constraint", "pg_default_acl", "pg_depend", "pg_event_trigger"),
    *("pg_extension", "pg_index", "pg_inherits", "pg_namespace", "pg_policy", "pg_proc", "pg_publication"),
    *("pg_rewrite", "pg_sequence", "pg_trigger", "pg_type"),
)
_FINGERPRINT = f"""
SELECT jsonb_build_array(
    (SELECT jsonb_agg(to_jsonb(c)) FROM ({
    " UNION ALL ".join(f"SELECT '{name}', count(*), max(xmin::text::bigint) FROM {name}" for name in _CATALOGS)
}) c),
    (SELECT jsonb_agg(to_jsonb(s)) FROM pg_db_role_setting s WHERE setdatabase = d.oid),
    d.datdba::text, d.datacl::text, d.datallowconn, d.datconnlimit
) FROM pg_database d WHERE datname = current_database()
"""
_TABLES = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1
"""
_SEQUENCES = "SELECT format('%I.%I', schemaname, sequencename) AS name, start_value, last_value FROM pg_sequences"
_SIZE = "SELECT pg_database_size(current_database())"
_DISCONNECT = (
    "SELECT pg_terminate_backend(pid, $1) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@dataclass(frozen=True)
class _New:
    """What a database is like before its first use.

    Attributes:
        fingerprint: the newest row of each catalog, and the settings of the database.
        size: in bytes.
        restore: SQL that deletes all rows, puts the first ones back and sets sequences to their start.
    """

    fingerprint: str
    size: int
    restore: str


@dataclass
class DatabasePool:
    """Lends databases of one server, one borrower at a time."""

    server: EmbeddedPostgres
    _free: list[Database] = field(default_factory=list)
    _new: _New | None = None

    async def borrow(self) -> Database:
        """Return a database that is as `create_database` makes it."""
        if self._free:
            return self._free.pop()
        made = await create_database(self.server)
        if self._new is None:
            async with self._superuser(made) as connection:
                self._new = await _describe(connection)
        return made

    async def give_back(self, database: Database) -> bool:
        """End its connections and make it as new; returns False if it had to be dropped."""
        assert self._new is not None
        try:
            reusable = await self._restored(database, self._new)
        except asyncpg.InvalidCatalogNameError:  # the test dropped it
            return False
        if reusable:
            self._free.append(database)
        else:
            await drop_database(self.server, database)
        return reusable

    async def _restored(self, database: Database, new: _New) -> bool:
        async with self._superuser(database) as connection:
            await connection.fetch(_DISCONNECT, _DISCONNECT_MILLISECONDS)
            reusable = bool(
                await connection.fetchval(_FINGERPRINT) == new.fingerprint
                and await connection.fetchval(_SIZE) <= new.size + MAX_GROWTH_BYTES
            )
            if reusable:
                await connection.execute(new.restore)
        return reusable

    @asynccontextmanager
    async def _superuser(self, database: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        connection = await asyncpg.connect(self.server.url(SUPERUSER, database.name), timeout=10)
        try:
            yield connection
        finally:
            await connection.close()


async def _describe(connection: asyncpg.Connection[asyncpg.Record]) -> _New:
    # Triggers and foreign keys are off while rows are restored: some refuse any deletion.
    restore = ["BEGIN", "SET LOCAL session_replication_role = replica"]
    for [table] in await connection.fetch(_TABLES):
        restore.append(f"DELETE FROM {table}")
        rows = await connection.fetchval(f"SELECT jsonb_agg(to_jsonb(t)) FROM {table} t")
        if rows is not None:
            literal = await connection.fetchval("SELECT quote_literal($1::text)", json.dumps(json.loads(rows)))
            restore.append(
                f"INSERT INTO {table} OVERRIDING SYSTEM VALUE"
                f" SELECT * FROM jsonb_populate_recordset(NULL::{table}, {literal}::jsonb)"
            )
    for name, start, last in await connection.fetch(_SEQUENCES):
        restore.append(f"SELECT setval('{name}', {start if last is None else last}, {last is not None})")
    fingerprint, size = await connection.fetchval(_FINGERPRINT), await connection.fetchval(_SIZE)
    return _New(fingerprint, size, ";\n".join([*restore, "COMMIT"]))
