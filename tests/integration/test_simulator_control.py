"""Loads, stories and the control addresses."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from slotwire.ingest.simulator.app import Options
from slotwire.ingest.simulator.scenarios import MAX_LOAD, LoadPlan
from tests.support.simulated_calendly import INVITEE_EVENTS, Receiver, SimulatedCalendly, receiving, simulated_calendly

ALL_EVENTS = (*INVITEE_EVENTS, "routing_form_submission.created")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that acknowledges everything by default."""
    async with receiving() as found:
        yield found


@pytest.fixture
async def calendly(receiver: Receiver) -> AsyncIterator[SimulatedCalendly]:
    """A simulator whose clock runs, subscribed to every event it can cause."""
    async with simulated_calendly(still=False) as found:
        await found.subscribe(receiver.url, events=ALL_EVENTS)
        yield found


async def _load(calendly: SimulatedCalendly, **plan: object) -> dict[str, Any]:
    answer = await calendly.http.post("/simulator/load", json=plan)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_load_sends_everything_and_reports_it(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """The report, the ledger and the receiver have the same number of deliveries; every kind is among them."""
    report = await _load(calendly, count=500, concurrency=32)
    assert 500 <= report["messages"] <= 501
    assert report["acknowledged"] == report["messages"] == len(receiver.deliveries)
    assert (report["pending"], report["abandoned"], report["dropped"], report["failures"]) == (0, 0, 0, {})
    assert report["answer_ms"]["p50"] <= report["answer_ms"]["p99"] <= report["answer_ms"]["max"]
    assert receiver.most_at_once <= 32
    ledger = (await calendly.http.get("/simulator/ledger")).json()
    assert ledger["states"]["acknowledged"] == report["messages"]
    assert {each.event for each in receiver.deliveries} == set(ALL_EVENTS)


async def test_load_respects_its_concurrency(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A load that asks for 3 in flight has 3, though the sender could do more, and gives the slots back after it."""
    receiver.hold = asyncio.Event()
    load = asyncio.create_task(_load(calendly, count=30, concurrency=3))
    await receiver.received(3)
    for _ in range(5):
        assert (await calendly.http.get("/simulator/ledger")).json()["in_flight"] == 3
    receiver.hold.set()
    await load
    assert receiver.most_at_once == 3
    assert calendly.running.engine.sender.limit == 64


async def test_load_delivers_each_booking_in_order(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """Without a fault, the receiver gets no cancellation or no-show of an invitee before its creation."""
    await _load(calendly, count=400, order="canceled-first")
    seen: set[str] = set()
    for delivery in receiver.deliveries:
        if delivery.event == "invitee.created":
            seen.add(delivery.parsed["payload"]["uri"])
        elif delivery.event.startswith("invitee"):
            assert delivery.parsed["payload"]["uri"] in seen
    assert seen


async def test_the_same_seed_makes_the_same_load(receiver: Receiver) -> None:
    """Two simulators with one seed send the same events about the same invitees, in any order."""
    sent = []
    for _ in range(2):
        async with simulated_calendly() as calendly:
            await calendly.subscribe(receiver.url, events=ALL_EVENTS)
            await _load(calendly, count=200, seed="7")
            sent.append(Counter(each.body for each in receiver.deliveries))
            receiver.deliveries.clear()
    assert sent[0] == sent[1]


async def test_load_survives_an_outage(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """While the receiver refuses, everything waits; when it accepts again, all of it arrives."""
    receiver.status = 503
    load = asyncio.create_task(_load(calendly, count=100, concurrency=16))
    await receiver.received(16)
    receiver.status = 204
    report = await load
    assert report["acknowledged"] == report["messages"] >= 100
    assert report["failures"]["503"] >= 16
    assert report["attempts"] == report["messages"] + report["failures"]["503"]


async def test_load_says_what_is_pending_when_its_time_is_up(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A receiver that never accepts leaves everything pending in the report, not lost."""
    receiver.status = 503
    report = await _load(calendly, count=10, timeout_seconds=0.3)
    assert report["pending"] == report["messages"] > 0
    assert report["acknowledged"] == 0


async def test_load_respects_its_rate(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """At 200 a second 100 deliveries take half a second, not less."""
    report = await _load(calendly, count=100, rate=200)
    assert report["acknowledged"] == report["messages"]
    assert 0.4 < report["seconds"] < 60
    assert len(receiver.deliveries) == report["messages"]


async def test_load_follows_its_mix(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A mix of one plot has that plot's events only."""
    await _load(calendly, count=20, mix={"canceled": 1})
    assert Counter(each.event for each in receiver.deliveries) == {"invitee.created": 10, "invitee.canceled": 10}


async def test_load_without_a_subscriber_says_so() -> None:
    """Nobody subscribed is an error with words, not a load that never ends."""
    async with simulated_calendly() as calendly:
        answer = await calendly.http.post("/simulator/load", json={"count": 1})
        assert (answer.status_code, answer.json()["message"]) == (
            409,
            "there is no subscription: create a webhook subscription first",
        )


@pytest.mark.parametrize(
    "plan",
    [{"count": 0}, {"count": MAX_LOAD + 1}, {"count": 1, "rate": 0.0}, {"count": 1, "mix": (("kept", 0),)}],
)
def test_a_load_has_limits(plan: dict[str, Any]) -> None:
    """No deliveries, more than a million, no rate and an empty mix are refused; the limit itself is not."""
    with pytest.raises(ValueError, match=r"count|rate|mix"):
        LoadPlan(**plan)
    assert LoadPlan(count=MAX_LOAD).count == MAX_LOAD


async def test_a_story_makes_its_bookings_and_ends(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A bounded story ends after its bookings and has a line for every step."""
    answer = await calendly.http.post("/simulator/story", json={"count": 5, "interval_seconds": 0, "wait": True})
    report = answer.json()
    assert (report["bookings"], report["finished"], report["first_line"]) == (5, True, 1)
    assert len(report["lines"]) >= 5
    await calendly.settled()
    assert len(receiver.deliveries) >= len(report["lines"])


async def test_an_endless_story_stops_with_its_job(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A story without a count goes on until its job is deleted."""
    job = (await calendly.http.post("/simulator/story", json={"interval_seconds": 0.001})).json()
    await receiver.received(20)
    stopped = (await calendly.http.delete(f"/simulator/jobs/{job['id']}")).json()
    assert (stopped["running"], stopped["finished"]) == (False, False)
    report = (await calendly.http.get(f"/simulator/jobs/{job['id']}")).json()
    assert report == stopped


async def test_send_posts_any_bytes_once(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """Bytes that are no JSON arrive as they are, signed with the subscription's key or wrongly or not; no retry."""
    ident = calendly.running.engine.ledger.subscriptions()[0].id
    receiver.statuses = [400]
    body = b"\xff\x00 not json"
    sent = await calendly.act("send", subscription=ident, body_base64=base64.b64encode(body).decode())
    assert (sent["status"], receiver.deliveries[0].body) == (400, body)
    for signing in ("wrong", "none"):
        await calendly.act(
            "send", subscription=ident, body="{}", signing=signing, headers={"Content-Type": "text/plain"}
        )
    signatures = [each.headers.get("calendly-webhook-signature", "") for each in receiver.deliveries]
    assert [len(each) for each in signatures] == [len("t=1795000000,v1=") + 64] * 2 + [0]
    assert receiver.deliveries[1].headers["content-type"] == "text/plain"
    assert calendly.states() == []


async def test_send_can_sign_for_another_time(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A negative age signs for the future, a positive one for the past."""
    ident = calendly.running.engine.ledger.subscriptions()[0].id
    for age in (-600, 0, 86_400):
        await calendly.act("send", subscription=ident, body="{}", age_seconds=age)
    ahead, now, old = (int(each.headers["calendly-webhook-signature"][2:12]) for each in receiver.deliveries)
    assert 540 <= ahead - now <= 600
    assert 86_340 <= now - old <= 86_400


async def test_deliveries_are_listed_in_pages(calendly: SimulatedCalendly) -> None:
    """Pages cover every message once; filters and bodies work; a single one shows its body."""
    for _ in range(5):
        await calendly.act("book")
    await calendly.act("cancel")
    seen: list[dict[str, Any]] = []
    after = "m0"
    while after:
        page = (await calendly.http.get("/simulator/deliveries", params={"after": after, "count": 4})).json()
        seen += page["items"]
        after = page["next_cursor"]
    assert [each["id"] for each in seen] == [f"m{number}" for number in range(1, 7)]
    assert all(each["state"] == "acknowledged" and each["attempts"][0]["status"] == 204 for each in seen)
    query = {"event": "invitee.canceled", "bodies": "true"}
    (canceled,) = (await calendly.http.get("/simulator/deliveries", params=query)).json()["items"]
    assert '"event":"invitee.canceled"' in canceled["body"]
    assert (await calendly.http.get("/simulator/deliveries/m6")).json() == canceled
    about = (await calendly.http.get("/simulator/deliveries", params={"resource": canceled["resource"]})).json()
    assert [each["event"] for each in about["items"]] == ["invitee.created", "invitee.canceled"]


async def test_actions_wait_for_their_first_attempt(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """With `wait_seconds` the answer holds how each delivery ended, also when it failed."""
    receiver.statuses = [204, 500]
    for status, state in ((204, "acknowledged"), (500, "pending")):
        answer = await calendly.http.post("/simulator/book", json={"wait_seconds": 60})
        (delivery,) = answer.json()["deliveries"]
        assert (delivery["state"], delivery["attempts"][0]["status"]) == (state, status)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("book", {"nmae": "x"}, 400),
        ("book", {"places": 11}, 400),
        ("book", {"start": "tomorrow"}, 400),
        ("book", {"organization": "nowhere"}, 404),
        ("book", {"event_type": "nothing"}, 404),
        ("cancel", {"invitee": "nobody"}, 404),
        ("cancel", {}, 404),
        ("reschedule", {"order": "sideways"}, 400),
        ("no-show", {"invitee": "nobody"}, 404),
        ("clear-no-show", {"invitee": "nobody"}, 404),
        ("clock", {"advance_seconds": -1}, 400),
        ("clock", {}, 400),
        ("faults", {"drop_rate": 1.1}, 400),
        ("send", {}, 400),
        ("send", {"subscription": "none"}, 404),
        ("load", {"count": 0}, 400),
        ("load", {"count": 1, "mix": {"kept": 0}}, 400),
        ("load", {"count": 1, "mix": {"unheard": 1}}, 400),
        ("tokens", {"user": "nobody"}, 404),
        ("tokens/state", {"token": "none", "state": "revoked"}, 404),
    ],
)
async def test_wrong_requests_get_a_readable_error(path: str, body: dict[str, object], status: int) -> None:
    """Every wrong request names what is wrong and changes nothing."""
    async with simulated_calendly() as calendly:
        answer = await calendly.http.post(f"/simulator/{path}", json=body)
        assert answer.status_code == status
        assert answer.json()["message"]
        assert calendly.states() == []


@pytest.mark.parametrize("head", [{"Origin": "https://example.com"}, {"Host": "rebound.example.com"}])
async def test_browsers_are_not_answered(head: dict[str, str]) -> None:
    """A page that reaches loopback, directly or by a rebound name, gets 403 and causes nothing."""
    async with simulated_calendly() as calendly:
        answer = await calendly.http.post("/simulator/book", json={}, headers=head)
        assert answer.status_code == 403
        listing = {"organization": calendly.running.organization}
        assert (await calendly.http.get("/scheduled_events", params=listing)).json()["collection"] == []


async def test_rest_can_fail_before_or_after_the_change(calendly: SimulatedCalendly) -> None:
    """An error answers HTML and does nothing; a lost answer looks the same, but the change is made.

    One beyond the limit has not been made, and one that is never answered has.
    """
    (invitee,) = (await calendly.act("book"))["invitees"]
    path = invitee.removeprefix("https://api.calendly.com")

    async def marked() -> bool:
        return (await calendly.http.get(path)).json()["resource"]["no_show"] is not None

    async def mark(**fault: float) -> httpx.Response | None:
        await calendly.act("faults", **fault)
        try:
            return await calendly.http.post("/invitee_no_shows", json={"invitee": invitee})
        except httpx.RemoteProtocolError:
            return None
        finally:
            await calendly.act("faults", **dict.fromkeys(fault, 0.0) | {"rest_error_status": 502})

    for status, fault, made in (
        (500, {"rest_error_rate": 1.0, "rest_error_status": 500}, False),
        (502, {"rest_lost_answer_rate": 1.0}, True),
    ):
        answer = await mark(**fault)
        assert answer is not None
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert await marked() is made
    await calendly.act("clear-no-show", invitee=invitee)
    refused = await mark(rest_limited_rate=1.0)
    assert refused is not None
    assert (refused.status_code, refused.headers["x-ratelimit-remaining"], await marked()) == (429, "0", False)
    assert (await mark(rest_unanswered_rate=1.0), await marked()) == (None, True)


async def test_rest_can_be_slow(calendly: SimulatedCalendly) -> None:
    """An answer takes as long as asked for, and is counted when it is given; others are made meanwhile."""
    calls, loop = calendly.running.gate.calls, asyncio.get_running_loop()
    await calendly.act("faults", rest_delay_seconds=0.1)
    began, before = loop.time(), calls.next_number()
    answers = await asyncio.gather(*(calendly.http.get("/users/me") for _ in range(3)))
    assert {answer.status_code for answer in answers} == {200}
    assert loop.time() - began >= 0.1
    assert calls.next_number() == before + 3
    await calendly.act("faults", rest_delay_seconds=0)


async def test_a_group_event_has_room_for_ten() -> None:
    """Ten places can be taken, the eleventh invitee is refused, and so is a canceled event."""
    async with simulated_calendly() as calendly:
        event = (await calendly.act("book", places=10))["event"]
        full = await calendly.http.post("/simulator/book", json={"event": event})
        assert (full.status_code, full.json()["message"]) == (403, "The event is full or canceled")
        await calendly.act("cancel-event", event=event)
        gone = await calendly.http.post("/simulator/book", json={"event": event})
        assert gone.status_code == 403


async def test_several_organizations_keep_their_events_apart(receiver: Receiver) -> None:
    """A booking of one organization reaches only the subscribers of that organization."""
    async with simulated_calendly(Options(organizations=2)) as calendly:
        await calendly.subscribe(receiver.url)
        other = list(calendly.running.world.organizations)[1]
        await calendly.act("book", organization=other)
        assert receiver.deliveries == []
        await calendly.act("book")
        assert len(receiver.deliveries) == 1
