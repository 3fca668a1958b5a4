"""What `ctx.transaction()` yields is asyncpg's connection, and does all that its type for authors says."""

from __future__ import annotations

import inspect
from uuid import UUID

import asyncpg
import pytest

from slotwire.handlers import DatabaseConnection, DatabaseRow
from slotwire.handlers.settle.inbox import PostgresInbox
from slotwire.ingest.foundation import postgres
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database


def methods(protocol: type) -> dict[str, inspect.Signature]:
    """Return what a protocol asks for."""
    return {name: inspect.signature(item) for name, item in vars(protocol).items() if inspect.isfunction(item)}


def assert_it_has(found: object, protocol: type) -> None:
    """Assert that an object has a protocol's methods, and that each takes the protocol's named arguments."""
    wanted = {name: signature for name, signature in methods(protocol).items() if name != "__init__"}
    assert wanted
    for name, signature in wanted.items():
        method = getattr(found, name)
        keywords = [item.name for item in signature.parameters.values() if item.kind is item.KEYWORD_ONLY]
        if keywords:
            assert set(keywords) <= inspect.signature(method).parameters.keys(), name


async def test_the_real_connection_does_what_its_type_says(database: Database) -> None:
    """Each method of the type is there and works on a real connection, rows and savepoints included."""
    owner = await asyncpg.connect(database.owner_url)
    try:  # an author's table: whoever runs an agent may make none
        await owner.execute("CREATE TABLE slotwire.met (invitee text, number int)")
        await owner.execute("GRANT ALL ON slotwire.met TO PUBLIC")
    finally:
        await owner.close()
    async with create_pool(database.runtime_url, DatabaseSettings(pool_size=1), application="test") as pool:
        inbox = PostgresInbox(pool, agent="crm", clock=SystemClock(), idle_seconds=5)
        connection: DatabaseConnection
        async with inbox.transaction(UUID(int=1)) as connection:
            assert_it_has(connection, DatabaseConnection)
            assert await connection.execute("SET LOCAL work_mem = '4MB'") == "SET"
            await connection.executemany("INSERT INTO slotwire.met VALUES ($1, $2)", [("a", 1), ("b", 2)])
            with pytest.raises(asyncpg.DivisionByZeroError):
                async with connection.transaction():
                    await connection.execute("DELETE FROM slotwire.met; SELECT 1 / 0")
            rows = await connection.fetch("SELECT invitee, number FROM slotwire.met ORDER BY number")
            assert [row["number"] for row in rows] == [1, 2]
            row: DatabaseRow | None = await connection.fetchrow("SELECT * FROM slotwire.met WHERE invitee = $1", "b")
            assert row is not None
            assert_it_has(row, DatabaseRow)
            assert (row["invitee"], row[1], row.get("absent"), len(row), "number" in row) == ("b", 2, None, 2, True)
            assert (
                dict(row.items()) == dict(zip(row.keys(), row.values(), strict=True)) == {"invitee": "b", "number": 2}
            )
            assert await connection.fetchrow("SELECT 1 WHERE false") is None
            assert await connection.fetchval("SELECT 1, 2", column=1) == 2
        assert await inbox.seen(UUID(int=1))


async def test_a_pool_closes_although_a_connection_was_not_given_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has not ended by then does not end: the process does not wait for it."""
    monkeypatch.setattr(postgres, "POOL_CLOSE_SECONDS", 0)
    async with create_pool(database.runtime_url, DatabaseSettings(), application="test") as pool:
        connection = await pool.acquire()
        assert await connection.fetchval("SELECT 1") == 1
    with pytest.raises(asyncpg.InterfaceError):
        await connection.fetchval("SELECT 1")
