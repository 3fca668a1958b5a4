"""Migrations outside a transaction: beside readers and writers, cut off anywhere and finished by the next run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg
import pytest

from slotwire.ingest.errors import DatabaseUnavailable, RowRefused, SchemaMismatch
from slotwire.ingest.foundation import migrations
from slotwire.ingest.foundation.index_builds import MARK, IndexBuild, IndexDrop, read_statement
from slotwire.ingest.foundation.migrate_settings import MigrateSettings
from slotwire.ingest.foundation.migrations import Migration
from slotwire.ingest.foundation.postgres import Connection, Session, connect
from slotwire.ingest.foundation.schema_locks import MigrationLimits
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from tests.support.children import environment
from tests.support.fork_server import piped
from tests.support.public_endpoint import settings_for
from tests.support.versions import Version, planted

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SECONDS = 60
LONG, SHORT = MigrationLimits(), MigrationLimits(patience_seconds=0.3, build_seconds=1.0)
TABLES = """
CREATE TABLE slotwire.parts (n integer, t text) PARTITION BY RANGE (n);
CREATE TABLE slotwire.parts_0 PARTITION OF slotwire.parts FOR VALUES FROM (0) TO (10);
CREATE TABLE slotwire.parts_1 PARTITION OF slotwire.parts FOR VALUES FROM (10) TO (20);
CREATE TABLE slotwire.whole (n integer, t text);
INSERT INTO slotwire.parts SELECT n, n::text FROM generate_series(0, 19) AS n;
INSERT INTO slotwire.whole SELECT n, n::text FROM generate_series(0, 19) AS n;
"""
PARTS = Migration("9001_pre_parts", f"{MARK}CREATE INDEX CONCURRENTLY IF NOT EXISTS parts_t ON slotwire.parts (t);\n")
WHOLE = Migration(
    "9002_pre_whole", f"{MARK}CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS whole_t ON slotwire.whole (t);\n"
)
NO_PARTS = Migration("9003_post_parts", f"{MARK}DROP INDEX CONCURRENTLY IF EXISTS slotwire.parts_t;\n")
NO_WHOLE = Migration("9004_post_whole", f"{MARK}DROP INDEX CONCURRENTLY IF EXISTS slotwire.whole_t;\n")
INDEXES = """
SELECT i.indexrelid::regclass::text AS name, i.indisvalid FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
WHERE t.relname ~ '^(parts|whole)'
"""
BUILT = {f"slotwire.{name}": True for name in ("parts_t", "parts_t_0", "parts_t_1", "whole_t")}
PHASE = "SELECT phase FROM pg_stat_progress_create_index WHERE datname = current_database()"
MIGRATING = "SELECT FROM pg_stat_activity WHERE application_name = 'slotwire-migrate' AND datname = current_database()"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """This version has the migrations above."""
    ours = migrations.known_migrations()
    monkeypatch.setattr(migrations, "known_migrations", lambda: (*ours, PARTS, WHOLE, NO_PARTS, NO_WHOLE))


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[Session]:
    """Connect as `migrate` does."""
    limits = MigrateSettings().limits(DatabaseSettings())
    connection = await connect(database.owner_url, limits, application="test")
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Session]:
    """The owner of a database that has the tables above."""
    async with connected(database) as connection:
        await connection.execute(TABLES)
        yield connection


async def migrate(
    connection: Connection, phase: migrations.Phase | None = migrations.Phase.PRE, limits: MigrationLimits = LONG
) -> list[str]:
    """Migrate, and return the names of what was applied."""
    done = await migrations.migrate(connection, role_prefix="slotwire", shards=1, now=NOW, phase=phase, limits=limits)
    return list(done)


async def indexes(connection: Connection) -> dict[str, bool]:
    """Return the indexes of the tables above, and whether each is used."""
    return {row["name"]: row["indisvalid"] for row in await connection.fetch(INDEXES)}


async def until(connection: Connection, question: str, answer: object) -> None:
    """Wait until Postgres answers so."""
    async with asyncio.timeout(SECONDS):
        while await connection.fetchval(question) != answer:  # noqa: ASYNC110 - it gives no signal
            await asyncio.sleep(0.01)


@asynccontextmanager
async def holding(database: Database, statement: str) -> AsyncIterator[None]:
    """Keep a transaction open that has run a statement."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute(statement)
            yield
    finally:
        await connection.close()


