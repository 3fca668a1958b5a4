"""Roles: what each process may read, call and write in the database is what SECURITY.md says, and no more."""

from __future__ import annotations

import asyncpg
import pytest

from slotwire.ingest.foundation.migrations import PROCESSES
from slotwire.ingest.local.databases import Database
from tools.sources import ROOT

TABLES = """
SELECT c.relname AS name, p.privilege,
       has_table_privilege($1, c.oid, p.privilege) AS whole,
       array(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             AND p.privilege IN ('SELECT', 'INSERT', 'UPDATE')
             AND has_column_privilege($1, c.oid, a.attnum, p.privilege) ORDER BY a.attnum)::text[] AS columns
FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
     WITH ORDINALITY AS p (privilege, number)
WHERE c.relnamespace = 'slotwire'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
ORDER BY c.relname, p.number
"""
FUNCTIONS = """
SELECT proname AS name FROM pg_proc
WHERE pronamespace = 'slotwire'::regnamespace AND has_function_privilege($1, oid, 'EXECUTE') ORDER BY 1
"""
SEQUENCES = """
SELECT relname FROM pg_class
WHERE CASE WHEN relnamespace = 'slotwire'::regnamespace AND relkind = 'S'
           THEN has_sequence_privilege($1, oid, 'USAGE, SELECT, UPDATE') ELSE false END
"""


async def row_of(connection: asyncpg.Connection[asyncpg.Record], process: str) -> str:
    """Write a role's row of the table, as the server knows it."""
    role = f"slotwire_{process}"
    reads: list[str] = []
    writes: dict[str, list[str]] = {}
    for found in await connection.fetch(TABLES, role):
        if found["privilege"] == "SELECT":
            if found["whole"]:
                reads.append(f"`{found['name']}`")
            elif found["columns"]:
                reads.append(f"`{found['name']}` ({', '.join(found['columns'])})")
        elif found["whole"] or found["columns"]:
            writes.setdefault(found["name"], []).append(found["privilege"].lower())
    calls = [f"`{found['name']}`" for found in await connection.fetch(FUNCTIONS, role)]
    changes = [f"`{name}` ({', '.join(how)})" for name, how in writes.items()]
    cells = (f"`{role}`", *(", ".join(each) or "nothing" for each in (reads, calls, changes)))
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("process", PROCESSES)
async def test_the_table_of_roles_is_what_the_server_grants(process: str, database: Database) -> None:
    """Each role's row in SECURITY.md names every table, function and kind of change that the server allows it."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        expected = await row_of(connection, process)
        assert await connection.fetch(SEQUENCES, f"slotwire_{process}") == []
    finally:
        await connection.close()
    assert expected in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines(), expected


async def test_a_grant_shows_in_the_table(database: Database) -> None:
    """One right more, on a column, a function or a table, makes another row."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        before = await row_of(connection, "serve")
        for grant in (
            "GRANT SELECT (body) ON slotwire.deliveries TO slotwire_serve",
            "GRANT EXECUTE ON FUNCTION slotwire.append TO slotwire_serve",
            "GRANT DELETE ON slotwire.audit TO slotwire_serve",
            "GRANT EXECUTE ON FUNCTION slotwire.discard TO PUBLIC",
        ):
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(grant)
            assert await row_of(connection, "serve") != before, grant
            await transaction.rollback()
    finally:
        await connection.close()


async def test_public_may_nothing(database: Database) -> None:
    """A login that is no process's has no right on a table, may call no function, and cannot use the schema."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        assert await row_of(connection, "owner") != await row_of(connection, "mcp")
        assert await connection.fetchval("SELECT has_schema_privilege('public', 'slotwire', 'USAGE, CREATE')") is False
        [public] = await connection.fetch(
            "SELECT count(*) AS functions FROM pg_proc"
            " WHERE pronamespace = 'slotwire'::regnamespace AND has_function_privilege('public', oid, 'EXECUTE')"
        )
        assert public["functions"] == 0
    finally:
        await connection.close()


async def test_every_function_has_its_search_path(database: Database) -> None:
    """No function of ours looks names up where its caller says: each has a path of its own, and is the owner's."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        rows = await connection.fetch(
            "SELECT proname, proconfig, proowner::regrole::text AS owner FROM pg_proc"
            " WHERE pronamespace = 'slotwire'::regnamespace"
        )
    finally:
        await connection.close()
    assert rows
    for row in rows:
        assert "search_path=pg_catalog, pg_temp" in (row["proconfig"] or ()), row["proname"]
        assert row["owner"] == "slotwire_owner"


@pytest.mark.parametrize("process", PROCESSES)
async def test_nobody_changes_the_log_but_by_its_functions(process: str, database: Database) -> None:
    """No process may insert into, change or empty what comes in, the log, the bookings or the quarantine."""
    connection = await asyncpg.connect(database.owner_url)
    ours = {"deliveries", "results", "heads", "events", "identities", "bookings", "quarantine", "log", "migrations"}
    try:
        for found in await connection.fetch(TABLES, f"slotwire_{process}"):
            table = found["name"].rstrip("0123456789").rstrip("_")
            changes = found["privilege"] != "SELECT" and bool(found["whole"] or found["columns"])
            assert not (table in ours and changes), (found["name"], found["privilege"])
            if found["name"] == "audit":
                allowed = process == "control" and found["privilege"] in {"SELECT", "INSERT"}
                assert found["whole"] == allowed, found["privilege"]
    finally:
        await connection.close()
