"""The simulator's sender against a real receiver: Calendly's rules, with days passing in moments."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.support.simulated_calendly import KEY, Receiver, SimulatedCalendly, receiving, simulated_calendly


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that acknowledges everything by default."""
    async with receiving() as found:
        yield found


@pytest.fixture
async def calendly() -> AsyncIterator[SimulatedCalendly]:
    """A simulator with a stopped clock."""
    async with simulated_calendly() as found:
        yield found


async def test_delivery_is_signed_as_the_official_sample_checks(
    calendly: SimulatedCalendly, receiver: Receiver
) -> None:
    """The header's HMAC covers `t`, a full stop and the body as it arrived; headers are the captured ones."""
    await calendly.subscribe(f"{receiver.url}/hook?x=1")
    await calendly.act("book")
    (delivery,) = receiver.deliveries
    stamp, value = delivery.headers["calendly-webhook-signature"].split(",")
    expected = hmac.new(KEY.encode(), stamp[2:].encode() + b"." + delivery.body, hashlib.sha256).hexdigest()
    assert (stamp, value) == ("t=1795000000", f"v1={expected}")
    assert delivery.headers["user-agent"] == "Calendly"
    assert delivery.headers["content-type"] == "application/json"
    assert delivery.headers["accept"] == "*/*"
    assert delivery.headers["accept-encoding"] == "gzip"
    assert delivery.headers["x-datadog-trace-id"].isdecimal()
    assert int(delivery.headers["content-length"]) == len(delivery.body)