class Dying:
    """A connection whose process dies at its n-th statement: while it runs, or after it."""

    def __init__(self, connection: Session, place: int, when: str) -> None:
        self._connection, self._left, self._when = connection, place, when
        self.died = False

    async def execute(self, *arguments: Any, **options: Any) -> str:
        """Run a statement, or die."""
        self._left -= 1
        if self._left:
            return str(await self._connection.execute(*arguments, **options))
        self.died = True
        running = asyncio.ensure_future(self._connection.execute(*arguments, **options))
        await (asyncio.sleep(0) if self._when == "while" else asyncio.wait([running]))
        self._connection.terminate()
        await asyncio.wait([running])
        running.exception()
        raise asyncpg.InterfaceError("the process was killed")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def die_everywhere(database: Database, owner: Session, phase: migrations.Phase, when: str) -> int:
    """Kill a phase at each of its statements in turn, and finish it each time; return how many places there are."""
    built, names = (BUILT, ["9001_pre_parts", "9002_pre_whole"])
    if phase is migrations.Phase.POST:
        built, names = {}, ["9003_post_parts", "9004_post_whole"]
    for place in range(1, 100):
        async with connected(database) as mortal:
            dying = Dying(mortal, place, when)
            try:
                assert await migrate(cast("Connection", dying), phase) == names
            except DatabaseUnavailable:
                assert dying.died
        await migrate(owner, phase)
        assert await indexes(owner) == built, place
        if not dying.died:
            return place - 1
        await owner.execute("DELETE FROM slotwire.migrations WHERE name = ANY ($1)", names)
        if phase is migrations.Phase.PRE:
            await owner.execute("DROP INDEX slotwire.parts_t, slotwire.whole_t")
        else:
            await owner.execute(
                "CREATE INDEX parts_t ON slotwire.parts (t); CREATE INDEX whole_t ON slotwire.whole (t)"
            )
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("when", ["while", "after"])
async def test_cut_off_anywhere_it_is_finished_by_the_next_run(
    when: str, database: Database, owner: Session, known: None
) -> None:
    """At whichever statement a build or a drop dies, the next run ends with what the files say, and nothing half."""
    assert await die_everywhere(database, owner, migrations.Phase.PRE, when) > 20
    assert await die_everywhere(database, owner, migrations.Phase.POST, when) > 5


