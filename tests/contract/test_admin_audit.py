"""The audit: every change leaves a row, whatever becomes of it, and no row is ever changed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from slotwire.ingest.errors import (
    CalendlyError,
    CalendlyProblem,
    ConfigurationError,
    DatabaseUnavailable,
    DatabaseUnfit,
    RequestRefused,
    RowRefused,
)
from slotwire.ingest.foundation.clock import Clock, ManualClock, SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.audit import MAX_TEXT, outcome_of
from slotwire.ingest.operate.audit_models import AuditItem, AuditQuery
from slotwire.ingest.operate.models import KeyRequest
from slotwire.ingest.operate.problems import problem_of
from slotwire.ingest.operate.process import operating
from slotwire.ingest.operate.quarantine_models import DiscardRequest
from slotwire.ingest.operate.roles import COMMAND_LINE, CONTROL, Principal, Role
from tests.support.children import environment
from tests.support.command import slotwire
from tests.support.management_api import EPOCH, management_api, write_organization, write_quarantine
from tests.support.public_endpoint import settings_for

READER_KEY = KeyRequest(role=Role.READER)


@asynccontextmanager
async def verbs(database: Database, clock: Clock | None = None) -> AsyncIterator[Actions]:
    """The verbs on the test's database."""
    async with operating(settings_for(database), clock or SystemClock(), application="test") as actions:
        yield actions


async def told(actions: Actions, **query: object) -> tuple[AuditItem, ...]:
    """What the audit tells, oldest first."""
    page = await actions.audit.list(COMMAND_LINE, AuditQuery.model_validate(query))
    return tuple(reversed(page.items))


async def as_owner(database: Database, *statements: str) -> None:
    """Run statements with the owner's rights."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_change_is_listed_once_with_who_and_what(database: Database) -> None:
    """A key's life is two entries, each with actor, role, organization, action, target and result."""
    await write_organization(database, "ORG")
    clock = ManualClock(EPOCH)
    async with verbs(database, clock) as actions:
        admin = await actions.keys.create(COMMAND_LINE, KeyRequest(role=Role.ADMIN))
        clock.advance(timedelta(milliseconds=1))  # as far as the order of the ids goes
        who = Principal(Role.ADMIN, None, admin.id)
        made = await actions.keys.create(who, KeyRequest(role=Role.READER, organization="ORG"))
        clock.advance(timedelta(milliseconds=1))
        await actions.keys.revoke(who, made.id)
        entries = await told(actions)
    seen = [(item.actor, item.role, item.organization, item.action, item.target, item.result) for item in entries]
    assert seen == [
        ("command line", "admin", None, "keys.create", str(admin.id), "done"),
        (str(admin.id), "admin", "ORG", "keys.create", str(made.id), "done"),
        (str(admin.id), "admin", "ORG", "keys.revoke", str(made.id), "done"),
    ]
    assert all(item.code is None for item in entries)


async def test_refused_attempts_are_listed_too(database: Database) -> None:
    """Too low a role, another organization, what is not there: each leaves an entry with its code."""
    await write_organization(database, "ORG")
    bound, reader = Principal(Role.ADMIN, "ORG", uuid4()), Principal(Role.READER, None, uuid4())
    async with verbs(database) as actions:
        for attempt in (
            actions.keys.create(bound, KeyRequest(role=Role.READER, organization="OTHER")),
            actions.keys.create(reader, READER_KEY),
            actions.keys.revoke(bound, uuid4()),
            actions.quarantine.retry(reader, uuid4()),
            actions.quarantine.discard(bound, uuid4(), DiscardRequest(why="x")),
            actions.subscriptions.delete(bound, "OTHER", uuid4()),
        ):
            with pytest.raises(RequestRefused):
                await attempt
        entries = await told(actions)
    assert sorted((item.action, str(item.organization), item.result, item.code) for item in entries) == [
        ("keys.create", "None", "refused", "role_too_low"),
        ("keys.create", "ORG", "refused", "out_of_reach"),
        ("keys.revoke", "ORG", "refused", "not_found"),
        ("quarantine.discard", "ORG", "refused", "not_found"),
        ("quarantine.retry", "None", "refused", "role_too_low"),
        ("subscriptions.delete", "ORG", "refused", "out_of_reach"),
    ]


async def test_without_its_first_row_nothing_is_done(database: Database) -> None:
    """Where the audit cannot be written the change is refused, and is not made."""
    await as_owner(database, "REVOKE INSERT ON slotwire.audit FROM slotwire_control")
    async with verbs(database) as actions:
        with pytest.raises(DatabaseUnfit):
            await actions.keys.create(COMMAND_LINE, READER_KEY)
    connection = await asyncpg.connect(database.owner_url)
    assert await connection.fetchval("SELECT count(*) FROM slotwire.api_keys") == 0
    await connection.close()


