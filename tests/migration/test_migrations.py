"""Migrations: applied once, checked, refused when they do not fit; the runtime role can use and not alter."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest

from slotwire.ingest.errors import ConfigurationError, SchemaMismatch
from slotwire.ingest.foundation import migrations
from slotwire.ingest.foundation.postgres import connect
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from tests.support.children import environment
from tests.support.command import slotwire
from tests.support.door import let_in
from tests.support.public_endpoint import running_endpoint, settings_for

NOW = datetime(2026, 11, 23, tzinfo=UTC)


async def test_migrating_twice_changes_nothing(database: Database) -> None:
    """A second run applies nothing and keeps the log's identity."""
    connection = await connect(database.owner_url, DatabaseSettings(), application="test")
    before = await connection.fetchrow("SELECT * FROM slotwire.log")
    applied = await migrations.migrate(connection, role_prefix="slotwire", shards=4, now=NOW)
    assert list(applied) == []
    assert await connection.fetchrow("SELECT * FROM slotwire.log") == before
    assert await migrations.require_fitting(connection) == migrations.SchemaComparison((), ())
    await connection.close()


async def test_a_missing_role_that_may_not_be_created_is_named(database: Database) -> None:
    """A login without the right to create the runtime role is told which statement a superuser must run."""
    role = f"prefix_{uuid4().hex[:12]}"
    connection = await connect(database.url_of["control"], DatabaseSettings(), application="test")
    with pytest.raises(
        ConfigurationError, match=f"{role}_serve does not exist, and this login may not create it"
    ) as caught:
        await migrations.migrate(connection, role_prefix=role, shards=1, now=NOW)
    assert f'CREATE ROLE "{role}_serve" LOGIN' in caught.value.remedy
    await connection.close()


async def test_a_changed_migration_is_refused(database: Database) -> None:
    """What ran is what is written: an edited file is named, with what to do."""
    connection = await connect(database.owner_url, DatabaseSettings(), application="test")
    await connection.execute("UPDATE slotwire.migrations SET checksum = 'edited' WHERE name LIKE '0001%'")
    with pytest.raises(SchemaMismatch, match="was changed after it was applied"):
        await migrations.compare(connection)
    await connection.close()


async def test_a_schema_with_another_beginning_is_refused(database: Database) -> None:
    """A database from before the first release, whose migrations had other names, is refused as it is."""
    connection = await connect(database.owner_url, DatabaseSettings(), application="test")
    await connection.execute("DELETE FROM slotwire.migrations")
    await connection.execute("INSERT INTO slotwire.migrations VALUES ('0001_pre_the_log', 'as written then', $1)", NOW)
    with pytest.raises(SchemaMismatch, match="does not follow: 0001_pre_the_log") as caught:
        await migrations.migrate(connection, role_prefix="slotwire", shards=1, now=NOW)
    assert caught.value.remedy == "Use a new database."
    assert await connection.fetchval("SELECT count(*) FROM slotwire.migrations") == 1
    await connection.close()


async def test_a_version_goes_on_while_the_next_one_is_rolled_out(database: Database) -> None:
    """What a newer version needs beforehand leaves a process ready; what runs when it shall be gone does not."""
    settings = settings_for(database)
    connection = await connect(database.owner_url, DatabaseSettings(), application="test")
    remember = "INSERT INTO slotwire.migrations VALUES ($1, 'as written then', $2)"
    async with running_endpoint(settings) as endpoint:
        assert await endpoint.health.problems() == {}
        await connection.execute(remember, "9998_pre_of_the_future", NOW)
        assert await endpoint.health.problems() == {}
        assert (await migrations.require_fitting(connection)).newer == ("9998_pre_of_the_future",)
        await connection.execute(remember, "9999_post_of_the_future", NOW)
        [said] = (await endpoint.health.problems()).values()
        assert "9999_post_of_the_future" in said
        assert "at least as new" in said
    await connection.close()


