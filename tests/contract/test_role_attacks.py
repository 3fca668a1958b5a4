"""Attacks from inside: each process's role, logged in for real, tries what it must not be able to do.

What a session can do all the same is here too, and SECURITY.md says it: such a test shows that it does no harm, or how
far the harm goes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import asyncpg
import pytest

from slotwire.ingest.foundation.migrations import PROCESSES
from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.privileges import CALLS
from tests.support.door import add_organization, let_in
from tests.support.public_endpoint import invitee_body, make_hook, running_endpoint, settings_for
from tools.sources import ROOT

SECONDS = 20
LOG = ("deliveries", "results", "heads", "events", "identities", "bookings", "quarantine", "log", "migrations")
TABLE_BY_TABLE = """
DELETE FROM slotwire.{table}
TRUNCATE slotwire.{table}
ALTER TABLE slotwire.{table} ADD COLUMN planted text
ALTER TABLE slotwire.{table} DISABLE TRIGGER ALL
CREATE TRIGGER planted AFTER INSERT ON slotwire.{table} EXECUTE FUNCTION slotwire.check_connection_step()
CREATE RULE planted AS ON INSERT TO slotwire.{table} DO INSTEAD NOTHING
DROP TABLE slotwire.{table} CASCADE
LOCK TABLE slotwire.{table} IN ACCESS EXCLUSIVE MODE
"""
"""Refused to each process, for each table of the log and the audit."""
AT_ALL = """
-- Rows of the log, and the numbers they are made of.
INSERT INTO slotwire.events SELECT * FROM slotwire.events
INSERT INTO slotwire.deliveries SELECT * FROM slotwire.deliveries
UPDATE slotwire.bookings SET state = 'canceled'
UPDATE slotwire.events SET data = ''
UPDATE slotwire.deliveries SET body = ''
UPDATE slotwire.audit SET actor = 'somebody else'
UPDATE slotwire.log SET shards = 2
SELECT nextval('slotwire.accepted_0')
SELECT setval('slotwire.positions', 1)
DELETE FROM slotwire.api_keys
DELETE FROM slotwire.signing_keys
-- Who one is.
SET ROLE slotwire_owner
SET SESSION AUTHORIZATION slotwire_owner
SET session_replication_role = replica
ALTER ROLE slotwire_owner PASSWORD 'planted'
ALTER ROLE slotwire_owner SET search_path = planted
GRANT slotwire_owner TO CURRENT_USER
CREATE ROLE planted
ALTER ROLE CURRENT_USER SUPERUSER
ALTER DATABASE {database} SET session_replication_role = replica
-- What names mean: nothing to look up can be made anywhere.
CREATE FUNCTION slotwire.planted() RETURNS integer LANGUAGE sql AS 'SELECT 1'
CREATE FUNCTION public.planted() RETURNS integer LANGUAGE sql AS 'SELECT 1'
CREATE FUNCTION pg_temp.planted() RETURNS integer LANGUAGE sql AS 'SELECT 1'
CREATE FUNCTION pg_catalog.planted() RETURNS integer LANGUAGE sql AS 'SELECT 1'
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)
CREATE DOMAIN pg_temp.date AS pg_catalog.date
CREATE TYPE public.planted AS (a integer)
CREATE TABLE slotwire.planted ()
CREATE TABLE public.planted ()
CREATE TEMPORARY TABLE planted ()
CREATE SCHEMA planted
CREATE OR REPLACE FUNCTION slotwire.discard(uuid, timestamptz, text) RETURNS boolean RETURN true
ALTER FUNCTION slotwire.accept RESET search_path
ALTER DEFAULT PRIVILEGES FOR ROLE slotwire_owner GRANT ALL ON TABLES TO PUBLIC
CREATE EVENT TRIGGER planted ON ddl_command_start EXECUTE FUNCTION slotwire.check_connection_step()
-- The machine, and others.
CREATE EXTENSION dblink
CREATE EXTENSION postgres_fdw
CREATE LANGUAGE planted HANDLER plpgsql_call_handler
CREATE PUBLICATION planted FOR ALL TABLES
CREATE SUBSCRIPTION planted CONNECTION 'host=127.0.0.1' PUBLICATION planted WITH (connect = false)
COPY (SELECT 1) TO PROGRAM 'true'
COPY slotwire.inbox FROM PROGRAM 'true'
COPY (SELECT 1) TO '/tmp/planted'
SELECT pg_read_file('postgresql.conf')
SELECT pg_ls_dir('.')
SELECT lo_import('/etc/passwd')
SELECT pg_reload_conf()
SELECT pg_switch_wal()
SELECT pg_promote()
SELECT pg_terminate_backend({backend})
SELECT * FROM pg_authid
SELECT pg_stat_reset()
"""
"""Refused to each process."""
SECRETS = (
    "signing_keys",
    "connections",
    "api_keys",
    "idempotent_answers",
    "audit",
    "wanted_subscriptions",
    "subscriptions",
)
READERS = {("serve", "signing_keys"), ("serve", "subscriptions"), *(("control", table) for table in SECRETS)}
"""The processes that read what is secret or about others' access."""
PLANTED = (
    "INSERT INTO slotwire.api_keys (id, hash, role, label, created_at)"
    " VALUES (gen_random_uuid(), sha256('slw_planted'), 'admin', 'planted', now())"
)
CALLABLE = """
SELECT proname AS name, array(SELECT format('NULL::%s', format_type(t, NULL))
                              FROM unnest(proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY n)::text[] AS nulls
FROM pg_proc WHERE pronamespace = 'slotwire'::regnamespace AND prorettype <> 'trigger'::regtype
"""
EVIL = """
CREATE FUNCTION pg_temp.evil(regclass) RETURNS boolean LANGUAGE sql AS 'DELETE FROM slotwire.audit;SELECT 1=1'
CREATE DOMAIN pg_temp.regclass AS pg_catalog.regclass CHECK (pg_temp.evil(VALUE))
"""
"""A type that runs the caller's function wherever a value is cast to its name."""