async def test_without_its_last_row_a_change_is_reported_as_failed(database: Database) -> None:
    """Where only the end cannot be written, the caller hears of a failure, and the audit shows a beginning."""
    await as_owner(
        database,
        "CREATE FUNCTION slotwire.broken() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no room' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER broken BEFORE INSERT ON slotwire.audit FOR EACH ROW WHEN (NEW.begun IS NOT NULL)"
        " EXECUTE FUNCTION slotwire.broken()",
    )
    async with verbs(database) as actions:
        with pytest.raises(DatabaseUnavailable):
            await actions.keys.create(COMMAND_LINE, READER_KEY)
        with pytest.raises(RequestRefused, match="no such key"):
            await actions.keys.revoke(COMMAND_LINE, uuid4())
        entries = await told(actions)
    assert sorted((item.action, item.result, item.code) for item in entries) == [
        ("keys.create", "started", None),
        ("keys.revoke", "started", None),
    ]


async def test_a_process_that_dies_in_the_middle_leaves_a_trace(database: Database) -> None:
    """A change that is cut off between its commit and its end is in the audit as begun, with its target."""
    await write_organization(database, "ORG")
    [delivery] = await write_quarantine(database, "ORG", [b"{}"])
    reached = asyncio.Event()

    async def cut_off(actions: Actions) -> None:
        async with actions.quarantine.audited(CONTROL, "quarantine.discard", org="ORG", target=delivery):
            await actions.pool.fetchval("SELECT slotwire.discard($1, now(), 'x')", delivery)
            reached.set()
            await asyncio.Event().wait()

    async with verbs(database) as actions:
        task = asyncio.create_task(cut_off(actions))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        [entry] = await told(actions)
    assert (entry.actor, entry.action, entry.organization, entry.result) == (
        "control",
        "quarantine.discard",
        "ORG",
        "started",
    )
    assert entry.target == str(delivery)


async def test_a_killed_process_leaves_a_trace(database: Database) -> None:
    """A command that is killed after its change and before its end: the change is there, and the audit says begun."""
    await as_owner(
        database,
        "CREATE FUNCTION slotwire.slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$",
        "CREATE TRIGGER slow BEFORE INSERT ON slotwire.audit FOR EACH ROW WHEN (NEW.begun IS NOT NULL)"
        " EXECUTE FUNCTION slotwire.slow()",
    )
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("SELECT pg_advisory_lock(4711)")
    command = (sys.executable, "-m", "slotwire.ingest.cli", "keys", "api", "create", "--role", "reader")
    env = environment(settings_for(database), SLOTWIRE_DATABASE__LOCK_TIMEOUT_SECONDS="1")
    child = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.PIPE)
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
    async with asyncio.timeout(20):
        while not await owner.fetchval(waiting):
            assert child.returncode is None
            await asyncio.sleep(0.02)
        child.kill()
        await child.communicate()
        # Its lock_timeout ends what the server still does for it: until then it has the table.
        await as_owner(database, "BEGIN; LOCK slotwire.audit IN SHARE MODE; COMMIT")
    assert await owner.fetchval("SELECT count(*) FROM slotwire.api_keys") == 1
    await owner.close()
    async with verbs(database) as actions:
        [entry] = await told(actions)
    assert (entry.action, entry.result, entry.actor) == ("keys.create", "started", "command line")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE slotwire.audit SET actor = 'nobody'",
        "DELETE FROM slotwire.audit",
        "TRUNCATE slotwire.audit",
        "DROP TABLE slotwire.audit",
        "ALTER TABLE slotwire.audit DROP COLUMN actor",
    ],
)
async def test_the_runtime_role_adds_and_reads_only(statement: str, database: Database) -> None:
    """The processes cannot change, remove or empty the audit."""
    connection = await asyncpg.connect(database.runtime_url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)
    await connection.close()


