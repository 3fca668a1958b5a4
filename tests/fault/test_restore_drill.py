"""The drill: a dump, more deliveries, a restore, and the runbook's commands, followed as they are written."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from slotwire.ingest.errors import CursorMismatch
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.postgres import SUPERUSER
from slotwire.ingest.local.stack import Stack
from slotwire.ingest.relay.restore import FETCH_AGAIN, after_restore
from tests.support.children import environment
from tests.support.command import slotwire
from tests.support.relay_setup import (
    LoggedEvent,
    RelaySetup,
    committed_records,
    drain,
    ids,
    leading_relay,
    relay_setup,
    running_relay,
    sequence,
    until,
)

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "restore-postgres.md"
BEFORE, AFTER, SINCE = 8, 5, 4
"""Deliveries before the backup, after it, and since the restore."""


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log and topics of the test's own."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


async def _tool(stack: Stack, name: str, *arguments: str) -> None:
    """Run a program of Postgres against the server, as its superuser."""
    program = stack.postgres._programs() / name
    child = await asyncio.create_subprocess_exec(
        program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await child.communicate()
    assert child.returncode == 0, said.decode()


def _commands() -> list[list[str]]:
    """Return the runbook's own commands, in their order."""
    blocks = re.findall(r"```sh\n(.*?)```", RUNBOOK.read_text(encoding="utf-8"), re.DOTALL)
    return [line.split()[1:] for block in blocks for line in block.splitlines() if line.strip().startswith("slotwire ")]


async def test_the_runbook_followed_literally_loses_nothing(
    database: Database, kafka_bootstrap: str, topic_prefix: str, stack: Stack, tmp_path: Path
) -> None:
    """What was acknowledged before the backup and since the restore is published once; no position has two events."""
    url, dump = stack.postgres.url(SUPERUSER, database.name), str(tmp_path / "dump")
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as before, running_relay(before.settings):
        await before.accept(BEFORE)
        kept = ids(await committed_records(before.settings, BEFORE))
        await _tool(stack, "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={url}")
        await before.accept(AFTER)
        published = await committed_records(before.settings, BEFORE + AFTER)
    drop = f"DROP DATABASE {database.name} WITH (FORCE)"
    await _tool(stack, "psql", "--quiet", f"--command={drop}", stack.superuser_url)
    await _tool(stack, "pg_restore", "--create", f"--dbname={stack.superuser_url}", dump)

    async with relay_setup(database, kafka_bootstrap, topic_prefix) as setup, running_relay(setup.settings) as health:
        assert await setup.log_ids() == kept

        async def told() -> bool:
            return "migrate --after-restore" in (await health.problems()).get("relay", "")

        await until(told)
        await setup.accept(SINCE)
        env = _environment(setup, database)
        restore, *looks = _commands()
        assert restore == ["migrate", "--after-restore"]
        ran = await slotwire(*restore, env=env)
        assert ran.code == 0, ran.stderr
        assert f"Kafka has events up to position {BEFORE + AFTER}, the log up to {BEFORE}:" in ran.stdout
        assert "control fetches what came later from Calendly, for 1 organizations" in ran.stdout
        records = await committed_records(setup.settings, BEFORE + AFTER + SINCE)
        again = await slotwire(*restore, env=env)
        assert "the relay goes on" in again.stdout
        for look in looks:
            assert "Traceback" not in (await slotwire(*look, env=env)).stderr
        log = await setup.log_ids()
        assert await setup.owner.fetchval("SELECT bool_and(backfill_from IS NOT NULL) FROM slotwire.organizations")
    assert records[: BEFORE + AFTER] == published
    assert log == kept + ids(records)[BEFORE + AFTER :]
    positions = [sequence(record) for record in records]
    assert len(set(positions)) == len(positions)
    assert min(positions[BEFORE + AFTER :]) > BEFORE + AFTER


def _environment(setup: RelaySetup, database: Database) -> dict[str, str]:
    kafka = setup.settings.kafka
    return environment(
        setup.settings,
        SLOTWIRE_MIGRATE__DATABASE_URL=database.owner_url,
        SLOTWIRE_DATABASE_URL=database.url_of["control"],
        SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
        SLOTWIRE_KAFKA__TOPIC_PREFIX=kafka.topic_prefix,
        SLOTWIRE_KAFKA__PARTITIONS=str(kafka.partitions),
        SLOTWIRE_KAFKA__REPLICATION_FACTOR="1",
        SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS="1",
    )