async def test_without_a_key_there_is_no_signature(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A subscription made without a signing key sends no signature header at all."""
    await calendly.subscribe(receiver.url, signing_key=None)
    await calendly.act("book")
    assert "calendly-webhook-signature" not in receiver.deliveries[0].headers


@pytest.mark.parametrize("status", [301, 308, 400, 401, 404, 500, 503])
async def test_anything_but_2xx_is_tried_again(calendly: SimulatedCalendly, receiver: Receiver, status: int) -> None:
    """Redirects and 4xx are failures like 5xx; no redirect is followed; the retry carries the same body."""
    receiver.statuses = [status]
    await calendly.subscribe(f"{receiver.url}/hook")
    await calendly.act("book")
    assert calendly.states() == ["pending"]
    await calendly.advance(seconds=1)
    assert calendly.states() == ["acknowledged"]
    assert [each.path for each in receiver.deliveries] == ["/hook", "/hook"]
    assert receiver.deliveries[0].body == receiver.deliveries[1].body


async def test_a_message_waits_longer_after_each_failure(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """The back-off doubles: tried at 0, 1, 3 and 7 seconds and not in between."""
    receiver.status = 503
    await calendly.subscribe(receiver.url)
    await calendly.act("book")
    tried = []
    for second in range(1, 9):
        await calendly.advance(seconds=1)
        tried.append((second, len(receiver.deliveries)))
    assert tried == [(1, 2), (2, 2), (3, 3), (4, 3), (5, 3), (6, 3), (7, 4), (8, 4)]


async def test_a_failing_message_holds_up_no_other(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """Each message is retried on its own; `retry_started_at` shows while one waits and goes when it arrived."""
    receiver.statuses = [500]
    ident = await calendly.subscribe(receiver.url)
    await calendly.act("book")
    await calendly.act("book")
    assert calendly.states() == ["pending", "acknowledged"]
    assert (await calendly.subscription(ident))["retry_started_at"] == "2026-11-18T11:06:40.750000Z"
    await calendly.advance(seconds=1)
    assert calendly.states() == ["acknowledged", "acknowledged"]
    assert (await calendly.subscription(ident))["retry_started_at"] is None


async def test_a_day_of_failure_disables_the_subscription(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """After 24 h without a success the state is `disabled`, pending messages are abandoned, nothing new is sent."""
    receiver.status = 500
    ident = await calendly.subscribe(receiver.url)
    await calendly.act("book")
    for _ in range(23):
        await calendly.advance(hours=1)
    assert (await calendly.subscription(ident))["state"] == "active"
    await calendly.advance(hours=1)
    found = await calendly.subscription(ident)
    assert found["state"] == "disabled"
    assert found["retry_started_at"] == "2026-11-18T11:06:40.750000Z"
    assert calendly.states() == ["abandoned"]
    tried = len(receiver.deliveries)
    receiver.status = 204
    await calendly.act("book")
    await calendly.advance(hours=48)
    assert len(receiver.deliveries) == tried


async def test_one_success_in_the_day_keeps_the_subscription(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A message that fails for 24 h is given up alone when another one was delivered meanwhile."""
    receiver.status = 500
    ident = await calendly.subscribe(receiver.url)
    await calendly.act("book")
    await calendly.advance(hours=12)
    receiver.statuses = [204]
    await calendly.act("book")
    await calendly.advance(hours=12)
    assert calendly.states() == ["abandoned", "acknowledged"]
    found = await calendly.subscription(ident)
    assert (found["state"], found["retry_started_at"]) == ("active", None)


async def test_a_410_deletes_the_subscription_at_once(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """One 410 deletes the subscription; nothing is retried, what waited is given up, and nothing new is sent."""
    receiver.statuses = [500, 410]
    ident = await calendly.subscribe(receiver.url)
    await calendly.act("book")
    await calendly.act("book")
    assert calendly.states() == ["abandoned", "abandoned"]
    assert (await calendly.http.get(f"/webhook_subscriptions/{ident}")).status_code == 404
    await calendly.act("book")
    await calendly.advance(hours=25)
    assert len(receiver.deliveries) == 2


@pytest.mark.parametrize("set_", [True, False])
async def test_a_mark_after_its_meeting_can_be_dropped(
    calendly: SimulatedCalendly, receiver: Receiver, *, set_: bool
) -> None:
    """By setting, a message that fails a day after its meeting is dropped at once, and the hook stays active."""
    await calendly.act("faults", gives_up_after_meeting=set_)
    ident = await calendly.subscribe(receiver.url)
    await calendly.act("book", start="2026-11-18T12:00:00Z")
    await calendly.advance(hours=27)
    receiver.statuses = [500]
    await calendly.act("no-show")
    found = await calendly.subscription(ident)
    assert (calendly.states()[1], found["state"]) == ("abandoned" if set_ else "pending", "active")
    assert (found["retry_started_at"] is None) is set_
    # What was dropped does not count as a day of failures later.
    await calendly.advance(hours=1)
    receiver.statuses = [500]
    await calendly.advance(hours=30)
    await calendly.act("book")
    assert (await calendly.subscription(ident))["state"] == "active"


async def test_who_left_may_leave_a_silent_subscription(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """By setting, nothing comes over a subscription whose creator left, though it is listed as active."""
    ident = await calendly.subscribe(receiver.url)
    owner, admin = calendly.running.world.members(next(iter(calendly.running.world.organizations)))[:2]
    offer = next(each for each in calendly.running.world.event_types.values() if each.owner == admin.id)
    calendly.running.world.users[owner.id] = replace(owner, organization="ELSEWHERE")
    await calendly.act("book", event_type=offer.id)
    assert len(receiver.deliveries) == 1
    await calendly.act("faults", departed_silent=True)
    await calendly.act("book", event_type=offer.id)
    assert len(receiver.deliveries) == 1
    assert [each.state for each in calendly.running.engine.ledger.subscriptions() if each.id == ident] == ["active"]


async def test_retries_get_a_new_signature_or_keep_the_first(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """Whether a retry keeps its `t` is not documented, so the simulator can do both."""
    receiver.statuses = [500]
    await calendly.subscribe(receiver.url)
    await calendly.act("book")
    await calendly.advance(hours=1)
    await calendly.act("faults", retries_keep_signature=True)
    receiver.statuses = [500]
    await calendly.act("book")
    await calendly.advance(hours=1)
    times = [each.headers["calendly-webhook-signature"][2:12] for each in receiver.deliveries]
    assert times == ["1795000000", "1795003600", "1795003600", "1795003600"]
    assert (
        receiver.deliveries[2].headers["calendly-webhook-signature"]
        == (receiver.deliveries[3].headers["calendly-webhook-signature"])
    )


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("canceled-first", ["invitee.created", "invitee.canceled", "invitee.created"]),
        ("created-first", ["invitee.created", "invitee.created", "invitee.canceled"]),
    ],
)
async def test_reschedule_halves_come_in_the_order_asked_for(
    calendly: SimulatedCalendly, receiver: Receiver, order: str, expected: list[str]
) -> None:
    """Both halves name each other, only the old one says rescheduled, and the new one has its own event."""
    await calendly.subscribe(receiver.url)
    await calendly.act("book")
    await calendly.act("reschedule", order=order)
    assert [each.event for each in receiver.deliveries] == expected
    halves = {each.event: each.parsed["payload"] for each in receiver.deliveries[1:]}
    old, new = halves["invitee.canceled"], halves["invitee.created"]
    assert (old["rescheduled"], old["status"], old["new_invitee"]) == (True, "canceled", new["uri"])
    assert (new["rescheduled"], new["status"], new["old_invitee"]) == (False, "active", old["uri"])
    assert old["scheduled_event"]["status"] == "canceled"
    assert new["event"] != old["event"]


@pytest.mark.parametrize(("order", "at_once"), [("created-first", 1), ("together", 2)])
async def test_second_half_waits_for_the_first_answer(
    calendly: SimulatedCalendly, receiver: Receiver, order: str, at_once: int
) -> None:
    """In an order asked for, the second half leaves when the first was answered; `together` sends both at once."""
    await calendly.subscribe(receiver.url)
    await calendly.act("book")
    receiver.hold = asyncio.Event()
    await calendly.http.post("/simulator/reschedule", json={"order": order})
    await receiver.received(1 + at_once)
    for _ in range(5):
        in_flight = (await calendly.http.get("/simulator/ledger")).json()["in_flight"]
        assert in_flight == at_once
    receiver.hold.set()
    await receiver.received(3)


async def test_second_half_can_be_held_back(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A delay lets time of the simulator's clock pass between the halves."""
    await calendly.subscribe(receiver.url)
    await calendly.act("book")
    await calendly.act("reschedule", order="created-first", delay_seconds=600)
    await calendly.advance(seconds=599)
    assert [each.event for each in receiver.deliveries] == ["invitee.created", "invitee.created"]
    await calendly.advance(seconds=1)
    assert receiver.deliveries[2].event == "invitee.canceled"


async def test_moving_a_group_moves_each_invitee(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """When a host moves a group event every invitee makes a pair of halves into one new event."""
    await calendly.subscribe(receiver.url)
    booked = await calendly.act("book", places=3)
    moved = await calendly.act("move-event", event=booked["event"])
    events = [each.event for each in receiver.deliveries]
    assert (events.count("invitee.created"), events.count("invitee.canceled")) == (6, 3)
    created = [each.parsed["payload"] for each in receiver.deliveries if each.event == "invitee.created"][3:]
    assert {each["event"] for each in created} == {moved["event"]}
    assert {each["old_invitee"] for each in created} == set(booked["invitees"])


async def test_group_goes_on_when_one_leaves(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """One invitee's cancel leaves the group event active and lowers only its active count."""
    await calendly.subscribe(receiver.url)
    booked = await calendly.act("book", places=2)
    await calendly.act("cancel", invitee=booked["invitees"][0])
    event = receiver.deliveries[2].parsed["payload"]["scheduled_event"]
    assert event["status"] == "active"
    assert (event["invitees_counter"]["total"], event["invitees_counter"]["active"]) == (2, 1)


async def test_every_matching_subscription_gets_a_copy(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """Organization, user and group scope of one host make three copies that differ in nothing but the sender."""
    world = calendly.running.world
    host = world.members(next(iter(world.organizations)))[0]
    group = next(iter(world.groups))
    await calendly.subscribe(f"{receiver.url}/org")
    await calendly.subscribe(f"{receiver.url}/user", scope="user", user=f"https://api.calendly.com/users/{host.id}")
    await calendly.subscribe(f"{receiver.url}/group", scope="group", group=f"https://api.calendly.com/groups/{group}")
    offer = next(each for each in world.event_types.values() if each.owner == host.id)
    await calendly.act("book", event_type=offer.id)
    assert sorted(each.path for each in receiver.deliveries) == ["/group", "/org", "/user"]
    assert len({each.body for each in receiver.deliveries}) == 1
    stranger = world.members(host.organization)[3]
    other = next(each for each in world.event_types.values() if each.owner == stranger.id)
    await calendly.act("book", event_type=other.id)
    assert [each.path for each in receiver.deliveries[3:]] == ["/org"]


async def test_no_show_set_and_cleared(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A mark is delivered with its URI and does not change `updated_at`; a cleared one is null or absent."""
    await calendly.subscribe(receiver.url)
    await calendly.act("book")
    await calendly.advance(hours=1)
    marked = await calendly.act("no-show")
    await calendly.act("clear-no-show", absent=True)
    await calendly.act("no-show")
    await calendly.act("clear-no-show", absent=False)
    created, first, cleared, second, again = (each.parsed["payload"] for each in receiver.deliveries)
    assert first["no_show"]["uri"] == marked["no_show"] != second["no_show"]["uri"]
    assert first["updated_at"] == created["updated_at"]
    assert "no_show" not in cleared
    assert again["no_show"] is None


async def test_duplicates_come_after_their_original(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A duplicate rate of 1 sends each body twice, and the ledger says which is the copy."""
    await calendly.act("faults", duplicate_rate=1.0)
    await calendly.subscribe(receiver.url)
    await calendly.act("book")
    assert [each.body for each in receiver.deliveries] == [receiver.deliveries[0].body] * 2
    assert [message.duplicate_of for message, _ in calendly.ledger()] == [None, "m1"]


async def test_dropped_messages_are_never_sent(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """A drop rate of 1 books without telling anybody, and the ledger remembers what was dropped."""
    await calendly.act("faults", drop_rate=1.0)
    await calendly.subscribe(receiver.url)
    await calendly.act("book")
    await calendly.advance(hours=25)
    assert receiver.deliveries == []
    assert calendly.states() == ["dropped"]


async def test_lost_answers_and_wrong_signatures_end_in_retries(
    calendly: SimulatedCalendly, receiver: Receiver
) -> None:
    """A lost answer repeats a delivery that arrived; a wrong signature does not verify with the right key."""
    await calendly.subscribe(receiver.url)
    await calendly.act("faults", lost_answer_rate=1.0)
    await calendly.act("book")
    assert calendly.states() == ["pending"]
    await calendly.act("faults", lost_answer_rate=0.0, wrong_signature_rate=1.0)
    await calendly.advance(seconds=1)
    assert calendly.states() == ["acknowledged"]
    (_, attempts), *_ = calendly.ledger()
    assert [each.fault for each in attempts] == ["answer lost", "wrong signature"]
    wrong = receiver.deliveries[1]
    value = hmac.new(KEY.encode(), b"1795000001." + wrong.body, hashlib.sha256).hexdigest()
    assert value not in wrong.headers["calendly-webhook-signature"]


async def test_the_same_seed_makes_the_same_faults() -> None:
    """Two simulators with one seed drop and double the same messages, whatever order answers come in."""
    seen = []
    for _ in range(2):
        async with receiving() as receiver, simulated_calendly() as calendly:
            await calendly.act("faults", duplicate_rate=0.3, drop_rate=0.3, delay_seconds=60)
            await calendly.subscribe(receiver.url)
            for _ in range(30):
                await calendly.act("book")
            seen.append([(each.state, each.duplicate_of, each.due_at, each.resource) for each, _ in calendly.ledger()])
    assert seen[0] == seen[1]
    assert {state for state, *_ in seen[0]} == {"dropped", "pending"}


async def test_deleting_a_subscription_ends_its_retries(calendly: SimulatedCalendly, receiver: Receiver) -> None:
    """The pending messages of a deleted subscription are abandoned."""
    receiver.status = 500
    ident = await calendly.subscribe(receiver.url)
    await calendly.act("book")
    assert (await calendly.http.delete(f"/webhook_subscriptions/{ident}")).status_code == 204
    await calendly.advance(hours=1)
    assert len(receiver.deliveries) == 1
    assert calendly.states() == ["abandoned"]
