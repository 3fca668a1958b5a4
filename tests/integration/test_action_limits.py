"""Actions that a limit of Calendly's holds back: they wait as long as it lasts, and go on by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import generate_latest

from slotwire.ingest.control.actions.deciding import decide
from slotwire.ingest.control.calendly_client.booking_limits import DAY
from slotwire.ingest.control.observation import Observer
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.exposition import EXPORTED
from slotwire.ingest.foundation.settings import MetricsSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate import doctor_organizations
from slotwire.ingest.operate.roles import COMMAND_LINE
from tests.support.actions_setup import ActionsSetup, actions_setup
from tests.support.altered_calendly import Answer

FREE = 5
"""Bookings a day on the free plan."""


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ActionsSetup]:
    """One organization on the free plan, as was found out, whose bookings of a day are used up."""
    async with actions_setup(database, altered=True) as found:
        await found.rows("UPDATE slotwire.connection_capabilities SET plan = 'basic', stage = 'free'")
        for hour in range(FREE):
            assert (await found.act(booking(found, 100 + hour))).state == "done"
        yield found


def booking(setup: ActionsSetup, hours: int) -> dict[str, Any]:
    """Write a booking so many hours ahead, of somebody who has none."""
    return setup.booking(start_time=setup.start(hours).isoformat(), email=f"invitee{hours}@example.test")


async def test_a_days_limit_is_waited_out(setup: ActionsSetup) -> None:
    """Known beforehand: it says until when, nothing is called meanwhile, nobody is bothered, and then it is booked."""
    held = await setup.act(booking(setup, 60))
    item = await setup.actions.performed.get(COMMAND_LINE, held.id)
    assert (item.state, item.calls, "5 in a day" in str(item.reason)) == ("not_sent", 0, True)
    assert item.held_until is not None
    assert timedelta(seconds=DAY - 900) < item.held_until - setup.clock.now() < timedelta(seconds=DAY + 60)
    assert item.due_at == item.held_until
    before = setup.calls
    await setup.advance(hours=2)
    assert await setup.round() == []
    # Its turn has come, and somebody else took it: it waits on, and Calendly is not asked.
    await setup.rows("UPDATE slotwire.actions SET due_at = intended_at WHERE state = 'not_sent'")
    [again] = await setup.round()
    assert again.held is not None
    assert (again.state, again.held.refusals, setup.calls) == ("not_sent", 0, before)
    pool = setup.actions.pool
    async with pool.acquire() as connection:
        found = await doctor_organizations.actions(connection, setup.clock)
        assert (found.state, "1 held" in found.message) == ("ok", True)
    assert await Observer(pool, setup.clock, MetricsSettings()).run_once()
    assert 'slotwire_actions_waiting{state="held"} 1.0' in generate_latest(EXPORTED["control"]).decode()
    await setup.advance(seconds=DAY)
    [done] = await setup.round()
    assert (done.id, done.state, len(setup.bookings())) == (held.id, "done", FREE + 1)


async def test_nothing_is_given_up_for_a_slot_that_cannot_be_booked(setup: ActionsSetup) -> None:
    """A slot before the limit ends is refused at once; an old slot is not canceled until another can be booked."""
    early = await setup.act(booking(setup, 20))
    assert (early.state, "before a booking is possible" in str(early.reason)) == ("refused", True)
    invitee = setup.bookings()[0]
    meeting = setup.meeting(invitee.uri)
    overlapping = (meeting.start + timedelta(minutes=15)).isoformat()
    intent = {"verb": "reschedule", "invitee": invitee.uri, "start_time": overlapping, "may_lose_slot": True}
    kept = await setup.act(intent)
    assert (kept.state, kept.step, kept.plan, kept.calls) == ("not_sent", "cancel", "cancel_first", 0)
    assert setup.meeting(invitee.uri).status == "active"
    with pytest.raises(RequestRefused, match="nothing to decide"):
        await decide(setup.actions.pool, setup.clock, kept, "done", who="somebody", why="?")
    off = await decide(setup.actions.pool, setup.clock, kept, "not_done", who="somebody", why="not wanted any more")
    assert (off.state, off.due_at, setup.meeting(invitee.uri).status) == ("not_done", None, "active")


async def test_refusals_by_calendly_are_waited_out_longer_each_time(setup: ActionsSetup) -> None:
    """Others book as the same user, so that only Calendly knows of it: a minute, then two; then it is booked, once."""
    assert setup.between is not None
    await setup.rows("UPDATE slotwire.connection_capabilities SET plan = 'enterprise', stage = 'paid'")

    def limited(request: web.Request) -> Answer | None:
        return (429, {"message": "You have exceeded your rate limit."}) if request.path == "/invitees" else None

    setup.between.refuse = limited
    record = await setup.act(booking(setup, 60))
    for minutes, refusals in ((1, 1), (2, 2)):
        assert record.held is not None
        assert (record.state, record.held.refusals) == ("not_sent", refusals)
        assert record.held.until - setup.clock.now() == timedelta(minutes=minutes)
        await setup.advance(minutes=minutes, seconds=90)
        if refusals == 2:
            setup.between.refuse = lambda _: None
        [record] = await setup.round()
    assert (record.state, len(setup.bookings())) == ("done", FREE + 1)


async def test_half_a_reschedule_is_not_called_off(setup: ActionsSetup) -> None:
    """The new slot is booked and the cancellation of the old one held back: it goes on, whoever wants it not done."""
    assert setup.between is not None
    await setup.rows("UPDATE slotwire.connection_capabilities SET plan = 'enterprise', stage = 'paid'")
    invitee = setup.bookings()[0]

    def limited(request: web.Request) -> Answer | None:
        return (429, {"message": "Too Many Requests"}) if request.path.endswith("/cancellation") else None

    setup.between.refuse = limited
    later = setup.start(200).isoformat()
    half = await setup.act({"verb": "reschedule", "invitee": invitee.uri, "start_time": later})
    assert (half.state, half.step, half.calls, half.untouched) == ("not_sent", "cancel", 0, False)
    with pytest.raises(RequestRefused, match="nothing to decide"):
        await decide(setup.actions.pool, setup.clock, half, "not_done", who="somebody", why="not wanted any more")
    setup.between.refuse = lambda _: None
    await setup.advance(seconds=150)
    [done] = await setup.round()
    assert (done.state, setup.meeting(invitee.uri).status) == ("done", "canceled")


async def test_two_people_decide_once(setup: ActionsSetup) -> None:
    """At the same moment, and while the chore goes on with it: one decision stays, the other hears of it."""
    held = await setup.act(booking(setup, 60))
    pool = setup.actions.pool
    said = [decide(pool, setup.clock, held, "not_done", who=who, why="off") for who in ("one", "other")]
    ended = await asyncio.gather(*said, return_exceptions=True)
    [refused] = [each for each in ended if isinstance(each, BaseException)]
    assert isinstance(refused, RequestRefused)
    assert refused.code == "changed_meanwhile"
    await setup.advance(seconds=DAY + 60)
    assert await setup.round() == []
    assert len(setup.bookings()) == FREE
    assert [each["state"] for each in await setup.told()][-1] == "not_done"
