"""An agent's own tables: a schema and a role of its own, and the migrations in the folder beside its module.

    crm/agent.py                     agent = Agent("crm")
    crm/migrations/0001_meetings.sql   runs as the role slotwire_agent_crm, in the schema agent_crm

The role owns the schema and has no other rights, so that a migration of an author's can touch nothing of ours. The role
of the agents' processes may read and write the tables, and not change them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from slotwire.handlers.registry import Agent
from slotwire.ingest.foundation.errors import ConfigurationError, SchemaMismatch
from slotwire.ingest.foundation.migrations import ensure_role, role_of
from slotwire.ingest.foundation.postgres import Connection, Pool, translated
from slotwire.ingest.foundation.postgres_errors import written_by_hand
from slotwire.ingest.foundation.schema_locks import MigrationLimits, alone, patiently

FOLDER = "migrations"
"""Where an agent's migrations are, beside its module."""
MAX_NAME = 40
"""Characters of the name of an agent with tables: it is part of the names of a schema and a role."""
_FILE = re.compile(r"[0-9]{4}_[a-z][a-z0-9_]*\.sql")
_MAKE_SCHEMA = """
GRANT "{role}" TO CURRENT_USER;
CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION "{role}";
GRANT USAGE ON SCHEMA {schema} TO "{agents}";
ALTER DEFAULT PRIVILEGES FOR ROLE "{role}" IN SCHEMA {schema}
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "{agents}";
ALTER DEFAULT PRIVILEGES FOR ROLE "{role}" IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO "{agents}";
CREATE TABLE IF NOT EXISTS {schema}.applied_migrations (
    name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL
);
GRANT SELECT ON {schema}.applied_migrations TO "{agents}";
"""
_BECOME = 'SET LOCAL ROLE "{role}"; SET LOCAL search_path = {schema}, pg_temp'
_APPLIED = "SELECT name, checksum FROM {schema}.applied_migrations"
_NOTE = "INSERT INTO {schema}.applied_migrations (name, checksum, applied_at) VALUES ($1, $2, $3)"
_NUMBER = "SELECT pg_current_xact_id()::text"


@dataclass(frozen=True)
class TableMigration:
    """One migration file of an agent.

    Attributes:
        name: the file's name without its ending, for example `0001_meetings`.
        sql: its text.
    """

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file: it shows whether the file is still the applied one."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def schema_of(agent: Agent) -> str:
    """Return the name of an agent's schema, for example `agent_crm`.

    Raises:
        ConfigurationError: the agent's name is too long for one.
    """
    if len(agent.name) > MAX_NAME:
        raise ConfigurationError(
            f"the name {agent.name} is too long for an agent with tables of its own",
            remedy=f"Use at most {MAX_NAME} characters.",
        )
    return f"agent_{agent.name.replace('-', '_')}"


def migrations_of(agent: Agent) -> tuple[TableMigration, ...]:
    """Read an agent's migrations in order; none if there is no folder of them.

    Raises:
        ConfigurationError: a file's name is not of the form, or two have the same number.
    """
    folder = None if agent.home is None else agent.home / FOLDER
    if folder is None or not folder.is_dir():
        return ()
    files = sorted(folder.glob("*.sql"))
    for file, before in zip(files, [Path(), *files], strict=False):
        if not _FILE.fullmatch(file.name) or file.name[:5] == before.name[:5]:
            raise ConfigurationError(
                f"{folder.name}/{file.name} has no place among the migrations",
                remedy="Give each a number of its own: 0001_meetings.sql, 0002_notes.sql, …",
            )
    return tuple(TableMigration(file.stem, file.read_text(encoding="utf-8")) for file in files)


