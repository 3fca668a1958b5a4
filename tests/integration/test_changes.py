"""Changes of meetings that Calendly sends no webhook for: found by comparing, told once, at a bounded cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from slotwire.ingest.control import erasure
from slotwire.ingest.control.changes import sweep_rounds
from slotwire.ingest.control.changes.sweep import MAX_LOOKED_UP
from slotwire.ingest.control.changes.sweep_records import claim
from slotwire.ingest.control.observation import Observer
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.foundation.changes_settings import ChangesSettings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate import doctor_organizations
from slotwire.ingest.simulator.edits import EventEdit, edit_event
from slotwire.ingest.simulator.model import Faults, SimulatedScheduledEvent, uri
from tests.support.actions_setup import ActionsSetup, actions_setup
from tests.support.command import environment, slotwire
from tests.support.dying import dying

CHANGED = "io.slotwire.scheduled_event.changed.v1"
EVERY = ChangesSettings(interval_minutes=10, days_ahead=14)


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ActionsSetup]:
    """One organization, connected and subscribed, with nothing booked."""
    async with actions_setup(database) as found:
        yield found


def organizations(setup: ActionsSetup) -> Organizations:
    """Return what `control` acts with."""
    actions = setup.actions
    return Organizations.from_settings(setup.settings, actions.pool, setup.clock, actions.calendly)


async def swept(setup: ActionsSetup, settings: ChangesSettings = EVERY, **later: float) -> list[dict[str, Any]]:
    """Let time pass, sweep, and return what was told since."""
    before = len(await setup.told(CHANGED))
    await setup.advance(**(later or {"minutes": 11}))
    assert await sweep_rounds.run_once(organizations(setup), settings) == {setup.org: "ended"}
    return (await setup.told(CHANGED))[before:]


def booked(setup: ActionsSetup, hours: int, **more: Any) -> SimulatedScheduledEvent:
    """Book so many hours ahead."""
    invitee = setup.book_directly(start=setup.start(hours), email=f"invitee{hours}@example.test", **more)
    return setup.meeting(invitee.uri)


def edit(setup: ActionsSetup, meeting: SimulatedScheduledEvent, **change: Any) -> None:
    """Edit a meeting behind Calendly's webhooks."""
    edit_event(setup.calendly.engine, meeting.id, EventEdit(**change))


async def test_edits_are_told_once_and_what_webhooks_tell_is_not(setup: ActionsSetup) -> None:
    """Of each edit what was and what is, though it was made before the first sweep; of cancels and moves nothing."""
    engine = setup.calendly.engine
    other = next(each.id for each in setup.calendly.world.members(setup.org)[1:])
    one, two, three, four = [booked(setup, hours) for hours in (30, 40, 50, 60)]
    await setup.written()
    sent = engine.ledger.summary()["messages"]
    edit(setup, one, host=other)
    edit(setup, two, start=two.start + timedelta(minutes=30), guests=("Friend@example.test",))
    assert engine.ledger.summary()["messages"] == sent, "no webhook tells of an edit"
    told = {each["uri"]: each for each in await swept(setup)}
    assert told.keys() == {one.uri, two.uri}
    assert told[one.uri]["changed"] == ["hosts"]
    assert told[one.uri]["before"]["hosts"] == [uri("users", one.host)]
    assert told[one.uri]["after"]["hosts"] == [uri("users", other)]
    assert told[two.uri]["changed"] == ["start_time", "end_time", "guests"]
    assert (told[two.uri]["before"]["guests"], told[two.uri]["after"]["guests"]) == ([], ["friend@example.test"])
    began = datetime.fromisoformat(told[two.uri]["after"]["start_time"])
    assert began == two.start + timedelta(minutes=30)
    # Nothing new: nothing told, however often it is swept, also where a guest is erased whom Calendly still has.
    assert await swept(setup) == []
    await erasure.erase(
        *(setup.actions.pool, setup.clock, setup.org), address="friend@example.test", invitees=(), by="test", seconds=5
    )
    assert await swept(setup) == []
    guests = "SELECT told ->> 'guests' AS guests FROM slotwire.upcoming_meetings WHERE scheduled_event = $1"
    assert [row["guests"] for row in await setup.rows(guests, two.uri)] == ['["erased"]']
    edit(setup, three, place="1 Example Street")
    edit(setup, one, host=one.host)
    edit(setup, two, guests=())
    engine.cancel_event(four.id, "Host", "ill")
    again = {each["uri"]: (each["changed"], each["change"]) for each in await swept(setup)}
    assert again == {one.uri: (["hosts"], 2), two.uri: (["guests"], 2), three.uri: (["location"], 1)}
    engine.move_event(three.id)
    engine.cancel_event(one.id, "Host", "ill")
    assert await swept(setup) == []
    known = {row["scheduled_event"] for row in await setup.rows("SELECT * FROM slotwire.upcoming_meetings")}
    assert {one.uri, three.uri, four.uri} & known == set()
    keys = await setup.rows("SELECT DISTINCT key, subject FROM slotwire.events WHERE type = $1", CHANGED)
    assert {(row["key"], row["subject"]) for row in keys} == {(each.uri, each.uri) for each in (one, two, three)}


