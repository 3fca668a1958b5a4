"""Actions as strangers, odd answers and odd rows would break them: each is refused, waited out or a person's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from slotwire.ingest.control.actions.records import read_action
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import COMMAND_LINE, Role
from slotwire.ingest.simulator.model import Faults
from tests.support.actions_setup import MAIL, ActionsSetup, actions_setup
from tests.support.altered_calendly import Answer

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ActionsSetup]:
    """One organization, behind something that may alter Calendly's answers."""
    async with actions_setup(database, altered=True) as found:
        yield found


async def test_no_body_is_stored_that_breaks_what_reads_it(setup: ActionsSetup) -> None:
    """Times that cannot be moved, null characters, too much of everything: refused, nothing stored, nobody else met."""
    reader, operator = [await setup.api.key(role, setup.org) for role in (Role.READER, Role.OPERATOR)]
    fine = setup.booking()
    answer = {"question": "q", "answer": "é" * 2_000, "position": 0}
    odd: list[dict[str, Any]] = [
        {**fine, "start_time": "0001-01-01T00:00:00+14:00"},
        {**fine, "start_time": "9999-12-31T23:59:59-12:00"},
        {**fine, "name": "Zoe\0"},
        {**fine, "guests": ["a\0@example.test"]},
        {**fine, "answers": [{"question": "q\0", "answer": "", "position": 0}]},
        {**fine, "answers": [answer] * 15},  # a body that is just taken, and twice as much to keep
        {**fine, "answers": [{**answer, "answer": ""}] * 51},
        {"verb": "reschedule", "invitee": f"{fine['event_type']}/../x", "start_time": fine["start_time"]},
        {"verb": "cancel", "scheduled_event": "https://evil.example/scheduled_events/E"},
    ]
    for number, action in enumerate(odd):
        body = {"idempotency_key": f"odd-{number}", "action": action}
        said = await setup.api.ask("POST", "/v1/actions", operator, json=body)
        assert 400 <= said.status_code < 500, (number, said.text)
        assert said.headers["content-type"].startswith("application/problem+json")
    surrogate = orjson.dumps({"idempotency_key": "s", "action": {**fine, "name": "NAME"}}).replace(b"NAME", b"\\ud800")
    said = await setup.api.ask("POST", "/v1/actions", operator, content=surrogate, headers=JSON)
    assert said.status_code == 400
    said = await setup.api.ask("POST", "/v1/actions", reader, json={"idempotency_key": "r", "action": fine})
    assert said.status_code == 403
    assert await setup.rows("SELECT * FROM slotwire.actions") == []
    assert setup.bookings() == []


async def test_odd_answers_about_an_effect_end_nothing(setup: ActionsSetup) -> None:
    """Wrong types where a read looks for the effect: the action stays open, and is settled by the first good answer."""
    assert setup.between is not None
    booked, key = await setup.act(setup.booking()), await setup.api.key()
    [invitee] = setup.bookings()
    setup.calendly.engine.set_faults(Faults(drop_rate=1.0))  # no webhook settles it
    odd: list[dict[str, Any]] = [
        {"cancellation": {"canceler_type": [], "created_at": 7}},
        {"cancellation": "yes", "status": "canceled", "invitees_counter": [1]},
        {"status": {"a": 1}, "cancellation": {"canceler_type": {}, "created_at": "0001-01-01T00:00:00+14:00"}},
        {"start_time": None},
        {"uri": "x" * 5_000},
    ]
    for changes in odd:
        lost: list[str] = []

        def refuse(request: web.Request, lost: list[str] = lost) -> Answer | None:
            if request.method == "GET":
                return None
            lost.append(request.path)
            return (502, {"message": "Bad Gateway"})

        def alter(
            request: web.Request, _: int, document: Any, lost: list[str] = lost, changed: dict[str, Any] = changes
        ) -> Answer | None:
            meeting = request.path.startswith("/scheduled_events/") and lost
            return (200, {"resource": {**document["resource"], **changed}}) if meeting else None

        setup.between.refuse, setup.between.alter = refuse, alter
        await setup.rows("DELETE FROM slotwire.actions WHERE verb = 'cancel'")
        odd_one = await setup.act({"verb": "cancel", "scheduled_event": booked.scheduled_event})
        assert odd_one.state in {"open", "done_by_other"}, changes
        await setup.advance(seconds=40)
        await setup.round()
    setup.between.refuse = lambda _: None
    odd_booking = {
        "location": {"type": []},
        "event_guests": 5,
        "event_type": 7,
        "start_time": "0001-01-01T00:00:00+14:00",
    }
    for name, value in odd_booking.items():

        def old(
            request: web.Request, status: int, document: Any, name: str = name, value: Any = value
        ) -> Answer | None:
            meeting = request.method == "GET" and request.path.count("/") == 2 and "/scheduled_events/" in request.path
            return (200, {"resource": {**document["resource"], name: value}}) if meeting and status == 200 else None

        setup.between.alter = old
        later = {"verb": "reschedule", "invitee": invitee.uri, "start_time": setup.start(200).isoformat()}
        body = {"organization": setup.org, "idempotency_key": f"move-{name}", "action": later}
        said = await setup.api.ask("POST", "/v1/actions", key, json=body)
        assert said.status_code != 500, (name, said.text)