async def migrate_tables(
    connection: Connection,
    agent: Agent,
    *,
    role_prefix: str,
    now: datetime,
    limits: MigrationLimits = MigrationLimits(),  # noqa: B008 - frozen
    say: Callable[[str], None] = lambda _: None,
) -> tuple[str, ...]:
    """Make an agent's schema and role where they are missing, and apply the migrations that were not applied.

    Each runs in a transaction of its own. It may be cut off anywhere, and goes on from there when it is run again.

    Args:
        connection: of the role that owns the database.
        agent: loaded by its reference, so that its folder is known.
        role_prefix: begins the names of the roles.
        now: the time recorded for the migrations.
        limits: how long to go on trying.
        say: told what is done, while it is done.

    Returns:
        The names of the migrations that were applied.

    Raises:
        ConfigurationError: a role is missing, and the connection's own may not create it; or a file is not as it
            should be.
        SchemaMismatch: an applied file was changed or removed since, or one ended its transaction by itself.
    """
    schema, migrations = schema_of(agent), migrations_of(agent)
    role = f"{role_prefix}_{schema}"
    await ensure_role(connection, role)
    names = {"schema": schema, "role": role, "agents": role_of("agents", role_prefix)}
    async with alone(connection, limits):
        with translated():
            await connection.execute(_MAKE_SCHEMA.format(**names))
            rows = await connection.fetch(_APPLIED.format(**names))
        missing = _missing(agent, migrations, {row["name"]: row["checksum"] for row in rows})
        for migration in missing:

            async def change(migration: TableMigration = migration) -> None:
                await _apply(connection, migration, names, now)

            await patiently(connection, limits, change)
            say(f"applied {migration.name} to {schema}")
    return tuple(migration.name for migration in missing)


async def _apply(connection: Connection, migration: TableMigration, names: dict[str, str], now: datetime) -> None:
    """Run one migration as the agent's role, and note it; the role and the path end with the transaction."""
    number = await connection.fetchval(_NUMBER)
    await connection.execute(_BECOME.format(**names))
    with written_by_hand(f"{migration.name}.sql"):
        await connection.execute(migration.sql)
    if await connection.fetchval(_NUMBER) != number:
        raise SchemaMismatch(
            f"{migration.name} ended its transaction by itself", remedy="Leave out BEGIN, COMMIT and ROLLBACK."
        )
    await connection.execute("RESET ROLE")
    await connection.execute(_NOTE.format(**names), migration.name, migration.checksum, now)


def _missing(agent: Agent, migrations: Sequence[TableMigration], applied: dict[str, str]) -> tuple[TableMigration, ...]:
    """Compare what was applied with the files.

    Raises:
        SchemaMismatch: an applied file was changed or removed, or one comes before those that were applied.
    """
    missing = tuple(each for each in migrations if each.name not in applied)
    changed = [each.name for each in migrations if applied.get(each.name, each.checksum) != each.checksum]
    changed += sorted(applied.keys() - {each.name for each in migrations})
    if changed:
        raise SchemaMismatch(
            f"migration {changed[0]} of agent {agent.name} was changed after it was applied",
            remedy="Restore the file, and write the change as a new migration. To begin anew where the data is not"
            f" needed: DROP SCHEMA {schema_of(agent)} CASCADE.",
        )
    late = [each.name for each in missing if applied and each.name < max(applied)]
    if late:
        raise SchemaMismatch(
            f"migration {late[0]} of agent {agent.name} comes before {max(applied)}, which was applied",
            remedy="Give it the next free number.",
        )
    return missing


async def require_tables(pool: Pool, agent: Agent) -> None:
    """Check that an agent's migrations were applied, as far as it has any.

    Raises:
        SchemaMismatch: one is missing; or see `migrate_tables`.
        DatabaseUnavailable: Postgres is away.
    """
    migrations = migrations_of(agent)
    if not migrations:
        return
    schema = schema_of(agent)
    with translated():
        exists = await pool.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{schema}.applied_migrations")
        rows = await pool.fetch(_APPLIED.format(schema=schema)) if exists else []
    missing = _missing(agent, migrations, {row["name"]: row["checksum"] for row in rows})
    if missing:
        raise SchemaMismatch(
            f"the tables of agent {agent.name} lack {', '.join(each.name for each in missing)}",
            remedy=f"Run `slotwire agents migrate {agent.reference}`.",
        )
