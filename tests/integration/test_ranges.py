"""Ranges of the log: made ahead, dropped when they are old and nothing of them is needed, and never before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from slotwire.ingest.control import ranges
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.receive.accept import AcceptRow, accept
from tests.support.public_endpoint import invitee_body, make_hook, new_invitee, settings_for
from tests.support.writing import write_all

DAYS = 30
RANGE = 1_000_000_000
"""Positions of a day."""


@dataclass(frozen=True)
class Setup:
    """A log, its owner's connection, and a pool as `slotwire control` has it."""

    settings: Settings
    org: str
    pool: Pool
    owner: asyncpg.Connection[asyncpg.Record]

    async def accept(self, body: bytes, now: datetime) -> int:
        """Let a body in, and return its position."""
        row = AcceptRow(uuid4(), self.org, None, "webhook", now, now, False, "", None, None, body)
        return await accept(self.owner, 0, [row], now=now, seconds=20)

    async def publish(self) -> None:
        """Move the cursor's mirror to the end, as the relay does."""
        await self.owner.execute(
            "INSERT INTO slotwire.relay_mirror (shard, log_id, position, event_id, published_at)"
            " SELECT 0, log_id, (SELECT max(position) FROM slotwire.events), NULL, now() FROM slotwire.log"
            " ON CONFLICT (shard) DO UPDATE SET position = excluded.position"
        )

    async def partitions(self, table: str) -> list[int]:
        """Return the ranges a table has."""
        rows = await self.owner.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::text::regclass",
            f"slotwire.{table}",
        )
        return sorted(int(row["name"].rpartition("_")[2]) for row in rows)


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[Setup]:
    """A log of today."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    owner = await asyncpg.connect(database.owner_url)
    dsn = settings.database_url.get_secret_value()
    async with create_pool(dsn, settings.database, application="test") as pool:
        yield Setup(settings, hook.organization.rpartition("/")[2], pool, owner)
    await owner.close()


async def test_a_range_goes_once_it_is_old_settled_and_published(setup: Setup) -> None:
    """Neither a day too early, nor unsettled, nor unpublished; then deliveries, results and events go together."""
    now = datetime.now(UTC)
    clock = ManualClock(now + timedelta(days=DAYS))
    await setup.accept(invitee_body(), now)
    await ranges.run_once(setup.pool, clock)
    assert await ranges.drop_old(setup.pool, clock, DAYS) == []
    assert await write_all(setup.settings, clock=ManualClock(now)) == 1
    assert await ranges.drop_old(setup.pool, clock, DAYS) == []
    await setup.publish()
    assert await ranges.drop_old(setup.pool, ManualClock(now + timedelta(days=DAYS - 1)), DAYS) == []
    assert await ranges.drop_old(setup.pool, clock, DAYS) == [0]
    for table in ("deliveries", "results", "events"):
        assert 0 not in await setup.partitions(table)
    assert await setup.owner.fetchval("SELECT count(*) FROM slotwire.bookings") == 1


async def test_a_late_copy_of_what_was_dropped_is_a_copy(setup: Setup) -> None:
    """Identities outlive the log: the same fact after its event was dropped makes no second event."""
    now, body = datetime.now(UTC), invitee_body(invitee=new_invitee())
    await setup.accept(body, now)
    await write_all(setup.settings, clock=ManualClock(now))
    await setup.publish()
    later = ManualClock(now + timedelta(days=DAYS))
    await ranges.run_once(setup.pool, later)
    assert await ranges.drop_old(setup.pool, later, DAYS) == [0]
    position = await setup.accept(body, later.now())
    assert position == DAYS * RANGE + 1
    assert await write_all(setup.settings, clock=later) == 0
    [result] = await setup.owner.fetch("SELECT outcome, position FROM slotwire.results")
    assert (result["outcome"], result["position"]) == ("duplicate", position)


async def test_events_of_a_day_have_a_range_of_their_own(setup: Setup) -> None:
    """The first event of a new day begins it; what is written late on the day before stays in its own."""
    now = datetime.now(UTC)
    for day in (0, 0, 2, 1, 3):
        await setup.accept(invitee_body(), now + timedelta(days=day))
        await write_all(setup.settings, clock=ManualClock(now + timedelta(days=day)))
    rows = await setup.owner.fetch("SELECT position FROM slotwire.events ORDER BY position")
    assert [row["position"] for row in rows] == [1, 2, 2 * RANGE + 1, 2 * RANGE + 2, 3 * RANGE + 1]


async def test_a_retention_that_is_too_short_is_refused(setup: Setup) -> None:
    """Less than a week is refused by the settings, and by the function whatever the settings say."""
    with pytest.raises(ValueError, match="greater than or equal to 7"):
        Settings(retention_days=6)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="7 days at least"):
        await setup.owner.fetchval("SELECT slotwire.drop_range(now(), 6)")


async def test_a_reader_of_the_table_is_not_queued_behind(setup: Setup) -> None:
    """While a long transaction reads the log, dropping gives up at once and holds up nobody; it succeeds afterwards."""
    now = datetime.now(UTC)
    await setup.accept(invitee_body(), now)
    await write_all(setup.settings, clock=ManualClock(now))
    await setup.publish()
    clock = ManualClock(now + timedelta(days=DAYS))
    async with setup.owner.transaction():
        await setup.owner.fetch("SELECT count(*) FROM slotwire.events")
        with pytest.raises(Exception, match="55P03"):
            await ranges.drop_old(setup.pool, clock, DAYS)
    assert await ranges.drop_old(setup.pool, clock, DAYS) == [0]
