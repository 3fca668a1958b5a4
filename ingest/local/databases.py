"""A new, migrated database for each test, copied from a template that is migrated once."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slotwire.ingest.local.postgres import OWNER, RUNTIME, SUPERUSER, EmbeddedPostgres

if TYPE_CHECKING:
    import asyncpg

TEMPLATE = "slotwire_template"


@dataclass(frozen=True, slots=True)
class Database:
    """One database on the embedded server.

    Attributes:
        name: its name.
        owner_url: its address for the role that owns it, for migrations and fixtures.
        runtime_url: its address for a login that has the rights of all processes, to look around.
        url_of: its address for the role of a process, by the process.
    """

    name: str
    owner_url: str
    runtime_url: str
    url_of: Mapping[str, str]


async def migrate_template(server: EmbeddedPostgres) -> None:
    """Create the template and migrate it to this version's schema."""
    from slotwire.ingest.foundation import migrations
    from slotwire.ingest.foundation.clock import SystemClock
    from slotwire.ingest.foundation.postgres import connect
    from slotwire.ingest.foundation.settings import DatabaseSettings

    async with _superuser(server) as connection:
        await connection.execute(f"CREATE DATABASE {TEMPLATE} OWNER {OWNER}")
    owner = await connect(server.url(OWNER, TEMPLATE), DatabaseSettings(), application="template")
    try:
        await migrations.migrate(owner, role_prefix="slotwire", shards=1, now=SystemClock().now())
    finally:
        await owner.close()


async def create_database(server: EmbeddedPostgres, *, template: str = TEMPLATE) -> Database:
    """Copy the template to a new database with a random name."""
    name = f"slotwire_{secrets.token_hex(6)}"
    async with _superuser(server) as connection:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER}")
        await connection.execute(
            f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"
        )  # a copy has not its template's rights
    return database_of(server, name)


def database_of(server: EmbeddedPostgres, name: str) -> Database:
    """Write the addresses of a database."""
    from slotwire.ingest.foundation.migrations import PROCESSES, role_of

    of_processes = {process: server.url(role_of(process, "slotwire"), name) for process in PROCESSES}
    return Database(name, server.url(OWNER, name), server.url(RUNTIME, name), of_processes)


async def drop_database(server: EmbeddedPostgres, database: Database) -> None:
    """Drop a database and end the connections it still has."""
    async with _superuser(server) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")


@asynccontextmanager
async def _superuser(server: EmbeddedPostgres) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    import asyncpg

    connection = await asyncpg.connect(server.url(SUPERUSER, "postgres"), timeout=10)
    try:
        yield connection
    finally:
        await connection.close()
