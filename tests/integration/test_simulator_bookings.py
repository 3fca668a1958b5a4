"""Bookings by API at the simulator: what they become, and what refuses them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from slotwire.ingest.simulator.app import Options
from slotwire.ingest.simulator.model import uri
from slotwire.ingest.simulator.payloads import TRACKING
from slotwire.ingest.simulator.rest_invitees import MAX_GUESTS
from tests.support.simulated_calendly import Receiver, SimulatedCalendly, receiving, simulated_calendly


@pytest.fixture
async def calendly() -> AsyncIterator[SimulatedCalendly]:
    """A simulator with two organizations and a stopped clock."""
    async with simulated_calendly(Options(organizations=2)) as found:
        yield found


def offer(calendly: SimulatedCalendly, *, location: str = "zoom", group: bool = False, organization: int = 0) -> str:
    """Return an event type of an owner's."""
    world = calendly.running.world
    org = list(world.organizations)[organization]
    owner = world.members(org)[0].id
    fits = [each for each in world.offers(org) if each.owner == owner and each.location == location]
    return uri("event_types", next(each.id for each in fits if (each.limit > 1) == group))


def asked(calendly: SimulatedCalendly, hours: int = 30, **more: Any) -> dict[str, Any]:
    """Write the body of a booking."""
    start = (calendly.running.engine.clock.now() + timedelta(hours=hours)).replace(minute=0, second=0, microsecond=0)
    invitee = {"email": "zoe@example.test", "timezone": "Europe/Paris", "name": "Zoe"}
    usual = {"event_type": offer(calendly), "start_time": start.strftime("%Y-%m-%dT%H:%M:%SZ"), "invitee": invitee}
    return {**usual, **more}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of deliveries."""
    async with receiving() as found:
        yield found


async def test_a_booking_comes_back_by_webhook(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """With the invitee's own URI and tracking, before the answer, with it or after it, as the setting says."""
    await calendly.subscribe(receiver.url)
    tracking = {**dict.fromkeys(TRACKING), "utm_term": "ours"}
    for number, (when, arrived) in enumerate((("before", 1), ("with", None), ("after", 2))):
        await calendly.act("faults", booking_webhook=when)
        body = asked(calendly, 30 + 5 * number, tracking=tracking, event_guests=["g@example.test"] * MAX_GUESTS)
        answer = await calendly.http.post("/invitees", json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()["resource"]
        assert (made["scheduling_method"], made["tracking"]) == ("api", tracking)
        assert arrived is None or len(receiver.deliveries) == arrived
        await calendly.advance(seconds=1)
        told = receiver.deliveries[-1].parsed["payload"]
        assert {name: told[name] for name in ("uri", "tracking", "email")} == {
            name: made[name] for name in ("uri", "tracking", "email")
        }
        assert len(told["scheduled_event"]["event_guests"]) == MAX_GUESTS
    assert [each.event for each in receiver.deliveries] == ["invitee.created"] * 3


async def test_what_cannot_be_booked_is_refused(calendly: SimulatedCalendly) -> None:
    """A taken slot is 409; values that do not fit are 400 and named; others' event types are 403 or 404."""

    async def post(**more: Any) -> tuple[int, Any]:
        answer = await calendly.http.post("/invitees", json=asked(calendly, **more))
        return answer.status_code, answer.json()

    assert (await post())[0] == 201
    assert (await post())[0] == 409
    group = offer(calendly, group=True)
    assert [(await post(hours=50, event_type=group))[0] for _ in range(11)] == [201] * 10 + [409]
    assert (await post(event_type=offer(calendly, organization=1)))[0] == 403
    assert (await post(event_type=uri("event_types", "NONE")))[0] == 404
    person = {"email": "z@example.test", "timezone": "UTC"}
    for more, places in (
        ({"invitee": {"name": "Zoe"}}, ["invitee.email", "invitee.timezone"]),
        ({"invitee": person}, ["invitee.name"]),
        ({"start_time": "2020-01-01T09:00:00+01:00"}, ["start_time", "start_time"]),
        ({"location": {"kind": "physical"}}, ["location.kind"]),
        ({"event_type": offer(calendly, location="outbound_call")}, ["location.location"]),
        (
            {"questions_and_answers": [{"question": "company", "answer": "x", "position": 0}]},
            ["questions_and_answers[0].question"],
        ),
        ({"questions_and_answers": [{"answer": "x", "position": 0}]}, ["questions_and_answers[0].question"]),
        ({"tracking": {"utm_term": "x"}}, [f"tracking.{name}" for name in TRACKING if name != "utm_term"]),
        ({"event_guests": ["g@example.test"] * (MAX_GUESTS + 1)}, ["event_guests"]),
        ({"event_type": "30-minutes"}, ["event_type"]),
    ):
        status, body = await post(hours=80, **more)
        assert (status, [each["parameter"] for each in body["details"]]) == (400, places)
    await calendly.act("faults", rest_error_rate=1.0, rest_faults="writes")
    assert (await calendly.http.post("/invitees", json=asked(calendly, 90))).status_code == 502
    assert (await calendly.http.get("/users/me")).status_code == 200