async def test_a_new_version_is_ready_before_its_post_migrations(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes of a new version are ready before its `post_` migrations, and not before its `pre_` ones."""
    connection = await connect(database.owner_url, DatabaseSettings(), application="test")
    known = migrations.known_migrations()
    after, before = migrations.Migration("0998_post_x", "SELECT 1"), migrations.Migration("0999_pre_x", "SELECT 1")
    monkeypatch.setattr(migrations, "known_migrations", lambda: (*known, after))
    assert (await migrations.require_fitting(connection)).missing == (after,)
    monkeypatch.setattr(migrations, "known_migrations", lambda: (*known, after, before))
    with pytest.raises(SchemaMismatch, match=r"lacks 1 migration.*0999_pre_x"):
        await migrations.require_fitting(connection)
    await connection.close()


async def test_a_rollout_has_two_steps(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """First what the new version needs, then, apart, what the one before could not live with."""
    connection = await connect(database.owner_url, DatabaseSettings(), application="test")
    known = migrations.known_migrations()
    before = migrations.Migration("0998_pre_x", "CREATE TABLE slotwire.x ()")
    after = migrations.Migration("0999_post_x", "DROP TABLE slotwire.x")
    monkeypatch.setattr(migrations, "known_migrations", lambda: (*known, before, after))

    async def migrate(phase: migrations.Phase | None) -> list[str]:
        return list(await migrations.migrate(connection, role_prefix="slotwire", shards=1, now=NOW, phase=phase))

    with pytest.raises(SchemaMismatch, match="0998_pre_x comes before them") as refused:
        await migrate(migrations.Phase.POST)
    assert "migrate --pre" in refused.value.remedy
    assert await migrate(migrations.Phase.PRE) == ["0998_pre_x"]
    assert (await migrations.require_fitting(connection)).missing == (after,)
    assert await migrate(migrations.Phase.PRE) == []
    later = migrations.Migration("1000_pre_y", "SELECT 1")
    monkeypatch.setattr(migrations, "known_migrations", lambda: (*known, before, after, later))
    with pytest.raises(SchemaMismatch, match="0999_post_x comes before them") as refused:
        await migrate(migrations.Phase.PRE)
    assert "migrate --post" in refused.value.remedy
    assert await migrate(None) == ["0999_post_x", "1000_pre_y"]
    assert (await migrations.require_fitting(connection)).missing == ()
    await connection.close()


async def test_one_step_at_a_time(database: Database) -> None:
    """The command has a word for each step, and takes one of them."""
    env = environment(settings_for(database), SLOTWIRE_MIGRATE__DATABASE_URL=database.owner_url)
    for step in ("--pre", "--post"):
        ran = await slotwire("migrate", step, env=env)
        assert (ran.code, "the schema is current" in ran.stdout) == (0, True)
    assert (await slotwire("migrate", "--pre", "--post", env=env)).code == 2


async def test_check_says_what_is_missing_and_changes_nothing(database: Database) -> None:
    """`migrate --check` exits 1 and names the command while a migration is missing, 0 when none is."""
    settings = settings_for(database)
    env = environment(settings, SLOTWIRE_MIGRATE__DATABASE_URL=database.owner_url)
    assert (await slotwire("migrate", "--check", env=env)).code == 0
    connection = await asyncpg.connect(database.owner_url)
    await connection.execute("DROP SCHEMA slotwire CASCADE")
    missing = await slotwire("migrate", "--check", env=env)
    assert missing.code == 1
    assert "Run `slotwire migrate --pre`." in missing.stderr
    assert not await connection.fetchval("SELECT to_regnamespace('slotwire') IS NOT NULL")
    assert (await slotwire("migrate", env=env)).code == 0
    assert (await slotwire("migrate", "--check", env=env)).code == 0
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO slotwire.events SELECT * FROM slotwire.events",
        "DELETE FROM slotwire.events",
        "UPDATE slotwire.bookings SET state = 'active'",
        "DELETE FROM slotwire.deliveries",
        "ALTER TABLE slotwire.events ADD COLUMN x int",
        "DROP TABLE slotwire.events",
        "TRUNCATE slotwire.quarantine",
        "UPDATE slotwire.log SET shards = 2",
        "CREATE TABLE slotwire.mine (x int)",
    ],
)
async def test_the_runtime_role_cannot_go_around_the_log(statement: str, database: Database) -> None:
    """The processes write the log through its one function; they cannot change, empty or alter it."""
    connection = await asyncpg.connect(database.runtime_url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)
    await connection.close()


def test_migrations_are_numbered_and_named_by_when_they_run() -> None:
    """Files are `NNNN_pre_…` or `NNNN_post_…`, without gaps, so that their order is never in doubt."""
    names = [migration.name for migration in migrations.known_migrations()]
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    assert all(name[4:].startswith(("_pre_", "_post_")) for name in names)


@pytest.mark.parametrize(("size", "elsewhere"), [(2_000, False), (7_500, False), (20_000, True)])
async def test_bodies_of_the_usual_size_stay_in_their_rows(size: int, elsewhere: bool, database: Database) -> None:
    """What fits on a page with its row costs no second one; what does not is moved out, and nothing is compressed."""
    connection = await asyncpg.connect(database.owner_url)
    await let_in(connection, b"a" * size)
    moved = await connection.fetchval(
        "SELECT pg_relation_size(reltoastrelid) > 0 FROM pg_class WHERE oid = 'slotwire.deliveries_0'::regclass"
    )
    assert moved == elsewhere
    assert await connection.fetchval("SELECT pg_column_size(body) FROM slotwire.deliveries") >= size
    await connection.close()
