"""Ranges of the log: a day begins a new one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.local.databases import Database
from tests.support.public_endpoint import invitee_body
from tests.support.ranges_setup import RANGE, RangesSetup, ranges_setup
from tests.support.writing import write_all


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[RangesSetup]:
    """A log of today."""
    async with ranges_setup(database) as made:
        yield made


async def test_events_of_a_day_have_a_range_of_their_own(setup: RangesSetup) -> None:
    """The first event of a new day begins it; what is written late on the day before stays in its own."""
    now = datetime.now(UTC)
    for day in (0, 0, 2, 1, 3):
        await setup.accept(invitee_body(), now + timedelta(days=day))
        await write_all(setup.settings, clock=ManualClock(now + timedelta(days=day)))
    rows = await setup.owner.fetch("SELECT position FROM slotwire.events ORDER BY position")
    assert [row["position"] for row in rows] == [1, 2, 2 * RANGE + 1, 2 * RANGE + 2, 3 * RANGE + 1]
