"""Migrations: numbered SQL files, each applied once, in one transaction, under one lock.

A file that was changed after it was applied is an error, so the files always say what ran. After a `pre_` migration
the previous version's processes still work while the new ones start; after a `post_` migration they do not. A file that
begins with `index_builds.MARK` runs outside a transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from importlib.resources import files
from uuid import uuid4

from slotwire.ingest.foundation.errors import ConfigurationError, DatabaseUnfit, SchemaMismatch
from slotwire.ingest.foundation.index_builds import MARK, IndexBuilder, read_statement
from slotwire.ingest.foundation.postgres import Connection, translated
from slotwire.ingest.foundation.schema_locks import MigrationLimits, alone, patiently

PROCESSES = ("serve", "relay", "agents", "mcp", "control")
"""The processes with a database role of their own."""
_MIGRATIONS_TABLE = """
CREATE SCHEMA IF NOT EXISTS slotwire;
CREATE TABLE IF NOT EXISTS slotwire.migrations (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL
);
"""
# A session's own types and functions come first where a function's path does not say otherwise: nobody needs them. Said
# at each migration, because a database made from a dump or a template has the rights of a new one.
_WITHOUT_TEMPORARY = """
DO $$ BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $$
"""


class Phase(StrEnum):
    """When a migration runs, while a new version is rolled out."""

    PRE = "pre"
    """Before the processes of the new version start: those of the one before go on."""
    POST = "post"
    """When no process of the one before is left."""


def _runs_after(name: str) -> bool:
    """Whether a migration runs only once no process of the previous version is left."""
    return name.partition("_")[2].startswith("post_")


@dataclass(frozen=True)
class Migration:
    """One migration file.

    Attributes:
        name: the file's name without its ending, for example `0001_pre_log`.
        sql: its text, with a placeholder for each role, for example `{serve}`.
    """

    name: str
    sql: str

    @property
    def phase(self) -> Phase:
        """When it runs."""
        return Phase.POST if _runs_after(self.name) else Phase.PRE

    @property
    def checksum(self) -> str:
        """SHA-256 of the file; it shows whether the file is still the applied one."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True)
class SchemaComparison:
    """The comparison of a database's migrations with this version's.

    Attributes:
        missing: this version's migrations that were not applied, in order.
        newer: names of applied migrations that this version does not know but works with.
    """

    missing: tuple[Migration, ...]
    newer: tuple[str, ...]


@cache
def known_migrations() -> tuple[Migration, ...]:
    """Return this version's migrations in order."""
    folder = files("slotwire.ingest.sql.migrations")
    found = (item for item in folder.iterdir() if item.name.endswith(".sql"))
    return tuple(
        Migration(item.name.removesuffix(".sql"), item.read_text(encoding="utf-8"))
        for item in sorted(found, key=lambda item: item.name)
    )


def of_phase(missing: Sequence[Migration], phase: Phase | None) -> Sequence[Migration]:
    """Return the migrations to apply now, of those that are missing.

    Args:
        missing: in order.
        phase: only those of one phase; None for all, when no process runs.

    Raises:
        SchemaMismatch: one of the other phase comes before them.
    """
    if phase is None:
        return missing
    chosen = [each for each in missing if each.phase is phase]
    ahead = [each.name for each in missing if each not in chosen and chosen and each.name < chosen[-1].name]
    if ahead:
        other = Phase.PRE if phase is Phase.POST else Phase.POST
        raise SchemaMismatch(
            f"migration {ahead[0]} comes before them, and was not applied",
            remedy=f"Finish the rollout before: `slotwire migrate --{other}`. To leave out versions, stop every process"
            " and run `slotwire migrate`.",
        )
    return chosen


def _number(name: str) -> int:
    return int(name.partition("_")[0])


async def compare(connection: Connection) -> SchemaComparison:
    """Compare the database's migrations with this version's.

    Raises:
        SchemaMismatch: an applied file was changed since, a newer version removed what this one needs, or the schema is
            one from before the first release.
    """
    with translated():
        exists = await connection.fetchval("SELECT to_regclass('slotwire.migrations') IS NOT NULL")
        rows = await connection.fetch("SELECT name, checksum FROM slotwire.migrations") if exists else []
    applied = {row["name"]: row["checksum"] for row in rows}
    known = known_migrations()
    newer = sorted(applied.keys() - {migration.name for migration in known})
    foreign = [name for name in newer if _number(name) <= _number(known[-1].name)]
    if foreign:
        raise SchemaMismatch(
            f"the database was made by a version that this one does not follow: {', '.join(foreign)}",
            remedy="Use a new database.",
        )
    ended = [name for name in newer if _runs_after(name)]
    if ended:
        raise SchemaMismatch(
            f"the database was migrated past this version: {', '.join(ended)}",
            remedy="Run a version that is at least as new as the one that migrated it.",
        )
    for migration in known:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise SchemaMismatch(
                f"migration {migration.name} was changed after it was applied",
                remedy="Restore the file, and write the change as a new migration.",
            )
    return SchemaComparison(tuple(migration for migration in known if migration.name not in applied), tuple(newer))