async def test_a_cursor_that_fits_stays(setup: RelaySetup) -> None:
    """Run by mistake, or twice, it changes nothing that the relay sees."""
    await setup.append(*[LoggedEvent() for _ in range(3)])
    async with leading_relay(setup.settings) as (relay, _):
        await drain(relay)
    [shard] = (await after_restore(setup.settings, setup.owner, now=SystemClock().now())).shards
    assert (shard.published, shard.end, shard.resumes) == (3, 3, False)
    assert not await setup.owner.fetchval("SELECT bool_or(resumes) FROM slotwire.relay_mirror")


async def test_without_a_cursor_nothing_is_decided(setup: RelaySetup) -> None:
    """Kafka is new, or another one: what was published is not known, and the mirror stays as it is."""
    await setup.append(LoggedEvent())
    [shard] = (await after_restore(setup.settings, setup.owner, now=SystemClock().now())).shards
    assert (shard.published, shard.end, shard.resumes) == (None, 1, False)
    assert await setup.owner.fetchval("SELECT count(*) FROM slotwire.relay_mirror") == 0


async def test_a_log_that_went_another_way_is_refused(setup: RelaySetup) -> None:
    """Another event at the cursor's position: it is no earlier state of what was published, so nothing is assumed."""
    await setup.append(LoggedEvent())
    async with leading_relay(setup.settings) as (relay, _):
        await drain(relay)
    await setup.owner.execute("UPDATE slotwire.events SET event_id = gen_random_uuid()")
    with pytest.raises(CursorMismatch, match="another event stands"):
        await after_restore(setup.settings, setup.owner, now=SystemClock().now())


async def test_the_place_is_used_once(setup: RelaySetup) -> None:
    """A relay that goes on from it clears it: the next mismatch is a new question."""
    await setup.append(*[LoggedEvent() for _ in range(3)])
    async with leading_relay(setup.settings) as (relay, _):
        await drain(relay)
    await setup.owner.execute("DELETE FROM slotwire.events WHERE position > 1")
    [shard] = (await after_restore(setup.settings, setup.owner, now=SystemClock().now())).shards
    assert (shard.published, shard.end, shard.resumes) == (3, 1, True)
    async with leading_relay(setup.settings) as (relay, _):
        assert await drain(relay) == 0
        assert relay.cursor is not None
        assert relay.cursor.position == 1
    await setup.owner.execute("DELETE FROM slotwire.events")
    async with leading_relay(setup.settings) as (relay, _):
        with pytest.raises(CursorMismatch):
            await relay.step()


async def test_positions_begin_beyond_both(setup: RelaySetup) -> None:
    """Beyond what was published, and beyond what the log holds: a dump may have a counter that is behind."""
    await setup.append(*[LoggedEvent() for _ in range(2)])
    await setup.owner.execute("SELECT setval('slotwire.positions', 1)")
    await after_restore(setup.settings, setup.owner, now=SystemClock().now())
    assert await setup.owner.fetchval("SELECT last_value FROM slotwire.positions") == 2


async def test_what_is_already_to_be_fetched_from_earlier_stays(setup: RelaySetup, database: Database) -> None:
    """A backfill that was under way is not shortened, and one that was not begun is asked for."""
    await setup.accept(1)
    await setup.owner.execute(
        "INSERT INTO slotwire.organizations (org, uri, shard, created_at, backfill_from)"
        " VALUES ('EARLIER', 'https://api.calendly.com/organizations/EARLIER', 0, now(), 'epoch')"
    )
    found = await after_restore(setup.settings, setup.owner, now=SystemClock().now())
    assert set(found.organizations) >= {"EARLIER"}
    owner = await asyncpg.connect(database.owner_url)
    try:
        rows = await owner.fetch("SELECT org, backfill_from FROM slotwire.organizations")
    finally:
        await owner.close()
    assert found.since is not None
    times = {row["org"]: row["backfill_from"] for row in rows}
    assert times.pop("EARLIER").year == 1970
    assert set(times.values()) == {found.since - FETCH_AGAIN}
