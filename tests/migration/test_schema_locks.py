"""No lock of a migration is felt for a second: it steps back and tries again, and on a loaded table nobody waits."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import asyncpg
import pytest

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation import migrations
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.migrate_settings import MigrateSettings
from slotwire.ingest.foundation.migrations import Migration
from slotwire.ingest.foundation.postgres import Connection, Session, connect
from slotwire.ingest.foundation.schema_locks import MigrationLimits
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from tests.support.children import environment
from tests.support.door import let_in
from tests.support.history import BUSY, History, write_history
from tests.support.public_endpoint import settings_for
from tests.support.versions import Version, empty_database, planted, releases

MOST_SECONDS = 1.0
"""No lock is held, or queued for, longer than this."""
MOST_BESIDE_OTHERS_SECONDS = 10.0
"""The same on a machine that runs other tests, too."""
SECONDS = 60
PATIENT = MigrationLimits()
LOADED = History(events=50_000, organizations=50, days=4, changes=500)
MILLIONS = History(events=3_000_000, organizations=500, days=60, changes=100_000)
ALTER = Migration("9001_pre_x", "ALTER TABLE slotwire.organizations ADD COLUMN planted text;\n")
PLAIN = Migration("9001_pre_x", "CREATE INDEX planted_events ON slotwire.events (subject, org, time);\n")
SLOW = Migration(
    "9001_pre_x",
    """
    LOCK TABLE slotwire.identities IN SHARE MODE;
    DO $$ BEGIN
        WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'slotwire.identities'::regclass) LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
        WHILE EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'slotwire.identities'::regclass) LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
    END $$;
    """,
)
"""Keeps its lock until somebody who has waited for it does so no more."""
TABLES = """
SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'slotwire'::regnamespace
AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'migrations' ORDER BY 1
"""
WAITS = """
SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
               WHERE NOT l.granted AND d.datname = current_database())
"""


@asynccontextmanager
async def migrating(url: str) -> AsyncIterator[Session]:
    """Connect as `migrate` does."""
    connection = await connect(url, MigrateSettings().limits(DatabaseSettings()), application="test")
    try:
        yield connection
    finally:
        await connection.close()


async def migrate(
    connection: Session, limits: MigrationLimits = PATIENT, say: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Apply what is missing; return its names."""
    now = SystemClock().now()
    done = await migrations.migrate(connection, role_prefix="slotwire", shards=1, now=now, limits=limits, say=say)
    return list(done)


def know(monkeypatch: pytest.MonkeyPatch, *more: Migration) -> None:
    """Let this version have more migrations."""
    ours = migrations.known_migrations()
    monkeypatch.setattr(migrations, "known_migrations", lambda: (*ours, *more))


async def test_a_migration_that_gets_no_lock_steps_back(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a reader keeps it from its lock, nobody queues behind it for a second; it is applied after the reader."""
    know(monkeypatch, ALTER)
    reader, user = await asyncpg.connect(database.owner_url), await asyncpg.connect(database.owner_url)
    try:
        async with migrating(database.owner_url) as connection, asyncio.timeout(SECONDS):
            async with reader.transaction():
                await reader.fetch("SELECT FROM slotwire.organizations")
                applied = asyncio.ensure_future(migrate(connection))
                await user.execute("SET statement_timeout = '20s'")
                for _ in range(3):
                    while not await user.fetchval(WAITS):  # noqa: ASYNC110 - Postgres gives no signal
                        await asyncio.sleep(0.01)
                    await user.fetch("SELECT FROM slotwire.organizations")  # queues behind the migration
                assert not applied.done()
            assert await applied == [ALTER.name]
    finally:
        await reader.close()
        await user.close()


async def test_a_migration_that_never_gets_its_lock_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past its patience it ends with what to do, and another run applies it."""
    know(monkeypatch, Migration("9000_pre_x", "CREATE TABLE slotwire.x ();"), ALTER)
    reader = await asyncpg.connect(database.owner_url)
    try:
        async with migrating(database.owner_url) as connection:
            async with reader.transaction():
                await reader.fetch("SELECT FROM slotwire.organizations")
                with pytest.raises(DatabaseUnavailable, match="held what the migration has to lock") as refused:
                    await migrate(connection, MigrationLimits(patience_seconds=0))
                assert "pg_stat_activity" in refused.value.remedy
            assert [each.name for each in (await migrations.compare(connection)).missing] == [ALTER.name]
            assert await migrate(connection) == [ALTER.name]
    finally:
        await reader.close()


@dataclass
class Felt:
    """What others felt of migrations.

    Attributes:
        longest: seconds of the longest call since the last migration, by what was called.
        calls: how many there were.
        kept_waiting: what waited for a lock for longer than it may.
        told: a line for each migration.
        since: when the last one was applied.
    """

    longest: dict[str, float] = field(default_factory=dict)
    calls: int = 0
    kept_waiting: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)

    async def call(self, what: str, work: Callable[[], Awaitable[object]]) -> None:
        """Measure one."""
        began = time.perf_counter()
        try:
            await work()
        except (DatabaseUnavailable, asyncpg.LockNotAvailableError):
            self.kept_waiting.add(what)
        self.longest[what] = max(self.longest.get(what, 0.0), time.perf_counter() - began)
        self.calls += 1

    def hear(self, line: str) -> None:
        """Note, when a migration was applied, what others have felt of it."""
        if line.startswith("applied ") and self.longest:
            accept = self.longest.get("accept", 0.0)
            seconds, worst = max((seconds, what) for what, seconds in self.longest.items())
            began, self.since = self.since, time.perf_counter()
            self.told.append(
                f"{line} in {self.since - began:.2f} s: the longest accept took {accept:.3f} s,"
                f" of all calls {seconds:.3f} s ({worst})"
            )
            self.longest.clear()