def role_of(process: str, prefix: str) -> str:
    """Return the database role of a process, for example `slotwire_serve`."""
    return f"{prefix}_{process}"


def with_roles(sql: str, prefix: str) -> str:
    """Write the roles of the processes into a migration's text."""
    for process in PROCESSES:
        sql = sql.replace(f"{{{process}}}", f'"{role_of(process, prefix)}"')
    return sql


async def migrate(
    connection: Connection,
    *,
    role_prefix: str,
    shards: int,
    now: datetime,
    phase: Phase | None = None,
    limits: MigrationLimits = MigrationLimits(),  # noqa: B008 - frozen
    say: Callable[[str], None] = lambda _: None,
) -> Sequence[str]:
    """Bring the database to this version's schema, and create the log if there is none.

    It may be cut off anywhere, and goes on from there when it is run again.

    Args:
        connection: of the role that owns the schema; its limits on statements and locks apply to migrations.
        role_prefix: begins the names of the processes' roles; those that are missing are created, without a login.
        shards: shards of the log; used only if the log is created.
        now: the time recorded for the migrations.
        phase: apply only those of one phase of a rollout; None applies all. A new database gets all of them.
        limits: how long to go on trying.
        say: told what is done, while it is done.

    Returns:
        The names of the migrations that were applied, in order.

    Raises:
        ConfigurationError: a role is missing, and the connection's own may not create it.
        DatabaseUnavailable: another one is at work, or locks that it needs are held by others.
        DatabaseUnfit: the connection's role lacks another right it needs.
        SchemaMismatch: see `compare` and `of_phase`.
    """
    for process in PROCESSES:
        await ensure_role(connection, role_of(process, role_prefix))
    names: list[str] = []
    async with alone(connection, limits):
        with translated():
            await connection.execute(_MIGRATIONS_TABLE)
        missing = (await compare(connection)).missing
        new = await _is_new(connection)
        if new:
            phase = None  # nothing of a version before works on it
        for migration in of_phase(missing, phase):
            await _apply(connection, migration, role_prefix=role_prefix, now=now, limits=limits, say=say, new=new)
            names.append(migration.name)
            say(f"applied {migration.name}")

        async def finish() -> None:
            await connection.execute(_WITHOUT_TEMPORARY)
            roles = with_roles(", ".join(f"{{{process}}}" for process in PROCESSES), role_prefix)
            await connection.execute(f"GRANT SELECT ON slotwire.migrations TO {roles}")
            await connection.execute("SELECT slotwire.make_log($1, $2, $3)", uuid4(), shards, now)

        await patiently(connection, limits, finish)
    return names


async def _is_new(connection: Connection) -> bool:
    """Whether the database has no log yet, so that no process can ever have worked on it."""
    with translated():
        if not await connection.fetchval("SELECT to_regclass('slotwire.log') IS NOT NULL"):
            return True
        return not await connection.fetchval("SELECT EXISTS (SELECT FROM slotwire.log)")


async def _apply(
    connection: Connection,
    migration: Migration,
    *,
    role_prefix: str,
    now: datetime,
    limits: MigrationLimits,
    say: Callable[[str], None],
    new: bool,
) -> None:
    outside = migration.sql.startswith(MARK)

    async def remember() -> None:
        await connection.execute(
            "INSERT INTO slotwire.migrations (name, checksum, applied_at) VALUES ($1, $2, $3)",
            *(migration.name, migration.checksum, now),
        )

    async def change() -> None:
        sql = read_statement(migration.name, migration.sql).at_once() if outside else migration.sql
        await connection.execute(with_roles(sql, role_prefix))
        await remember()

    if outside and not new:  # beside those who work on it
        await IndexBuilder(connection, limits, say).run(read_statement(migration.name, migration.sql))
        await patiently(connection, limits, remember)
    else:
        await patiently(connection, limits, change)


async def ensure_role(connection: Connection, role: str) -> None:
    """Create a role without a login, unless it is there.

    Raises:
        ConfigurationError: it is not there, and this login may not create it.
    """
    # Roles belong to the whole server, so another database's migration may create this one at the same moment.
    create = f"""
        DO $$ BEGIN
            CREATE ROLE "{role}" NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
    """
    with translated():
        if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
            return
    try:
        with translated():
            await connection.execute(create)
    except DatabaseUnfit as error:
        raise ConfigurationError(
            f"the role {role} does not exist, and this login may not create it",
            remedy=f'As a superuser: CREATE ROLE "{role}" LOGIN PASSWORD ...; see docs/howto/run-in-production.md.',
        ) from error


async def require_fitting(connection: Connection) -> SchemaComparison:
    """Refuse a schema that this version cannot work on; `post_` migrations may still be missing.

    Raises:
        SchemaMismatch: `pre_` migrations are missing, or see `compare`.
    """
    found = await compare(connection)
    waiting = [migration for migration in found.missing if migration.phase is Phase.PRE]
    if waiting:
        raise SchemaMismatch(
            f"the database lacks {len(waiting)} migration(s): {', '.join(item.name for item in waiting)}",
            remedy=f"Run `slotwire migrate --{Phase.PRE}`.",
        )
    return found