@asynccontextmanager
async def logged_in(database: Database, process: str) -> AsyncIterator[Connection]:
    """Log in as a process does, and as nobody else."""
    connection = await asyncpg.connect(database.url_of[process])
    try:
        assert await connection.fetchval("SELECT session_user::text") == f"slotwire_{process}"
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """The owner's connection, with a line in the audit."""
    connection = await asyncpg.connect(database.owner_url)
    await connection.execute(
        "INSERT INTO slotwire.audit (id, at, actor, role, action, result)"
        " VALUES (gen_random_uuid(), now(), 'command line', 'admin', 'test.begun', 'started')"
    )
    yield connection
    await connection.close()


@pytest.mark.parametrize("process", PROCESSES)
async def test_what_no_process_can_do(process: str, database: Database, owner: Connection) -> None:
    """Every statement against the log, the audit, other roles, names and the machine is refused for want of a right."""
    backend = await owner.fetchval("SELECT pg_backend_pid()")
    statements = [line.format(table=table) for table in (*LOG, "audit") for line in lines_of(TABLE_BY_TABLE)]
    statements += [line.format(database=database.name, backend=backend) for line in lines_of(AT_ALL)]
    async with logged_in(database, process) as connection:
        done = {statement: await attempt(connection, statement) for statement in statements}
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("ALTER SYSTEM SET fsync = off")
        for table in (*LOG, "audit"):  # whoever may read it gets a warning, and nothing is granted
            with suppress(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"GRANT ALL ON slotwire.{table} TO PUBLIC")
            assert not await owner.fetchval(f"SELECT has_table_privilege('public', 'slotwire.{table}', 'SELECT')")
    assert {statement: ended for statement, ended in done.items() if ended is not None} == {}
    assert await owner.fetchval("SELECT count(*) FROM slotwire.audit") == 1


def lines_of(text: str) -> list[str]:
    """Return the statements of a text, one a line."""
    return [line for line in text.splitlines() if line and not line.startswith("--")]


async def attempt(connection: Connection, statement: str) -> object:
    """Try a statement and take it back; None if it was refused for want of a right, else how it ended."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        return await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return None
    except asyncpg.PostgresError as error:
        return f"{error.sqlstate}: {error}"
    finally:
        await transaction.rollback()


@pytest.mark.parametrize("process", PROCESSES)
async def test_secrets_are_read_by_those_who_need_them(process: str, database: Database) -> None:
    """Sealed keys and tokens, hashes of keys and the audit are read by their processes; `control` alone makes keys."""
    async with logged_in(database, process) as connection:
        for table in SECRETS:
            readable = await attempt(connection, f"SELECT * FROM slotwire.{table}") is not None
            assert readable == ((process, table) in READERS), table
        assert (await attempt(connection, PLANTED) is not None) == (process == "control")
        for other in PROCESSES:
            became = await attempt(connection, f"SET ROLE slotwire_{other}") is not None
            assert became == (other == process), other


@pytest.mark.parametrize("process", PROCESSES)
async def test_functions_are_called_by_their_callers(process: str, database: Database, owner: Connection) -> None:
    """A call of each of the owner's functions is refused, but for those that the process is there to make."""
    functions = await owner.fetch(CALLABLE)
    assert len(functions) > 10
    async with logged_in(database, process) as connection:
        for function in functions:
            if function["name"] in CALLS[process]:
                continue
            call = f"SELECT slotwire.{function['name']}({', '.join(function['nulls'])})"
            assert await attempt(connection, call) is None, call