@asynccontextmanager
async def felt(database: Database, most_seconds: float) -> AsyncIterator[Felt]:
    """Accept deliveries, and take a writer's lock on each table in turn, while the block runs; measure both."""
    found, done = Felt(), asyncio.Event()

    async def accepting(connection: Connection) -> None:
        while not done.is_set():
            await found.call("accept", lambda: let_in(connection, b"{}", org=BUSY))

    async def locking(connection: Connection, tables: list[str]) -> None:
        for table in itertools.cycle(tables):
            if done.is_set():
                return
            async with connection.transaction():
                await found.call(table, partial(connection.execute, f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE"))

    limit = {"lock_timeout": f"{most_seconds:g}s"}
    async with (
        asyncpg.create_pool(database.owner_url, min_size=2, max_size=2, server_settings=limit) as pool,
        pool.acquire() as first,
        pool.acquire() as second,
        asyncio.TaskGroup() as group,
    ):
        tables = [row[0] for row in await first.fetch(TABLES)]
        group.create_task(accepting(first))
        group.create_task(locking(second, tables))
        try:
            yield found
        finally:
            done.set()


async def migrate_loaded(stack: Stack, old: Version, history: History, *, most_seconds: float = MOST_SECONDS) -> Felt:
    """Fill a database of the version before, migrate it to this one while others work, and return what they felt."""
    async with empty_database(stack) as database:
        env = environment(settings_for(database), SLOTWIRE_MIGRATE__DATABASE_URL=database.owner_url)
        assert (await old.run("migrate", env=env)).code == 0
        await write_history(database.owner_url, history)
        missing = [each.name for each in migrations.known_migrations()][len(releases()[-1].migrations) :]
        assert missing
        async with migrating(database.owner_url) as connection, felt(database, most_seconds) as found:
            assert await migrate(connection, say=found.hear) == missing
        return found


async def test_no_lock_is_felt(stack: Stack, old: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 50,000 events, every migration since the last release, and one of each kind: nobody waits for long."""
    know(monkeypatch, *planted())
    found = await migrate_loaded(stack, old, LOADED, most_seconds=MOST_BESIDE_OTHERS_SECONDS)
    assert found.kept_waiting == set()
    assert found.calls > 100


async def test_a_lock_of_a_second_is_noticed(stack: Stack, old: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement bites: a migration that keeps writers from a table for longer is found, with the table."""
    know(monkeypatch, SLOW)
    found = await migrate_loaded(stack, old, History(events=1_000, organizations=5, days=1, changes=10))
    assert "slotwire.identities" in found.kept_waiting  # where other work is done, perhaps not alone


@pytest.mark.soak
async def test_no_lock_is_felt_for_a_second_over_millions(
    stack: Stack, old: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The long form: three million events in 60 partitions; prints what each migration cost others."""
    know(monkeypatch, *planted())
    found = await migrate_loaded(stack, old, MILLIONS)
    tell(MILLIONS, found)
    assert found.kept_waiting == set()


@pytest.mark.soak
async def test_a_plain_index_keeps_writers_out(stack: Stack, old: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why indexes are built outside a transaction: a plain one keeps writers out all the while; prints how long."""
    know(monkeypatch, PLAIN)
    found = await migrate_loaded(stack, old, MILLIONS)
    tell(MILLIONS, found)
    assert "slotwire.events" in found.kept_waiting


def tell(history: History, found: Felt) -> None:
    """Print what was measured."""
    lines = "\n".join(found.told)
    sys.stderr.write(f"{history.events:,} events, {found.calls:,} calls beside the migrations:\n{lines}\n")
