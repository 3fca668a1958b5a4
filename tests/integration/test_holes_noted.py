"""Holes as they are noted: one open hole per organization, cause and subscription, which only grows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from slotwire.ingest.control.holes import HoleCause, note_hole
from slotwire.ingest.control.observation import _SHOWN, Observer
from slotwire.ingest.errors import RowRefused
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import MetricsSettings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate import doctor_organizations
from slotwire.schemas.ids import last_segment
from tests.support.public_endpoint import Hook, make_hook, settings_for

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Setup:
    """A subscribed organization, and the pool of `control`."""

    def __init__(self, pool: Pool, owner: asyncpg.Connection[asyncpg.Record], hook: Hook) -> None:
        self.pool, self.owner, self.hook = pool, owner, hook
        self.org = last_segment(hook.organization)

    async def note(self, **changes: Any) -> UUID:
        """Note that the subscription is gone since an hour, or what is said."""
        said = {"cause": HoleCause.SUBSCRIPTION_GONE, "since": NOW - HOUR, "now": NOW}
        return await note_hole(self.pool, self.org, **{**said, "subscription": self.hook.subscription_id, **changes})


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[Setup]:
    """One organization with a subscription."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    owner = await asyncpg.connect(database.owner_url)
    dsn = settings.database_url.get_secret_value()
    async with create_pool(dsn, settings.database, application="test") as pool:
        yield Setup(pool, owner, hook)
    await owner.close()


async def test_a_hole_that_is_noted_again_begins_at_the_earliest(setup: Setup) -> None:
    """It stays one row: the earliest beginning, the first and the last time at which it was noticed."""
    hole = await setup.note()
    assert await setup.note(since=NOW - 3 * HOUR, now=NOW + HOUR) == hole
    assert await setup.note(since=NOW - 2 * HOUR, now=NOW - HOUR) == hole
    [row] = await setup.owner.fetch("SELECT since, noticed_at, last_noticed_at, state FROM slotwire.holes")
    assert tuple(row) == (NOW - 3 * HOUR, NOW, NOW + HOUR, "open")


async def test_each_cause_and_subscription_has_a_hole_of_its_own(setup: Setup) -> None:
    """Another cause, and the same one without a subscription, are other holes; a closed one is not opened again."""
    holes = [
        await setup.note(),
        await setup.note(cause=HoleCause.RETRYING),
        await setup.note(subscription=None),
    ]
    assert len(set(holes)) == 3
    await setup.owner.execute(
        "UPDATE slotwire.holes SET state = 'closed', closed_at = $2, report = '{}' WHERE id = $1", holes[0], NOW
    )
    again = await setup.note()
    assert again not in holes
    assert await setup.note() == again


async def test_a_hole_is_noted_with_what_it_goes_with_or_not_at_all(setup: Setup) -> None:
    """Noted in a transaction that does not commit, it is not there."""
    async with setup.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await note_hole(
            connection, setup.org, cause=HoleCause.RETRYING, since=NOW, now=NOW, subscription=setup.hook.subscription_id
        )
        await transaction.rollback()
    assert await setup.owner.fetchval("SELECT count(*) FROM slotwire.holes") == 0


async def test_a_hole_of_nobody_is_refused(setup: Setup) -> None:
    """An organization or subscription that is not known has no holes."""
    with pytest.raises(RowRefused):
        await setup.note(subscription=uuid4())
    with pytest.raises(RowRefused):
        await note_hole(setup.pool, "NOBODY", cause=HoleCause.UNWATCHED, since=NOW, now=NOW, subscription=None)


async def test_the_doctor_names_what_is_not_filled_for_long(setup: Setup) -> None:
    """A fresh hole is filled by itself; one of more than an hour is named, with why its fetch failed."""
    clock = ManualClock(NOW)
    none = await doctor_organizations.holes(setup.owner, clock)
    await setup.note()
    fresh = await doctor_organizations.holes(setup.owner, clock)
    await setup.owner.execute("UPDATE slotwire.holes SET problem = 'CalendlyError'")
    clock.advance(doctor_organizations.HOLES_WARNING + HOUR)
    late = await doctor_organizations.holes(setup.owner, clock)
    assert [none.state, fresh.state, late.state] == ["ok", "ok", "warning"]
    assert fresh.message.startswith("1 not filled yet")
    assert late.message.endswith(f"for more than an hour: {setup.org} (subscription_gone: CalendlyError)")


async def test_open_holes_are_shown_by_cause(setup: Setup) -> None:
    """How many there are and since when the oldest, by cause; of an organization that was removed none."""
    await setup.note()
    await setup.note(cause=HoleCause.REFUSED, now=NOW + HOUR)
    observer = Observer(setup.pool, ManualClock(NOW + 2 * HOUR), MetricsSettings())
    assert await observer.run_once()
    gone, refused = ({"cause": each.value} for each in (HoleCause.SUBSCRIPTION_GONE, HoleCause.REFUSED))
    assert REGISTRY.get_sample_value("slotwire_holes_open", gone) == 1
    assert REGISTRY.get_sample_value("slotwire_holes_open", {"cause": "unwatched"}) == 0
    oldest = REGISTRY.get_sample_value("slotwire_hole_oldest_timestamp_seconds", refused)
    assert oldest == (NOW + HOUR).timestamp()
    await setup.owner.execute("UPDATE slotwire.organizations SET ended_at = $1", NOW)
    assert await observer.run_once()
    assert REGISTRY.get_sample_value("slotwire_holes_open", gone) == 0
    assert REGISTRY.get_sample_value("slotwire_hole_oldest_timestamp_seconds", refused) is None
    for readings in _SHOWN:
        readings.clear()