async def test_the_type_of_a_caller_does_not_run_as_the_owner(database: Database, owner: Connection) -> None:
    """A caller's own `regclass` is not what a function of the owner's means, even where temporary types can be made.

    On a function whose path leaves temporary types to be found first, the same attack deletes the audit.
    """
    async with logged_in(database, "serve") as connection:
        for statement in lines_of(EVIL):
            assert await attempt(connection, statement) is None, statement
    await owner.execute(f"GRANT TEMPORARY ON DATABASE {database.name} TO slotwire_serve")
    await with_evil(database)
    assert await owner.fetchval("SELECT count(*) FROM slotwire.audit") == 1
    await owner.execute("ALTER FUNCTION slotwire.accept SET search_path = pg_catalog")
    await with_evil(database)
    assert await owner.fetchval("SELECT count(*) FROM slotwire.audit") == 0


async def with_evil(database: Database) -> None:
    """Make the attack, and go through the door with it."""
    async with logged_in(database, "serve") as connection:
        for statement in lines_of(EVIL):
            await connection.execute(statement)
        await let_in(connection, b"{}")


async def test_the_audit_is_only_added_to(database: Database, owner: Connection) -> None:
    """`control` adds lines; nothing that it or a trigger of a line's can do changes or removes one."""
    async with logged_in(database, "control") as connection:
        await connection.execute(
            "INSERT INTO slotwire.audit (id, at, actor, role, action, result)"
            " VALUES (gen_random_uuid(), now(), 'control', 'admin', 'test.added', 'started')"
        )
        for statement in (
            "UPDATE slotwire.audit SET actor = 'nobody'",
            "DELETE FROM slotwire.audit",
            "INSERT INTO slotwire.audit TABLE slotwire.audit ON CONFLICT (id) DO UPDATE SET actor = 'nobody'",
            "MERGE INTO slotwire.audit a USING slotwire.audit b ON a.id = b.id WHEN MATCHED THEN DELETE",
            "SELECT * FROM slotwire.audit FOR UPDATE",
        ):
            assert await attempt(connection, statement) is None, statement
    assert await owner.fetchval("SELECT count(*) FROM slotwire.audit") == 2


async def test_a_lock_that_anybody_can_hold_costs_time_and_nothing_else(database: Database, owner: Connection) -> None:
    """Any session can hold the door's lock: deliveries are answered 503 meanwhile, and none is lost or acknowledged.

    Its limits on time are its own to lift, so they stop accidents only.
    """
    settings = settings_for(database, answer_deadline_seconds=2)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint, logged_in(database, "agents") as connection:
        await connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock(1936487278, 0)")
        assert (await endpoint.deliver(hook, invitee_body())).status_code == 503
        assert await owner.fetchval("SELECT count(*) FROM slotwire.deliveries") == 0
        await connection.execute("SELECT pg_advisory_unlock(1936487278, 0)")
        async with asyncio.timeout(SECONDS):
            while (await endpoint.deliver(hook, invitee_body())).status_code != 200:
                pass


def hardening() -> Sequence[str]:
    """Read the statements that SECURITY.md's reader can run as a superuser."""
    text = (ROOT / "docs" / "howto" / "run-in-production.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- hardening -->\n```sql\n(.*?)```", text, re.DOTALL)
    assert block is not None
    return [block[1]]


async def test_a_superuser_can_close_what_is_open(database: Database, owner: Connection, postgres_url: str) -> None:
    """After the how-to's statements agents and `serve` can hold no lock and store no large object; all else works."""
    for process in PROCESSES:
        async with logged_in(database, process) as connection:
            assert await attempt(connection, "SELECT pg_advisory_xact_lock(1936487278, 0)") is not None
            assert await attempt(connection, "SELECT lo_create(0)") is not None
    superuser = await asyncpg.connect(postgres_url.rpartition("/")[0] + f"/{database.name}")
    try:
        for block in hardening():
            await superuser.execute(block)
    finally:
        await superuser.close()
    for process in PROCESSES:
        async with logged_in(database, process) as connection:
            for statement in (
                "SELECT pg_advisory_lock(1936487278, 0)",
                "SELECT pg_advisory_xact_lock_shared(1)",
                "SELECT pg_try_advisory_xact_lock(1936487278, 0)",
                "SELECT lo_create(0)",
                "SELECT lo_from_bytea(0, 'x')",
            ):
                assert await attempt(connection, statement) is None, (process, statement)
            lease = await attempt(connection, "SELECT pg_try_advisory_lock(1936487279, 0)")
            assert (lease is not None) == (process == "relay")
    await add_organization(owner)
    async with logged_in(database, "serve") as connection:
        assert await let_in(connection, b"{}") == [1]
    async with logged_in(database, "control") as connection:
        assert await connection.fetchval("SELECT slotwire.make_ranges($1, 8)", datetime.now(UTC)) >= 7
        assert await connection.fetch("SELECT slotwire.revoke_signing_keys('A', NULL, NULL)") == []