@pytest.mark.parametrize(
    ("phase", "holder"),
    [
        ("waiting for writers before build", "LOCK TABLE slotwire.events_0 IN ROW EXCLUSIVE MODE"),
        ("waiting for old snapshots", "SELECT 1"),
    ],
)
async def test_killed_while_it_waits_it_holds_up_nobody(
    phase: str, holder: str, database: Database, new: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After kill -9 of the command its build ends, though what it waits for goes on, and the next run builds again."""
    with monkeypatch.context() as patched:
        ours = migrations.known_migrations()
        patched.setattr(migrations, "known_migrations", lambda: (*ours, planted()[0]))
        async with connected(database) as connection:
            assert await migrate(connection) == ["9001_pre_planted"]
    env = environment(settings_for(database), SLOTWIRE_MIGRATE__DATABASE_URL=database.owner_url)
    observer = await asyncpg.connect(database.owner_url)
    try:
        async with holding(database, holder):
            async with piped("migrate", "--pre", env=env, version=new.path) as first:
                await until(observer, PHASE, phase)
                first.kill()
                out = await first.stdout.read()
            await until(observer, f"SELECT EXISTS ({MIGRATING})", answer=False)
        assert "index planted_events: planted_events_0, 1 of 8" in out.decode()
        half = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY indexrelid"
        assert [row[0] for row in await observer.fetch(half)] == [
            "slotwire.planted_events",
            "slotwire.planted_events_0",
        ]
        second = await new.run("migrate", "--pre", env=env)
        assert "index planted_events_0 was not finished: it is dropped, and built again" in second.stdout
        assert (second.code, await observer.fetch(half)) == (0, [])
    finally:
        await observer.close()


async def test_a_build_that_waits_lets_everybody_work_but_another_migrate(
    database: Database, owner: Session, known: None
) -> None:
    """Readers, writers and new partitions go on; a second `migrate` waits, or is told so, and both come to an end."""
    async with connected(database) as second, connected(database) as third, connected(database) as user:
        async with holding(database, "SELECT 1"), asyncio.timeout(SECONDS):
            first = asyncio.ensure_future(migrate(owner))
            await until(user, PHASE, "waiting for old snapshots")
            waiting = asyncio.ensure_future(migrate(third))
            await user.execute("INSERT INTO slotwire.parts VALUES (5, 'five')")
            await user.execute("UPDATE slotwire.parts SET t = 'six' WHERE n = 6")
            assert await user.fetchval("SELECT count(*) FROM slotwire.parts WHERE t IN ('five', 'six')") == 2
            await user.execute("CREATE TABLE slotwire.parts_2 (LIKE slotwire.parts)")
            await user.execute(
                "ALTER TABLE slotwire.parts ATTACH PARTITION slotwire.parts_2 FOR VALUES FROM (20) TO (30)"
            )
            await user.execute("DROP TABLE slotwire.parts_1")  # as retention does
            with pytest.raises(DatabaseUnavailable, match="another `slotwire migrate` is at work") as refused:
                await migrate(second, limits=SHORT)
            assert "goes on where the other one stopped" in refused.value.remedy
            assert not first.done()
            assert not waiting.done()
        assert await first == [PARTS.name, WHOLE.name]
        assert await waiting == []
        found = await indexes(owner)
        assert sorted(found) == [f"slotwire.{each}" for each in ("parts_2_t_idx", "parts_t", "parts_t_0", "whole_t")]
        assert all(found.values())


async def test_a_build_has_its_time(database: Database, owner: Session, known: None) -> None:
    """One that waits for longer than it may is ended with what to do, and the limits of the session are as before."""
    limits = await owner.fetchval(
        "SELECT current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')"
    )
    async with holding(database, "SELECT 1"):
        with pytest.raises(DatabaseUnavailable, match="not finished within 1 s") as refused:
            await migrate(owner, limits=SHORT)
        assert "SLOTWIRE_MIGRATE__BUILD_TIMEOUT_SECONDS" in refused.value.remedy
        assert await indexes(owner) == {"slotwire.parts_t": False, "slotwire.parts_t_0": False}
    assert limits == "500ms 10min"
    assert limits == await owner.fetchval(
        "SELECT current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')"
    )
    assert await migrate(owner) == [PARTS.name, WHOLE.name]
    assert await indexes(owner) == BUILT


async def test_rows_that_are_not_unique_are_refused(owner: Session, known: None) -> None:
    """A unique index over equal rows fails; when they are gone the next run builds it."""
    await owner.execute("INSERT INTO slotwire.whole VALUES (1, '1')")
    with pytest.raises(RowRefused):
        await migrate(owner)
    await owner.execute("DELETE FROM slotwire.whole WHERE ctid = (SELECT max(ctid) FROM slotwire.whole WHERE t = '1')")
    assert await migrate(owner) == [WHOLE.name]
    assert await indexes(owner) == BUILT


def test_what_may_run_outside_a_transaction() -> None:
    """The two statements that can be cut off and run again are read, comments and all."""
    text = (
        f"{MARK}-- why\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a_b ON slotwire.a\n    (b) WHERE c; -- and how\n"
    )
    built = read_statement("9001_pre_x", text)
    assert built == IndexBuild("a_b", "a", unique=True, rest="(b) WHERE c")
    assert read_statement("9002_post_x", DROPPED) == IndexDrop("a_b")


DROPPED = f"{MARK}DROP INDEX CONCURRENTLY IF EXISTS slotwire.a_b;\n"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX IF NOT EXISTS a_b ON slotwire.a (b);",
        "CREATE INDEX CONCURRENTLY a_b ON slotwire.a (b);",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS a_b ON slotwire.a (b); SELECT 1;",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS a_b ON a (b);",
        "DROP INDEX CONCURRENTLY slotwire.a_b;",
        "REINDEX INDEX CONCURRENTLY slotwire.a_b;",
        "ALTER TABLE slotwire.a ADD COLUMN b text;",
        "",
    ],
)
def test_what_may_not(statement: str) -> None:
    """Whatever cannot be run again after it was cut off is refused, with what to write."""
    with pytest.raises(SchemaMismatch, match="9001_pre_x is not a statement that can run outside") as refused:
        read_statement("9001_pre_x", f"{MARK}{statement}\n")
    assert "CREATE INDEX CONCURRENTLY IF NOT EXISTS" in refused.value.remedy