async def test_a_sweep_costs_what_it_says_and_goes_over_pages(setup: ActionsSetup) -> None:
    """A call for each 100 meetings and one besides; one for each that left the list, and it is told where it moved."""
    engine = setup.calendly.engine
    engine.set_faults(Faults(drop_rate=1.0))
    meetings = [booked(setup, 30 + number) for number in range(130)]
    before = setup.calls
    assert await swept(setup) == []
    assert setup.calls - before == 2 + 1, "two pages, and whose token it is"
    beyond, earlier, gone = meetings[100], meetings[120], meetings[7]
    edit(setup, beyond, start=setup.clock.now() + timedelta(days=40))
    edit(setup, earlier, start=meetings[3].start + timedelta(minutes=40))
    engine.cancel_event(gone.id, "Host", "its webhook is lost")
    before = setup.calls
    told = await swept(setup)
    assert sorted(each["uri"] for each in told) == sorted((beyond.uri, earlier.uri))
    assert setup.calls - before == 2 + 1 + 2, "the one that is gone, and the one beyond what is listed"
    assert await swept(setup) == []
    assert MAX_LOOKED_UP == 50
    pool = setup.actions.pool
    settings = setup.settings.model_copy(update={"changes": EVERY})
    async with pool.acquire() as connection:
        found = await doctor_organizations.changes(connection, settings, setup.clock)
        assert (found.state, "128 meetings in 3 calls" in found.message) == ("ok", True), found.message
        shown = await slotwire("organizations", "show", setup.org, env=environment(setup.settings))
        assert "128 meetings, 3 calls, 0 changes; next " in shown.stdout.splitlines()[-1]
        engine.advance(timedelta(minutes=40))
        assert await Observer(pool, setup.clock, settings.metrics, settings.retention, EVERY).run_once()
        assert REGISTRY.get_sample_value("slotwire_change_sweep_late_seconds") == 30 * 60
        assert (await doctor_organizations.changes(connection, settings, setup.clock)).state == "warning"
        assert (await doctor_organizations.changes(connection, setup.settings, setup.clock)).state == "ok"
    await setup.advance(days=15)
    assert await swept(setup) == []
    assert len(await setup.rows("SELECT * FROM slotwire.upcoming_meetings")) == 1, "those that started are forgotten"


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.soak)])
async def test_a_sweep_that_dies_anywhere_tells_each_change_once(setup: ActionsSetup, step: int) -> None:
    """Cancelled at its awaits in turn, and gone on with: every edit is told, none twice."""
    meetings = [booked(setup, 30 + hours) for hours in range(3)]
    await swept(setup)
    place, waits, edits = 2 - step, 1, 0
    while waits >= place:
        place += step
        edits += 1
        edit(setup, meetings[edits % 3], guests=(f"guest{edits}@example.test",))
        await setup.advance(minutes=11)
        held = await claim(setup.actions.pool, setup.clock.now(), timedelta(days=EVERY.days_ahead))
        assert held is not None
        work = sweep_rounds.sweep(organizations(setup), held, EVERY)
        task = asyncio.ensure_future(dying(work, place, cut=None))
        await asyncio.wait({task})
        waits = place if task.cancelled() else task.result()
        await setup.rows("UPDATE slotwire.change_sweeps SET due_at = $1", setup.clock.now())  # a claim that was left
        assert await sweep_rounds.run_once(organizations(setup), EVERY) == {setup.org: "ended"}
    told = await setup.told(CHANGED)
    after = [each["after"]["guests"] for each in told]
    assert sorted(after) == sorted([f"guest{number}@example.test"] for number in range(1, edits + 1))
    assert edits > 3


async def test_a_sweep_that_would_be_due_too_late_is_due_now(setup: ActionsSetup) -> None:
    """Where it was made weekly and is now made every ten minutes, or the clock was a year ahead; not a claimed one."""
    assert await swept(setup, EVERY.model_copy(update={"interval_minutes": 10_000.0})) == []
    assert await swept(setup) == []
    await setup.rows("UPDATE slotwire.change_sweeps SET due_at = $1", setup.clock.now() + timedelta(days=366))
    assert await swept(setup, minutes=1) == []
    await setup.advance(minutes=11)
    assert await claim(setup.actions.pool, setup.clock.now(), timedelta(days=1)) is not None
    assert await sweep_rounds.run_once(organizations(setup), EVERY) == {}