async def test_a_row_that_nobody_can_read_holds_up_no_other(setup: ActionsSetup) -> None:
    """One action that our own code fails on: the chore goes on with the others, again and again, and ends for none."""
    lost = [await setup.lost_then_blind(setup.booking(start_time=setup.start(30 + n).isoformat())) for n in (0, 10, 20)]
    await setup.rows(
        "UPDATE slotwire.actions SET request = jsonb_set(request, '{booking,start_time}', $2::jsonb) WHERE id = $1",
        *(lost[0].id, '"0001-01-01T00:00:00+14:00"'),
    )
    setup.sees()
    await setup.advance(seconds=70)
    for _ in range(2):
        assert {each.id for each in await setup.round()} <= {each.id for each in lost[1:]}
        await setup.advance(seconds=70)
    states = [(await read_action(setup.actions.pool, each.id)).state for each in lost]
    assert (states[0], "open" in states[1:]) == ("open", False)
    await setup.advance(hours=1)
    assert (await setup.until_settled(lost[0])).state == "person"


async def test_who_joins_before_a_late_cancel_is_not_canceled_with_the_others(setup: ActionsSetup) -> None:
    """A cancel that is held back looks again before it is sent: asked for with one invitee, there are two by then."""
    assert setup.between is not None
    kinds = [each for each in setup.calendly.world.offers(setup.org) if each.limit > 1]
    first = setup.book_directly(event_type=kinds[0].id)
    meeting = setup.meeting(first.uri)

    def limited(request: web.Request) -> Answer | None:
        return (429, {"message": "Too Many"}) if request.path.endswith("/cancellation") else None

    setup.between.refuse = limited
    held = await setup.act({"verb": "cancel", "scheduled_event": meeting.uri})
    assert (held.state, held.calls) == ("not_sent", 0)
    setup.book_directly(event=meeting.id, email="second@example.test")
    setup.between.refuse = lambda _: None
    await setup.advance(seconds=150)
    [refused] = await setup.round()
    assert (refused.state, "2 active invitees" in str(refused.reason)) == ("refused", True)
    assert len(setup.bookings()) == 2


async def test_a_move_that_a_restore_forgot_is_not_made_again(setup: ActionsSetup) -> None:
    """Its old booking is canceled, so the new one is looked for by its tag; where there is none it is refused."""
    old, canceled = [setup.book_directly(start=setup.start(hours), email=MAIL) for hours in (30, 40)]
    intents = [
        {"verb": "reschedule", "invitee": each.uri, "start_time": setup.start(90 + number).isoformat()}
        for number, each in enumerate((old, canceled))
    ]
    moved = await setup.act(intents[0], key="one")
    assert moved.state == "done"
    setup.calendly.engine.cancel_event(setup.meeting(canceled.uri).id, "Host", "ill")
    await setup.advance(hours=1)
    await setup.rows("DELETE FROM slotwire.actions")
    await setup.rows("UPDATE slotwire.actions_server SET server = 'another'")
    again = await setup.act(intents[0], key="one")
    assert (again.id == moved.id, again.state, again.invitee) == (False, "done", moved.invitee)
    refused = await setup.act({**intents[1], "may_lose_slot": True}, key="two")
    assert (refused.state, "canceled already" in str(refused.reason)) == ("refused", True)
    assert [each.uri for each in setup.bookings()] == [moved.invitee]
    assert (await setup.actions.performed.confirm_restore(COMMAND_LINE)).changed
    with pytest.raises(RequestRefused, match="canceled already"):
        await setup.act(intents[1], key="three")


async def test_a_booking_that_a_restore_forgot_is_found_without_its_tag(database: Database) -> None:
    """It fits, and was made by the API before: `probable`, so that nothing undoes or repeats it by itself."""
    async with actions_setup(database, tag=False) as setup:
        wanted = setup.booking()
        done = await setup.act(wanted, key="one")
        await setup.advance(hours=1)
        await setup.rows("DELETE FROM slotwire.actions")
        await setup.rows("UPDATE slotwire.actions_server SET server = 'another'")
        again = await setup.act(wanted, key="one")
        assert (again.state, again.invitee, len(setup.bookings())) == ("probable", done.invitee, 1)
        person = setup.book_directly(start=setup.start(60), email=MAIL)
        by_person = await setup.act(setup.booking(start_time=setup.start(60).isoformat()), key="two")
        assert (by_person.state, by_person.invitee) == ("done_by_other", person.uri)
