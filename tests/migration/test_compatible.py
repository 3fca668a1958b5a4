"""What the version before relies on is still there after the `pre_` migrations: tables, functions, types, rights."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from slotwire.ingest.foundation import migrations
from slotwire.ingest.foundation.migrations import Migration, Phase
from slotwire.ingest.foundation.postgres import Session, connect
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from tests.support.children import environment
from tests.support.public_endpoint import settings_for
from tests.support.versions import Version, empty_database, planted, releases

NOW = datetime(2026, 11, 23, tzinfo=UTC)
_OURS = "'slotwire'::regnamespace"
FACTS = f"""
WITH columns AS (
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type,
           a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = {_OURS} AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
      AND a.attnum > 0 AND NOT a.attisdropped
)
SELECT format('the column %s.%s, %s', relname, attname, type) FROM columns
UNION ALL SELECT format('%s can be written without any other column than %s', relname,
                        string_agg(attname, ', ' ORDER BY attname) FILTER (WHERE required))
    FROM columns GROUP BY relname
UNION ALL SELECT format('the function %s(%s) returning %s', proname, pg_get_function_identity_arguments(oid),
                        pg_get_function_result(oid)) FROM pg_proc WHERE pronamespace = {_OURS}
UNION ALL SELECT format('the type %s of %s', t.typname, (
        SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
    FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid WHERE t.typnamespace = {_OURS} AND c.relkind = 'c'
UNION ALL SELECT 'the sequence ' || relname FROM pg_class WHERE relnamespace = {_OURS} AND relkind = 'S'
UNION ALL SELECT 'rows are unique: ' || regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING', t.relname)
    FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
    WHERE t.relnamespace = {_OURS} AND NOT t.relispartition AND i.indisunique
UNION ALL SELECT format('%s may %s %s', grantee::regrole, privilege_type, relname)
    FROM pg_class, aclexplode(relacl) WHERE relnamespace = {_OURS} AND NOT relispartition AND grantee <> 0
UNION ALL SELECT format('%s may %s %s.%s', grantee::regrole, privilege_type, relname, attname)
    FROM pg_class JOIN pg_attribute a ON a.attrelid = pg_class.oid, aclexplode(attacl)
    WHERE relnamespace = {_OURS} AND NOT relispartition AND grantee <> 0 AND NOT attisdropped
UNION ALL SELECT format('%s may %s %s', grantee::regrole, privilege_type, proname)
    FROM pg_proc, aclexplode(proacl) WHERE pronamespace = {_OURS} AND grantee <> 0
"""
"""What a process can rely on, in words."""


async def facts(connection: Session) -> set[str]:
    """Return what a process can rely on."""
    return {row[0] for row in await connection.fetch(FACTS)}


async def migrate(connection: Session, known: tuple[Migration, ...], patch: pytest.MonkeyPatch) -> None:
    """Take the first step of a rollout to these migrations."""
    with patch.context() as patched:
        patched.setattr(migrations, "known_migrations", lambda: known)
        await migrations.migrate(connection, role_prefix="slotwire", shards=1, now=NOW, phase=Phase.PRE)


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    """A database of the test's own, in which nothing is."""
    async with empty_database(stack) as made:
        yield made


@pytest.fixture
async def released(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Session]:
    """The owner of a database as the last release makes it."""
    texts = releases()[-1].migrations
    known = tuple(Migration(name.removesuffix(".sql"), text.decode()) for name, text in texts.items())
    connection = await connect(database.owner_url, DatabaseSettings(), application="test")
    try:
        await migrate(connection, known, monkeypatch)
        yield connection
    finally:
        await connection.close()


async def test_the_version_before_finds_all_it_relies_on(released: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every `pre_` migration since the last release, each column, function, type and right of it is there."""
    before = await facts(released)
    assert len(before) > 400
    await migrate(released, (*migrations.known_migrations(), *planted()), monkeypatch)
    assert await facts(released) >= before


async def test_on_the_way_back_nothing_is_migrated(
    database: Database, released: Session, old: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first step the last release's own `migrate` accepts the schema, and changes nothing of it."""
    await migrate(released, (*migrations.known_migrations(), *planted()), monkeypatch)
    before = await facts(released)
    env = environment(settings_for(database), SLOTWIRE_MIGRATE__DATABASE_URL=database.owner_url)
    ran = await old.run("migrate", env=env)
    assert (ran.code, ran.stdout) == (0, "the schema is current\n"), ran.stderr
    assert await facts(released) == before


ENDINGS = (
    ("ALTER TABLE slotwire.events DROP COLUMN tenant", "the column events.tenant, text"),
    ("ALTER TABLE slotwire.events RENAME COLUMN tenant TO t", "the column events.tenant, text"),
    ("ALTER TABLE slotwire.inbox ADD COLUMN x text NOT NULL", "inbox can be written without any other column than"),
    ("ALTER FUNCTION slotwire.discard RENAME TO refuse", "the function discard("),
    ("ALTER TYPE slotwire.new_result ADD ATTRIBUTE x text", "the type new_result of position bigint"),
    ("REVOKE INSERT ON slotwire.relay_mirror FROM slotwire_relay", "slotwire_relay may INSERT relay_mirror"),
    ("REVOKE EXECUTE ON FUNCTION slotwire.accept FROM slotwire_serve", "slotwire_serve may EXECUTE accept"),
    ("ALTER TABLE slotwire.identities DROP CONSTRAINT identities_pkey", "rows are unique: identities btree"),
)
"""Statements on which an old process would fail, and what they take away."""


async def test_what_would_end_it_is_noticed(released: Session) -> None:
    """The comparison bites: each such statement takes something away."""
    before = await facts(released)
    for statement, lost in ENDINGS:
        undone = released.transaction()
        await undone.start()
        await released.execute(statement)
        assert [fact for fact in before - await facts(released) if fact.startswith(lost)], statement
        await undone.rollback()
