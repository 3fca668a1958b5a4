"""A fetch killed or cancelled at the places where it waits: its successor leaves no gap, and nothing is there twice."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta

import pytest

from slotwire.ingest.control import hole_rounds
from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.calendly_client.transport import open_calendly
from slotwire.ingest.control.hole_fetch import Turn
from slotwire.ingest.control.hole_records import LEASE, HoleClaim, claim, read_one
from slotwire.ingest.control.holes import HoleCause, note_hole
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.reconcile_settings import ReconcileSettings
from slotwire.ingest.local.databases import Database
from tests.support.dying import Killed, dying, nothing
from tests.support.organizations_setup import OrganizationsSetup, organizations_setup

SETTINGS = ReconcileSettings()
SEED = "fetch kills"
NEVER = 1_000_000


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OrganizationsSetup]:
    """A connected organization, and a Calendly that counts no calls."""
    async with organizations_setup(database, organizations=1) as made:
        await made.add()
        await made.simulate("faults", rate_limit=1_000_000)
        yield made


@asynccontextmanager
async def _process(setup: OrganizationsSetup, *, cut: bool) -> AsyncIterator[Organizations]:
    """What a process has of its own; where it was cut off its connections just end."""
    dsn = setup.settings.database_url.get_secret_value()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(create_pool(dsn, setup.settings.database, application="test"))
        budgets = Budgets(pool, setup.actions.clock, setup.settings.calendly)
        calendly = await stack.enter_async_context(open_calendly(setup.settings.calendly, budgets))
        yield Organizations.from_settings(setup.settings, pool, setup.actions.clock, calendly)
        if cut:
            pool.terminate()


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


async def _claimed(setup: OrganizationsSetup, later: timedelta = timedelta()) -> HoleClaim:
    held = await claim(setup.actions.pool, setup.actions.clock.now() + later)
    assert held is not None
    return held


async def _dies_at(setup: OrganizationsSetup, place: int, *, cut: bool) -> int:
    """Let a fetch die at a place, and another process go on; return how often the fetch waited if it did not die."""
    due = await _told(setup) + await _dark(setup)
    now = setup.actions.clock.now()
    hole = await note_hole(
        setup.actions.pool,
        setup.org,
        cause=HoleCause.NO_DATABASE,
        since=now - timedelta(hours=1),
        now=now,
        subscription=None,
    )
    held = await _claimed(setup)
    waits = await asyncio.to_thread(_in_a_loop_of_its_own, setup, held, place, cut=cut)
    if not waits and (await read_one(setup.actions.pool, hole)).state != "closed":
        held = await _claimed(setup, LEASE + timedelta(seconds=1))
        async with _process(setup, cut=False) as organizations:
            assert await hole_rounds.fill(organizations, held, SETTINGS, Turn(patience=20)) == "ended"
    assert (await read_one(setup.actions.pool, hole)).state == "closed"
    assert await _told(setup) == due
    return waits


def _in_a_loop_of_its_own(setup: OrganizationsSetup, held: HoleClaim, place: int, *, cut: bool) -> int:
    """Run a process' fetch in a loop that ends with it, and whatever of it is left open."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_fetching(setup, held, place, cut=cut))
    finally:
        for thing in gc.get_objects():
            if isinstance(thing, asyncio.Transport) and getattr(thing, "_loop", None) is loop:
                thing.abort()
        loop.run_until_complete(loop.shutdown_asyncgens())  # an aborted transport closes its socket in the next turn
        loop.close()
        gc.collect()


async def _fetching(setup: OrganizationsSetup, held: HoleClaim, place: int, *, cut: bool) -> int:
    """Fetch until the place to die; return how often the fetch waited if it did not die, else 0."""
    async with _process(setup, cut=cut) as organizations:
        work = hole_rounds.fill(organizations, held, SETTINGS, Turn(patience=20))
        try:
            return await asyncio.create_task(dying(work, place, cut=nothing if cut else None))
        except (Killed, asyncio.CancelledError):
            return 0
        finally:
            with suppress(RuntimeError):  # the dead would like to clean up
                work.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("cut", [False, True], ids=["cancelled", "killed"])
@pytest.mark.parametrize("share", [4, pytest.param(None, marks=pytest.mark.soak)], ids=["sample", "all"])
async def test_a_fetch_that_dies_leaves_no_gap_and_no_double(
    share: int | None, setup: OrganizationsSetup, *, cut: bool
) -> None:
    """Wherever it dies between its claim and the report, its successor finishes it, and each event is there once."""
    waits = await _dies_at(setup, NEVER, cut=False)
    assert waits > 50
    places = list(range(1, waits + 1))
    if share is not None:
        places = sorted(random.Random(SEED).sample(places, share))  # noqa: S311 - places, not secrets
    for place in places:
        await _dies_at(setup, place, cut=cut)
    sys.stderr.write(f"seed {SEED!r}: died at {len(places)} of {waits} places\n")
