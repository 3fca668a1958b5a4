"""Reschedules by an action: which slot comes first, what becomes of the old one, and one chain in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.model import SimulatedInvitee
from tests.support.actions_setup import MAIL, ActionsSetup, actions_setup

CREATED, CANCELED = "com.calendly.invitee.created.v1", "com.calendly.invitee.canceled.v1"
RESCHEDULED = "io.slotwire.invitee.rescheduled.v1"


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ActionsSetup]:
    """One organization."""
    async with actions_setup(database) as found:
        yield found


async def story(setup: ActionsSetup) -> list[tuple[str, str, str, Any]]:
    """Read what the log has of bookings: the type, the invitee, the key and `part_of_action`."""
    rows = await setup.rows(
        "SELECT type, subject, key, data FROM slotwire.events WHERE type = ANY ($1) ORDER BY position",
        [CREATED, CANCELED, RESCHEDULED],
    )
    return [(row["type"], row["subject"], row["key"], orjson.loads(row["data"]).get("part_of_action")) for row in rows]


def move(old: SimulatedInvitee, setup: ActionsSetup, hours: int = 60, **more: Any) -> dict[str, Any]:
    """Write the intent of a move."""
    start = setup.start(hours).isoformat()
    return {"verb": "reschedule", "invitee": old.uri, "start_time": start, "reason": "later, please", **more}


@pytest.mark.parametrize("webhook", ["before", "with", "after"])
async def test_the_new_slot_comes_first_and_one_chain_tells_it(setup: ActionsSetup, webhook: str) -> None:
    """The new invitee inherits the key, the canceled one says whose action it was, and one event tells the move."""
    old = setup.book_directly(tracking=(("utm_source", "newsletter"),))
    await setup.written()
    await setup.faults(booking_webhook=webhook)
    moved = await setup.act(move(old, setup), key="one")
    assert (moved.state, moved.evidence) == ("done", "answer")
    [new] = setup.bookings()
    assert (moved.invitee, new.email, new.timezone) == (new.uri, old.email, old.timezone)
    assert dict(new.tracking) == {"utm_source": "newsletter", "utm_term": moved.tag}
    canceled = setup.meeting(old.uri).cancellation
    assert canceled is not None
    assert canceled.reason == "later, please"
    await setup.advance(seconds=5)
    told = await story(setup)
    key, action = told[0][2], str(moved.id)
    assert sorted(told) == sorted(
        [
            (CREATED, old.uri, key, None),
            (CREATED, new.uri, key, None),
            (CANCELED, old.uri, key, action),
            (RESCHEDULED, new.uri, key, None),
        ]
    )
    assert told[-1][0] == RESCHEDULED
    rows = await setup.rows("SELECT chain_root FROM slotwire.bookings")
    assert {row["chain_root"] for row in rows} == {old.uri}
    assert (await setup.told())[-1] | {"state": "done", "verb": "reschedule", "invitee": new.uri} == (
        await setup.told()
    )[-1]
    # A second move of the new one stays in the chain, and the tag of the first is not carried on.
    again = await setup.act(move(new, setup, 90))
    await setup.advance(seconds=5)
    [newest] = setup.bookings()
    assert dict(newest.tracking)["utm_term"] == again.tag != moved.tag
    assert {entry[2] for entry in await story(setup)} == {key}
    assert [entry[0] for entry in await story(setup)].count(RESCHEDULED) == 2


async def test_without_a_tag_the_writer_knows_the_new_booking_by_what_it_expects(database: Database) -> None:
    """Event type, start, address and time link it; a booking of somebody else's, or a cancellation before, does not."""
    async with actions_setup(database, tag=False) as setup:
        old = setup.book_directly()
        setup.book_directly(email="b@example.test", start=setup.start(200))
        await setup.written()
        moved = await setup.act(move(old, setup))
        assert moved.state == "done"
        await setup.written()
        told = await story(setup)
        assert [entry[0] for entry in told].count(RESCHEDULED) == 1
        assert len({entry[2] for entry in told}) == 2
        assert [entry[3] for entry in told if entry[0] == CANCELED] == [str(moved.id)]


