"""The limits of a fetch: at each all is found, and past it the report says what was not looked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slotwire.ingest.control import hole_fetch, hole_resources, known_bookings
from slotwire.ingest.foundation.reconcile_settings import ReconcileSettings
from slotwire.ingest.local.databases import Database
from tests.support.holes_setup import HolesSetup, connected, contact, listing

EVENTS = ("invitee.created", "invitee.canceled", "contact.created", "contact.deleted")
LONG_AGO = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[HolesSetup]:
    """An organization that is subscribed to bookings and contacts; three contacts are known, and none is listed."""
    async with connected(database, *EVENTS) as made:
        for name in ("One", "Two", "Three"):
            await made.deliver("contact.created", contact(name, minutes=0))
        made.between.alter = listing()
        yield made


def unproven(report: Any, kind: str) -> list[str]:
    """Return what a report names as not proven, of one kind."""
    named: list[str] = {each["kind"]: each["named"] for each in report["unprovable"]}.get(kind, [])
    return named


@pytest.mark.parametrize(
    ("limit", "value", "deleted", "says"),
    [
        ("FEW_MISSING", 3, 3, 0),
        ("FEW_MISSING", 2, 0, 3),
        ("MAX_KNOWN", 3, 3, 0),
        ("MAX_KNOWN", 2, 0, 1),
        ("MAX_MISSING", 3, 3, 0),
        ("MAX_MISSING", 2, 2, 1),
    ],
)
async def test_deletions_are_inferred_within_limits(
    limit: str, value: int, deleted: int, says: int, setup: HolesSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many that are missing, known or asked for at once; past it none, or those within, and the report says so."""
    monkeypatch.setattr(hole_resources, limit, value)
    report = await setup.fetch(since=LONG_AGO)
    found = Counter(kind for kind, _ in await setup.told())
    assert found["contact.deleted"] == deleted
    assert len(unproven(report, "deletions")) == says


async def test_the_next_bookings_are_known_up_to_a_limit(setup: HolesSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five known meetings, and room for more: none of their invitees is read again. Past it, those of the later."""
    booked = [(await setup.of.simulate("book", organization=setup.of.org))["invitees"][0] for _ in range(5)]
    await setup.of.simulate("cancel", invitee=booked[0])
    await setup.of.settled()
    for most, saved in ((6, 5), (3, 2)):
        monkeypatch.setattr(known_bookings, "MAX_BOOKINGS", most)
        report = await setup.fetch()
        assert (report["meetings"], report["calls_saved"], report["invitees"]) == (5, saved, 5 - saved)


@pytest.mark.parametrize(("most", "steps", "read"), [(2, 1, 2), (1, 2, 2), (1, 1, 1)])
async def test_neighbours_are_read_within_limits(
    most: int, steps: int, read: int, setup: HolesSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two meetings before the look-back were moved: at both limits both are read; past them one, and that is said."""
    monkeypatch.setattr(hole_fetch, "MAX_NEIGHBOURS", most)
    monkeypatch.setattr(hole_fetch, "MAX_STEPS", steps)
    start = (setup.of.actions.clock.now() - timedelta(days=3)).isoformat()
    older = await setup.in_the_dark(2, start=start)
    await setup.of.simulate("faults", drop_rate=1.0)
    for each in older:
        await setup.of.simulate("reschedule", invitee=each)
    await setup.of.simulate("faults", drop_rate=0.0)
    report = await setup.fetch(ReconcileSettings(look_back_days=1))
    found = await setup.told()
    assert sum(found["invitee.canceled", each] for each in older) == read
    assert (unproven(report, "neighbours") != []) == (read == 1)
