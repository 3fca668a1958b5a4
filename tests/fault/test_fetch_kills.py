"""A fetch cancelled, or killed with its process, where it waits: its successor leaves no gap, and nothing is twice."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from slotwire.ingest.control import hole_rounds
from slotwire.ingest.control.hole_fetch import Turn
from slotwire.ingest.control.hole_records import LEASE, claim, read_one
from slotwire.ingest.control.holes import HoleCause, note_hole
from slotwire.ingest.foundation.reconcile_settings import ReconcileSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.clock import DrivenClock
from tests.support.dying import dying
from tests.support.dying_control import NEVER, control_until
from tests.support.organizations_setup import OrganizationsSetup, organizations_setup

SEED = "fetch kills"


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OrganizationsSetup]:
    """A connected organization, and a Calendly that counts no calls."""
    async with organizations_setup(database, organizations=1) as made:
        await made.add()
        await made.simulate("faults", rate_limit=1_000_000)
        yield made


async def _dark(setup: OrganizationsSetup) -> Counter[tuple[str, str]]:
    """Book, move, cancel, mark and clear with nobody listening; return the events that are due."""
    past = (setup.actions.clock.now() - timedelta(days=1)).isoformat()
    marked = (await setup.simulate("book", start=past))["invitees"][0]
    await setup.simulate("no-show", invitee=marked)
    await setup.settled()
    await setup.simulate("faults", drop_rate=1.0)
    await setup.simulate("clear-no-show", invitee=marked)
    came = (await setup.simulate("book", start=past))["invitees"][0]
    await setup.simulate("no-show", invitee=came)
    older = (await setup.simulate("book"))["invitees"][0]
    newer = (await setup.simulate("reschedule", invitee=older))["invitees"][1]
    await setup.simulate("cancel", invitee=newer)
    await setup.simulate("faults", drop_rate=0.0)
    due = {
        marked: ("invitee.created", "invitee_no_show.created", "invitee_no_show.deleted"),
        came: ("invitee.created", "invitee_no_show.created"),
        older: ("invitee.created", "invitee.canceled"),
        newer: ("invitee.created", "invitee.canceled", "invitee.rescheduled"),
    }
    return Counter((event, invitee) for invitee, events in due.items() for event in events)


async def _told(setup: OrganizationsSetup) -> Counter[tuple[str, str]]:
    rows = await setup.rows("SELECT type, subject FROM slotwire.events WHERE type LIKE '%invitee%'")
    return Counter((row["type"].split(".", 2)[2].removesuffix(".v1"), row["subject"]) for row in rows)


async def _hole(setup: OrganizationsSetup, now: datetime) -> UUID:
    return await note_hole(
        setup.actions.pool,
        setup.org,
        cause=HoleCause.NO_DATABASE,
        since=now - timedelta(hours=1),
        now=now,
        subscription=None,
    )


async def _killed_at(setup: OrganizationsSetup, clock: DrivenClock, folder: Path, place: int) -> int:
    """Kill a process at an await of a fetch, and let another go on; return how often the fetch waited if none came."""
    due = await _told(setup) + await _dark(setup)
    hole = await _hole(setup, clock.now())
    ended = await control_until(setup.settings, clock, folder, "fill", place)
    if ended.killed:
        assert (await read_one(setup.actions.pool, hole)).state == "fetching"
        clock.advance(LEASE + timedelta(seconds=1))
        assert not (await control_until(setup.settings, clock, folder, "fill")).killed
    assert (await read_one(setup.actions.pool, hole)).state == "closed"
    assert await _told(setup) == due
    return 0 if ended.killed else ended.waits


def _places(waits: int, share: int | None) -> list[int]:
    """Draw places from the seed, or take all."""
    places = list(range(1, waits + 1))
    return places if share is None else sorted(random.Random(SEED).sample(places, share))  # noqa: S311 - not secret


SHARES = [2, pytest.param(None, marks=pytest.mark.soak)]


@pytest.mark.parametrize("share", SHARES, ids=["sample", "all"])
async def test_a_fetch_whose_process_is_killed_leaves_no_gap_and_no_double(
    share: int | None, setup: OrganizationsSetup, tmp_path: Path
) -> None:
    """Wherever `control` gets its SIGKILL, the next one finishes the fetch, and each event is there once."""
    clock = DrivenClock()
    waits = await _killed_at(setup, clock, tmp_path, NEVER)
    assert waits > 50
    places = _places(waits, share)
    for place in places:
        await _killed_at(setup, clock, tmp_path, place)
    sys.stderr.write(f"seed {SEED!r}: killed at {len(places)} of {waits} awaits\n")


async def _cancelled_at(setup: OrganizationsSetup, place: int) -> int:
    """Cancel a fetch at a place, and let another process go on; return how often the fetch waited if it ended."""
    due = await _told(setup) + await _dark(setup)
    hole = await _hole(setup, setup.actions.clock.now())
    waits = 0
    for at in (place, NEVER):
        held = await claim(setup.actions.pool, setup.actions.clock.now())
        if held is None:  # the first one had ended
            break
        work = hole_rounds.fill(setup.organizations, held, ReconcileSettings(), Turn(patience=300))
        with suppress(asyncio.CancelledError):
            waits = await asyncio.create_task(dying(work, at, cut=None))
    assert (await read_one(setup.actions.pool, hole)).state == "closed"
    assert await _told(setup) == due
    return waits


@pytest.mark.parametrize("share", SHARES, ids=["sample", "all"])
async def test_a_fetch_that_is_stopped_leaves_no_gap_and_no_double(
    share: int | None, setup: OrganizationsSetup
) -> None:
    """Wherever a stop cancels it, it gives its claim back, and its successor finishes it at once."""
    waits = await _cancelled_at(setup, NEVER)
    assert waits > 50
    for place in _places(waits, share):
        await _cancelled_at(setup, place)
