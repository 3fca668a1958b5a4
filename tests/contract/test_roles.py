"""Roles: what each process may read, call and write in the database is what SECURITY.md says, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import asyncpg
import pytest

from slotwire.ingest.foundation.migrations import PROCESSES
from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.findings import Finding
from slotwire.ingest.operate.privileges import CALLS, functions, logins, roles
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


GRANTS = """
SELECT what, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS grantee, is_grantable AS passes_on
FROM (
    SELECT 'schema ' || nspname AS what, (aclexplode(nspacl)).* FROM pg_namespace WHERE nspname = 'slotwire'
    UNION ALL SELECT relkind::text || ' ' || relname, (aclexplode(relacl)).* FROM pg_class
              WHERE relnamespace = 'slotwire'::regnamespace
    UNION ALL SELECT 'column ' || attname, (aclexplode(attacl)).* FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
              WHERE relnamespace = 'slotwire'::regnamespace
    UNION ALL SELECT 'function ' || proname, (aclexplode(coalesce(proacl, acldefault('f', proowner)))).* FROM pg_proc
              WHERE pronamespace = 'slotwire'::regnamespace
    UNION ALL SELECT 'default', (aclexplode(defaclacl)).* FROM pg_default_acl
    UNION ALL SELECT 'parameter ' || parname, (aclexplode(paracl)).* FROM pg_parameter_acl
) AS every
WHERE grantee <> (SELECT nspowner FROM pg_namespace WHERE nspname = 'slotwire')
"""


async def test_nothing_is_granted_to_others(database: Database) -> None:
    """In every list of rights are roles of processes only, and none may pass its right on.

    The lists are those of the schema, of tables, columns, sequences, functions, defaults and parameters. Sequences,
    defaults and parameters have no line at all; of the database, everybody else may do nothing but connect.
    """
    connection = await asyncpg.connect(database.owner_url)
    try:
        grants = await connection.fetch(GRANTS)
        public = await connection.fetch(
            "SELECT privilege_type FROM pg_database, aclexplode(datacl) WHERE datname = current_database()"
            " AND grantee = 0"
        )
    finally:
        await connection.close()
    assert len(grants) > 20
    assert {grant["grantee"] for grant in grants} == {f"slotwire_{process}" for process in PROCESSES}
    assert not [grant["what"] for grant in grants if grant["passes_on"]]
    assert not [grant["what"] for grant in grants if grant["what"].startswith(("S ", "default", "parameter"))]
    assert [row["privilege_type"] for row in public] == ["CONNECT"]


async def test_the_doctor_knows_the_callers(database: Database) -> None:
    """What the doctor takes for right is what SECURITY.md says: the functions that each role calls."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        for process in PROCESSES:
            calls = [row["name"] for row in await connection.fetch(FUNCTIONS, f"slotwire_{process}")]
            assert tuple(calls) == CALLS[process]
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        ("ALTER FUNCTION slotwire.accept SET search_path = pg_catalog", "accept looks names up in pg_catalog"),
        ("ALTER FUNCTION slotwire.accept RESET search_path", "accept looks names up in the path of its caller"),
        ("GRANT EXECUTE ON FUNCTION slotwire.append TO PUBLIC", "append may be called by everybody"),
        ("GRANT EXECUTE ON FUNCTION slotwire.append TO slotwire_serve", "append may be called by slotwire_serve"),
        ("ALTER FUNCTION slotwire.append OWNER TO slotwire_superuser", "append belongs to slotwire_superuser"),
        (
            "CREATE FUNCTION also() RETURNS int SECURITY DEFINER RETURN 1; ALTER FUNCTION also OWNER TO slotwire_owner",
            "also looks names up in the path of its caller; also may be called by everybody",
        ),
    ],
    ids=lambda text: text[:60],
)
async def test_the_doctor_finds_what_is_wrong_with_a_function(plant: str, fault: str, hurt: Hurt) -> None:
    """A function of the owner's with another path, another owner or other callers is a failure that names it."""
    found = await hurt(plant, functions)
    assert (found.state, found.message) == ("failed", fault)
    assert "ALTER FUNCTION" in found.remedy


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        ("ALTER ROLE slotwire_serve SUPERUSER", "slotwire_serve is a superuser"),
        ("ALTER ROLE slotwire_serve CREATEDB", "slotwire_serve may create databases"),
        ("ALTER ROLE slotwire_serve CREATEROLE", "slotwire_serve may create roles"),
        ("ALTER ROLE slotwire_serve REPLICATION", "slotwire_serve may replicate"),
        ("ALTER ROLE slotwire_serve BYPASSRLS", "slotwire_serve is exempt from row security"),
        ("GRANT slotwire_control TO slotwire_serve", "slotwire_serve is a member of slotwire_control"),
        ("GRANT CREATE ON SCHEMA public TO slotwire_agents", "slotwire_agents may create in the schema public"),
        ("GRANT CREATE ON SCHEMA public TO PUBLIC", "slotwire_serve may create in the schema public"),
        (
            "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database()); END $$",
            "slotwire_relay may create temporary objects",
        ),
        (
            "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO slotwire_mcp', current_database()); END $$",
            "slotwire_mcp may create schemas",
        ),
        (
            "GRANT SET ON PARAMETER session_replication_role TO slotwire_relay",
            "slotwire_relay may set session_replication_role",
        ),
        (
            "SELECT lo_create(47110); ALTER LARGE OBJECT 47110 OWNER TO slotwire_agents",
            "slotwire_agents owns something: large object 47110",
        ),
        (
            "ALTER ROLE slotwire_serve SET synchronous_commit = off",
            "slotwire_serve begins each session with synchronous_commit=off",
        ),
    ],
    ids=lambda text: text[:60],
)
async def test_the_doctor_finds_what_a_role_may_do(plant: str, fault: str, hurt: Hurt) -> None:
    """What a role can do, own or inherit beyond what its process needs is a warning that names it."""
    found = await hurt(plant, roles)
    assert found.state == "warning"
    assert fault in found.message


async def test_the_doctor_finds_a_process_that_logs_in_as_another(database: Database) -> None:
    """While `serve` is connected as the owner that is a warning; as its own role it is what should be."""
    asking = await asyncpg.connect(database.url_of["control"])
    try:
        for url, said in (
            (database.url_of["serve"], ""),
            (database.owner_url, "slotwire-serve is connected as slotwire_owner"),
        ):
            running = await asyncpg.connect(url, server_settings={"application_name": "slotwire-serve"})
            found = await logins(asking, "slotwire")
            await running.close()
            assert (found.state, found.message) == ("warning", said) if said else found.state == "ok"
    finally:
        await asking.close()


Hurt: TypeAlias = Callable[[str, Callable[[Connection, str], Awaitable[Finding]]], Awaitable[Finding]]


@pytest.fixture
async def hurt(database: Database, postgres_url: str) -> AsyncIterator[Hurt]:
    """Let a superuser do harm in a transaction that is taken back, and look inside it."""
    superuser = await asyncpg.connect(postgres_url.rpartition("/")[0] + f"/{database.name}")
    transaction = superuser.transaction()
    await transaction.start()

    async def look(plant: str, check: Callable[[Connection, str], Awaitable[Finding]]) -> Finding:
        assert (await check(superuser, "slotwire")).state == "ok"
        await superuser.execute(plant)
        return await check(superuser, "slotwire")

    yield look
    await transaction.rollback()
    await superuser.close()


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
        assert [each for each in row["proconfig"] or () if each.startswith("search_path=")] == [
            "search_path=pg_catalog, pg_temp"
        ], row["proname"]
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