async def test_slots_that_overlap_are_given_up_only_if_the_caller_says_so(setup: ActionsSetup) -> None:
    """Refused before anything is called; with `may_lose_slot` the old slot is canceled first, in one chain."""
    old = setup.book_directly()
    await setup.written()
    overlapping = move(old, setup) | {"start_time": setup.start(30).replace(minute=10).isoformat()}
    with pytest.raises(RequestRefused) as refused:
        await setup.act(overlapping, key="one")
    assert refused.value.code == "slots_overlap"
    assert setup.bookings() == [old]
    moved = await setup.act(overlapping | {"may_lose_slot": True}, key="one")
    assert (moved.state, moved.plan) == ("done", "cancel_first")
    assert [each.uri for each in setup.bookings()] == [moved.invitee]
    await setup.written()
    assert [entry[0] for entry in await story(setup)].count(RESCHEDULED) == 1
    with pytest.raises(RequestRefused) as refused:
        await setup.act(move(old, setup))
    assert refused.value.code == "invitee_not_active"


async def test_a_new_slot_that_is_refused_costs_nothing(setup: ActionsSetup) -> None:
    """The old booking stands, and a cancellation that comes later is no part of the action."""
    old = setup.book_directly()
    setup.book_directly(start=setup.start(60), email="b@example.test")
    await setup.written()
    refused = await setup.act(move(old, setup))
    assert (refused.state, "no longer available" in str(refused.reason)) == ("refused", True)
    assert old in setup.bookings()
    await setup.written()
    setup.calendly.engine.cancel(old.id, by="host")
    await setup.written()
    assert [entry[3] for entry in await story(setup) if entry[0] == CANCELED] == [None]


async def test_a_lost_slot_is_booked_again_or_a_person_decides(setup: ActionsSetup) -> None:
    """With `may_lose_slot`, after the new slot was refused twice: the old slot; where that is gone too, a person."""
    old = setup.book_directly()
    setup.book_directly(start=setup.start(60), email="b@example.test")
    back = await setup.act(move(old, setup, may_lose_slot=True))
    assert (back.state, back.reason, back.step) == ("refused", "old_slot_booked_again", "restore")
    [held] = [each for each in setup.bookings() if each.email == MAIL]
    assert (held.id != old.id, setup.meeting(held.uri).start) == (True, setup.meeting(old.uri).start)


async def test_where_the_old_slot_is_gone_too_a_person_decides(database: Database) -> None:
    """Canceled first, refused, and taken by somebody else meanwhile: nobody guesses."""
    async with actions_setup(database, altered=True) as setup:
        assert setup.between is not None
        old = setup.book_directly()
        setup.book_directly(start=setup.start(60), email="b@example.test")
        canceled = False

        def alter(request: Any, status: int, document: Any) -> None:
            nonlocal canceled
            if request.path.endswith("/cancellation") and not canceled:
                canceled = True
                setup.book_directly(start=setup.start(30), email="c@example.test")

        setup.between.alter = alter
        lost = await setup.act(move(old, setup, may_lose_slot=True))
        assert (lost.state, lost.reason) == ("person", "slot_lost")
        assert (await setup.told())[-1]["state"] == "person"


async def test_each_answer_of_a_reschedule_may_be_lost(setup: ActionsSetup) -> None:
    """The steps settle by what is seen; a cancellation is repeated, because Calendly cancels once."""
    old = setup.book_directly()
    await setup.written()
    await setup.faults(rest_lost_answer_rate=1.0, rest_faults="writes")
    moved = await setup.act(move(old, setup))
    assert (moved.state, moved.evidence, len(setup.bookings())) == ("done", "read", 1)
    [new] = setup.bookings()
    await setup.faults(rest_error_rate=1.0, rest_faults="writes")
    unseen = await setup.until_settled(await setup.act(move(new, setup, 90)))
    assert (unseen.state, setup.bookings()) == ("not_seen", [new])