async def test_a_change_has_one_end(database: Database) -> None:
    """The table takes no second end, no end that begins, and no refusal without a code."""
    connection = await asyncpg.connect(database.owner_url)
    sql = (
        "INSERT INTO slotwire.audit (id, begun, at, actor, role, action, result, code)"
        " VALUES ($1, $2, now(), 'a', 'admin', 'x.y', $3, $4)"
    )
    await connection.execute(sql, UUID(int=1), None, "started", None)
    await connection.execute(sql, UUID(int=2), UUID(int=1), "done", None)
    for row, constraint in (
        ((UUID(int=3), UUID(int=1), "failed", "x"), "audit_one_end"),
        ((UUID(int=3), UUID(int=2), "started", None), "audit_start"),
        ((UUID(int=3), None, "refused", None), "audit_code"),
        ((UUID(int=3), None, "done", "x"), "audit_code"),
        ((UUID(int=3), None, "lost", None), "audit_result"),
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
            await connection.execute(sql, *row)
        assert getattr(caught.value, "constraint_name", None) == constraint
    await connection.close()


@pytest.mark.parametrize(
    "error",
    [
        RequestRefused("x", code="not_found"),
        RowRefused("x", sqlstate="22021"),
        DatabaseUnavailable("x", reason="y"),
        ConfigurationError("x"),
        KeyError("x"),
        *(CalendlyError("x", problem=problem) for problem in CalendlyProblem),
    ],
    ids=repr,
)
def test_codes_are_those_of_the_api(error: Exception) -> None:
    """The audit names a refusal as the answer did, and calls what is answered 5xx failed; a limit is a no."""
    result, code = outcome_of(error)
    problem, _ = problem_of(error)
    assert code == problem.code
    limited = code == "calendly_limited"
    assert result == ("failed" if problem.status >= 500 and not limited else "refused")


async def test_only_identifiers_are_written(database: Database) -> None:
    """An organization or target that no identifier looks like may be personal, and is left out of the row."""
    strange = ("y" * (MAX_TEXT + 1), "a\x00b\x1b[2Jc\nd", "ada@example.com", "Ada Example", "", "\u00c4")
    async with verbs(database) as actions:
        for text in ("x" * MAX_TEXT, "A-b_9", *strange):
            await actions.audit.refused(COMMAND_LINE, "keys.revoke", org=text, target=text)
        found = await told(actions)
    assert {(item.organization, item.target) for item in found} == {
        ("x" * MAX_TEXT, "x" * MAX_TEXT),
        ("A-b_9", "A-b_9"),
        (None, None),
    }
    assert len(found) == 2 + len(strange)


async def test_pages_and_filters(database: Database) -> None:
    """Entries come newest first, once each, in pages of any size, narrowed by action, actor and organization."""
    await write_organization(database, "ORG")
    async with management_api(settings_for(database)) as api:
        admin = await api.key()
        bound = await api.key(Role.ADMIN, "ORG")
        for _ in range(3):
            await api.ask("POST", "/v1/keys", bound, json={"role": "reader"})
        await api.ask("DELETE", f"/v1/keys/{uuid4()}", admin)
        every = (await api.ask("GET", "/v1/audit", admin)).json()["items"]
        assert [item["id"] for item in every] == sorted((item["id"] for item in every), reverse=True)
        assert len(every) == 6
        for limit in (1, 2, 5, 6):
            seen, cursor = [], ""
            while True:
                page = (await api.ask("GET", f"/v1/audit?limit={limit}{cursor}", admin)).json()
                seen += page["items"]
                if page["next_cursor"] is None:
                    break
                cursor = f"&cursor={page['next_cursor']}"
            assert seen == every
        counts = {
            query: len((await api.ask("GET", f"/v1/audit?{query}", admin)).json()["items"])
            for query in ("action=keys.create", "action=keys.revoke", "actor=command%20line", "organization=ORG")
        }
        mine = (await api.ask("GET", "/v1/audit", bound)).json()["items"]
    assert counts == {
        "action=keys.create": 5,
        "action=keys.revoke": 1,
        "actor=command%20line": 2,
        "organization=ORG": 4,
    }
    assert {item["organization"] for item in mine} == {"ORG"}
    assert len(mine) == 4


async def test_the_command_lists_them(database: Database) -> None:
    """`slotwire audit list` shows changes, as columns and as JSON lines, filtered."""
    settings = settings_for(database)
    env = environment(settings)
    empty = await slotwire("audit", "list", env=env)
    assert (empty.code, empty.stdout) == (0, "")
    assert "no change yet" in empty.stderr
    async with verbs(database) as actions:
        made = await actions.keys.create(COMMAND_LINE, READER_KEY)
        with pytest.raises(RequestRefused):
            await actions.keys.revoke(COMMAND_LINE, uuid4())
    shown = await slotwire("audit", "list", env=env)
    assert "refused: not_found" in shown.stdout
    assert str(made.id) in shown.stdout
    lines = await slotwire("audit", "list", "--action", "keys.create", "--limit", "1", "--json", env=env)
    assert AuditItem.model_validate_json(lines.stdout).target == str(made.id)
