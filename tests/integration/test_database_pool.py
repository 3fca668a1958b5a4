"""The pool that lends databases to tests: a database that comes back is as new, or is not lent again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.postgres import RUNTIME, SUPERUSER
from slotwire.ingest.local.stack import Stack
from tests.support.database_pool import MAX_GROWTH_BYTES, DatabasePool
from tests.support.management_api import (
    write_booking,
    write_deliveries,
    write_events,
    write_organization,
    write_quarantine,
)
from tests.support.public_endpoint import make_hook, settings_for


async def contents(database: Database) -> dict[str, Any]:
    """Return every row of every table, and where each sequence is."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'slotwire'")
        found: dict[str, Any] = {
            name: await connection.fetchval(f"SELECT jsonb_agg(to_jsonb(t)) FROM slotwire.{name} t")
            for [name] in tables
        }
        found["sequences"] = await connection.fetch("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")
    finally:
        await connection.close()
    return found


async def test_rows_and_sequences_are_as_new(stack: Stack) -> None:
    """Rows of tests are gone, rows of the migrations are back, sequences start again; open connections are ended."""
    pool = DatabasePool(stack.postgres)
    database = await pool.borrow()
    new = await contents(database)
    assert new["log"], "the migrations leave rows, too"
    await write_organization(database, "ORG")
    await write_events(database, "ORG", 3)
    await write_deliveries(database, "ORG", 2)
    await write_booking(database, "ORG", "https://api.calendly.com/scheduled_events/E/invitees/I")
    await write_quarantine(database, "ORG", [b"{}"], first=9)
    await make_hook(settings_for(database), database)
    left_open = await asyncpg.connect(database.owner_url)
    await left_open.execute("DELETE FROM slotwire.log")
    assert await contents(database) != new
    assert await pool.give_back(database)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await left_open.execute("SELECT 1")
    assert await pool.borrow() == database
    assert await contents(database) == new
    await write_organization(database, "ORG")
    assert await pool.give_back(database)
    assert await contents(await pool.borrow()) == new


async def test_after_midnight_a_log_begins_on_the_new_day(stack: Stack) -> None:
    """A run that began the day before lends no log of yesterday's, in which positions have another range."""
    pool = DatabasePool(stack.postgres)
    assert await pool.give_back(await pool.borrow())
    assert pool._new is not None
    pool._new = replace(pool._new, day=pool._new.day - timedelta(days=1))
    [database] = pool._free
    connection = await asyncpg.connect(database.owner_url)
    try:
        await connection.execute("UPDATE slotwire.log SET created_at = created_at - interval '1 day'")
        assert await pool.borrow() == database
        assert await connection.fetchval("SELECT created_at FROM slotwire.log") == datetime.now(UTC).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE slotwire.bookings ADD COLUMN more bigint",
        "ALTER TABLE slotwire.connections DISABLE TRIGGER connections_step",
        "DROP INDEX IF EXISTS slotwire.events_key; CREATE INDEX more ON slotwire.events (key)",
        "GRANT DELETE ON slotwire.audit TO PUBLIC",
        "CREATE FUNCTION slotwire.more() RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
        f"ALTER ROLE {RUNTIME} IN DATABASE {{name}} SET synchronous_commit = off",
        "ALTER DATABASE {name} CONNECTION LIMIT 1000",
        "TRUNCATE slotwire.audit",
        (
            "INSERT INTO slotwire.organizations (org, uri, shard, created_at)"
            f" SELECT n::text, repeat('x', 100) || n, 0, now() FROM generate_series(1, {MAX_GROWTH_BYTES // 100}) n"
        ),
    ],
)
async def test_a_changed_database_is_not_lent_again(stack: Stack, database_pool: DatabasePool, change: str) -> None:
    """After a change of tables, triggers, rights, functions or settings, or much growth, it is dropped."""
    database = await database_pool.borrow()
    await _do(stack, database, change.format(name=database.name))
    assert not await database_pool.give_back(database)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(database.owner_url)


async def test_tables_and_schemas_that_were_added_are_dropped(stack: Stack, database_pool: DatabasePool) -> None:
    """They go with what belongs to them, partitions of ours too, and the database is lent again, as new."""
    database = await database_pool.borrow()
    new = await contents(database)
    await _do(
        stack,
        database,
        "CREATE TABLE more (n bigserial PRIMARY KEY, text text); GRANT ALL ON more TO PUBLIC;"
        "CREATE SCHEMA another; CREATE TABLE another.one (n bigint REFERENCES more);"
        "CREATE TABLE slotwire.kept (n bigint); GRANT SELECT ON slotwire.kept TO PUBLIC;"
        "INSERT INTO slotwire.kept VALUES (1);"
        "CREATE TABLE slotwire.part PARTITION OF slotwire.events FOR VALUES FROM (8000000000) TO (8000000001);"
        "GRANT SELECT ON slotwire.part TO PUBLIC",
    )
    assert await contents(database) != new
    assert await database_pool.give_back(database)
    assert await database_pool.borrow() == database
    assert await contents(database) == new
    await database_pool.give_back(database)


async def _do(stack: Stack, database: Database, change: str) -> None:
    connection = await asyncpg.connect(stack.postgres.url(SUPERUSER, database.name))
    await connection.execute(change)
    await connection.close()
