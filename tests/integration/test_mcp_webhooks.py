"""Webhook subscriptions: verified first, delivered in order and signed anew, never past what was not acknowledged."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest
import time_machine
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from slotwire.ingest.foundation.sealing import SealingKeys
from slotwire.ingest.local.databases import Database
from slotwire.ingest.mcp.events import delivery, rounds, verdicts
from slotwire.ingest.mcp.events.profiles import PROFILES, EventsProblem, EventsRefused
from slotwire.ingest.mcp.events.subscriptions import MAX_CHALLENGES
from tests.support.mcp_events import (
    CREATED,
    NOW,
    SECRET,
    Subscriber,
    World,
    booked,
    delivering,
    mcp_world,
    subscriber,
    until,
)
from tests.support.receiver import ReceivedPost, answer

CHAIN = str(uuid4())
"""The key of one booking: its events come one after the other."""
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(64))).decode()


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """A log, agents, and the methods on it."""
    async with mcp_world(database) as made:
        yield made


@pytest.fixture
async def hook() -> AsyncIterator[Subscriber]:
    """A webhook on this machine."""
    async with subscriber() as made:
        yield made


def verified(post: ReceivedPost, secret: str = SECRET, *, after: timedelta = timedelta()) -> dict[str, Any]:
    """Check a message with the reference library of Standard Webhooks, and return it."""
    with time_machine.travel(NOW + after, tick=False):
        Webhook(secret).verify(post.body, post.headers)
    read: dict[str, Any] = orjson.loads(post.body)
    return read


async def test_a_subscription_is_verified_and_then_delivered_in_order(world: World, hook: Subscriber) -> None:
    """Challenge first; then each event of a booking once, in order, with headers and a cursor; the place is kept."""
    agent = world.agent()
    await world.publish(booked(1))
    made = await world.subscribe(agent, hook.url)
    [challenge] = hook.receiver.received
    assert verified(challenge)["type"] == "verification"
    assert challenge.headers["webhook-id"].startswith("msg_verification_")
    events = [booked(2, key=CHAIN), booked(3, key=CHAIN, email="x@elsewhere.example"), booked(4, key=CHAIN)]
    async with delivering(world.events):
        last = await world.publish(*events)
        await until(lambda: len(hook.messages) == 3)
        await until(lambda: _is_at(world, made["id"], last))
    assert hook.event_ids == [str(each.id) for each in events]
    for post in hook.messages:
        told = verified(post)
        assert post.headers["webhook-id"] == told["eventId"]
        assert post.headers["x-mcp-subscription-id"] == made["id"]
        assert post.headers["content-type"] == "application/json"
        assert "type" not in told
    first = orjson.loads(hook.messages[0].body)
    polled = await world.poll(agent, first["cursor"])
    assert [each["eventId"] for each in polled["events"]] == [str(each.id) for each in events[1:]]
    assert polled["events"][0] == {k: v for k, v in orjson.loads(hook.messages[1].body).items() if k != "cursor"}


async def _is_at(world: World, subscription: str, position: int) -> bool:
    row = await world.subscription(subscription)
    return row is not None and row["position"] >= position


async def test_an_address_that_does_not_want_it_is_refused(world: World, hook: Subscriber) -> None:
    """A wrong or failing answer to the challenge makes no subscription, and the refusal says which it was."""
    agent = world.agent()
    hook.gives_back = False
    assert await _reason(world, agent, hook.url) == "challenge_failed"
    for status, word in ((500, "http_5xx"), (404, "http_4xx"), (302, "http_4xx")):
        hook.receiver.answers(answer(status, b"", "Location: http://127.0.0.1:1/"))
        assert await _reason(world, agent, hook.url) == word
    assert await _reason(world, agent, "http://127.0.0.1:1/") == "connection_refused"
    assert await world.owner.fetchval("SELECT count(*) FROM slotwire.mcp_subscriptions") == 0


async def _reason(world: World, agent: Any, url: str) -> Any:
    with pytest.raises(EventsRefused) as caught:
        await world.subscribe(agent, url)
    assert caught.value.problem is EventsProblem.CALLBACK_ENDPOINT_ERROR
    assert caught.value.data is not None
    return caught.value.data["reason"]


async def test_challenges_are_limited_and_remembered(world: World, hook: Subscriber) -> None:
    """An address is asked once a day for an agent and user; one that asks for too many new ones has to wait."""
    agent = world.agent()
    await world.subscribe(agent, hook.url)
    await world.subscribe(agent, hook.url, arguments={"origin": "webhook"}, secret=OTHER_SECRET)
    assert len(hook.receiver.received) == 1
    for number in range(MAX_CHALLENGES - 1):
        await world.subscribe(agent, f"{hook.url}?n={number}")
    with pytest.raises(EventsRefused) as caught:
        await world.subscribe(agent, f"{hook.url}?one-more")
    assert caught.value.problem is EventsProblem.RESOURCE_EXHAUSTED
    await world.subscribe(world.agent(), f"{hook.url}?another-agent")
    world.clock.advance(timedelta(minutes=1, seconds=1))
    await world.subscribe(agent, f"{hook.url}?one-more")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": "ftp://a.example/"}, EventsProblem.INVALID_PARAMS),
        ({"url": "https://u:p@a.example/"}, EventsProblem.INVALID_PARAMS),
        ({"url": "https://10.0.0.1/"}, EventsProblem.INVALID_PARAMS),
        ({"secret": "whsec_AAAA"}, EventsProblem.INVALID_PARAMS),
        ({"mode": "push"}, EventsProblem.UNSUPPORTED),
    ],
)
async def test_what_does_not_fit_makes_no_subscription(
    world: World, changes: dict[str, Any], problem: EventsProblem, hook: Subscriber
) -> None:
    """Addresses and secrets of another form, private addresses, modes with methods of their own."""
    whole = {"mode": "webhook", "url": hook.url, "secret": SECRET}
    assert await _refused(world, {"delivery": {**whole, **changes}}) is problem
    assert await _refused(world, {"delivery": None}) is EventsProblem.INVALID_PARAMS
    assert await _refused(world, {"delivery": whole, "ttlMs": "soon"}) is EventsProblem.INVALID_PARAMS


async def _refused(world: World, params: dict[str, Any]) -> EventsProblem:
    with pytest.raises(EventsRefused) as caught:
        await world.events.subscribing.subscribe(world.agent(), {"name": CREATED, **params})
    assert SECRET not in caught.value.message
    return caught.value.problem


async def test_the_same_subscription_is_one_however_it_is_written(world: World, hook: Subscriber) -> None:
    """The order of arguments does not matter; a refresh moves the end, keeps the place, and changes the secret."""
    agent = world.agent()
    one = await world.subscribe(agent, hook.url, arguments={"origin": "webhook", "invitee_domain": "a.example"})
    again = await world.subscribe(
        agent, hook.url, arguments={"invitee_domain": "a.example", "origin": "webhook"}, ttlMs=None
    )
    assert again["id"] == one["id"]
    assert again["deliveryStatus"] == {"active": True, "lastDeliveryAt": None, "lastError": None}
    assert one["refreshBefore"] == "2026-11-27T10:00:00Z"
    assert again["refreshBefore"] == "2026-11-28T09:00:00Z"
    assert (await world.subscribe(world.agent(), hook.url, arguments={"origin": "webhook"}))["id"] != one["id"]
    row = await world.subscription(one["id"])
    assert SECRET not in str(dict(row))
    delivery_of = {"name": CREATED, "arguments": {"origin": "webhook", "invitee_domain": "a.example"}}
    ended = {**delivery_of, "delivery": {"mode": "webhook", "url": hook.url}}
    assert await world.events.subscribing.unsubscribe(agent, ended) == {}
    assert await world.subscription(one["id"]) is None
    with pytest.raises(EventsRefused) as caught:
        await world.events.subscribing.unsubscribe(agent, ended)
    assert (caught.value.problem, caught.value.data) == (EventsProblem.NOT_FOUND, {"kind": "subscription"})
    assert await world.events.subscribing.unsubscribe(replace(agent, profile="chatgpt"), ended) == {}


async def test_a_rotation_signs_with_both_secrets(world: World, hook: Subscriber) -> None:
    """After a refresh with another secret receivers of either one verify; later only those of the new one."""
    agent = world.agent()
    await world.publish(booked(1))
    await world.subscribe(agent, hook.url)
    await world.subscribe(agent, hook.url, secret=OTHER_SECRET, ttlMs=None)
    async with delivering(world.events):
        await world.publish(booked(2))
        await until(lambda: len(hook.messages) == 1)
        for secret in (SECRET, OTHER_SECRET):
            verified(hook.messages[0], secret)
        world.clock.advance(timedelta(hours=2))
        await world.publish(booked(3))
        await until(lambda: len(hook.messages) == 2)
    verified(hook.messages[1], OTHER_SECRET, after=timedelta(hours=2))
    with pytest.raises(WebhookVerificationError):
        verified(hook.messages[1], SECRET, after=timedelta(hours=2))


async def test_a_failure_is_tried_again_with_the_same_id_and_a_new_signature(world: World, hook: Subscriber) -> None:
    """503 holds this subscription only, in order; what follows waits, and the watermark with it."""
    agent, other = world.agent(), world.agent()
    await world.publish(booked(1))
    held = await world.subscribe(agent, hook.url)
    async with subscriber() as lively:
        await world.subscribe(other, lively.url)
        hook.statuses = [503]
        before = (await world.subscription(held["id"]))["position"]
        async with delivering(world.events) as deliveries:
            events = [booked(2, key=CHAIN), booked(3, key=CHAIN)]
            last = await world.publish(*events)
            await until(lambda: len(hook.messages) == 1 and len(lively.messages) == 2)
            await until(lambda: _has_tried(world, held["id"], 1))
            row = await world.subscription(held["id"])
            assert (row["position"], row["last_error"]) == (before, "http_5xx")
            world.clock.advance(timedelta(seconds=2))
            deliveries.ring()
            await until(lambda: _is_at(world, held["id"], last))
    assert hook.event_ids == [str(events[0].id), str(events[0].id), str(events[1].id)]
    first, second = hook.messages[:2]
    assert first.body == second.body
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    assert lively.event_ids == [str(each.id) for each in events]


async def _has_tried(world: World, subscription: str, tries: int) -> bool:
    return bool((await world.subscription(subscription))["tries"] == tries)


@pytest.mark.parametrize("profile", sorted(PROFILES))
async def test_what_is_given_up_is_a_gap_that_is_told(world: World, hook: Subscriber, profile: str) -> None:
    """410 is final for one event. No cursor passes it before the client was told: by `gap`, or by the next refresh."""
    agent = world.agent(profile=profile)
    await world.publish(booked(1))
    made = await world.subscribe(agent, hook.url)
    hook.statuses = [410]
    lost, after = booked(2, key=CHAIN), booked(3, key=CHAIN)
    own_ids = PROFILES[profile].own_message_ids
    async with delivering(world.events):
        last = await world.publish(lost, after)
        await until(lambda: _is_at(world, made["id"], last))
    bodies = [orjson.loads(each.body) for each in hook.messages]
    named = [each.headers["webhook-id"] for each in hook.messages]
    assert (named[0] == str(lost.id)) is not own_ids
    assert named[0].startswith("msg_event_") is own_ids
    if PROFILES[profile].tells_gaps:
        assert [body.get("type", "event") for body in bodies] == ["event", "gap", "event"]
        assert (await world.poll(agent, bodies[1]["cursor"]))["events"][0]["eventId"] == str(after.id)
        assert (await world.subscribe(agent, hook.url))["truncated"] is False
        return
    assert [body["eventId"] for body in bodies] == [str(lost.id), str(after.id)]
    behind = await world.poll(agent, bodies[1]["cursor"])
    assert [each["eventId"] for each in behind["events"]] == [str(lost.id), str(after.id)], "the watermark waits"
    told = await world.subscribe(agent, hook.url, cursor=bodies[1]["cursor"])
    assert told["truncated"] is True
    assert (await world.subscribe(agent, hook.url, cursor=bodies[1]["cursor"]))["truncated"] is True, "not seen yet"
    assert (await world.subscribe(agent, hook.url, cursor=told["cursor"]))["truncated"] is False


async def test_who_never_answers_is_given_up_and_suspended(world: World, hook: Subscriber) -> None:
    """After all tries an event is given up, after some of these nothing is sent; a refresh goes on from there."""
    agent = world.agent()
    await world.publish(booked(1))
    made = await world.subscribe(agent, hook.url)
    hook.statuses = [500] * 200
    world.events.deliveries._rounds.again = ()
    events = [booked(number) for number in range(2, 10)]
    async with delivering(world.events) as deliveries:
        last = await world.publish(*events)
        await until(lambda: _is_inactive(world, made["id"]))
        row = await world.subscription(made["id"])
        assert row["gap_from"] is not None
        assert row["position"] < last
        tried = len(hook.messages)
        hook.statuses = []
        refreshed = await world.subscribe(agent, hook.url)
        assert refreshed["truncated"] is True
        assert refreshed["deliveryStatus"]["lastError"] == "http_5xx"
        deliveries.ring()
        await until(lambda: _is_at(world, made["id"], last))
    left = hook.event_ids[-(len(events) - verdicts.SUSPEND_AFTER + 1) :]
    assert left == [str(each.id) for each in events[verdicts.SUSPEND_AFTER - 1 :]]
    assert tried < len(hook.messages)


async def _is_inactive(world: World, subscription: str) -> bool:
    return not (await world.subscription(subscription))["active"]


async def test_an_end_stops_it_and_a_refresh_after_it_goes_on_from_its_cursor(world: World, hook: Subscriber) -> None:
    """An expired subscription is sent nothing; its client comes back with its cursor and misses nothing."""
    agent = world.agent()
    await world.publish(booked(1))
    made = await world.subscribe(agent, hook.url, ttlMs=60_000)
    async with delivering(world.events) as deliveries:
        world.clock.advance(timedelta(minutes=2))
        missed = booked(2)
        await world.publish(missed)
        await until(lambda: not deliveries.held)
        assert hook.messages == []
        again = await world.subscribe(agent, hook.url, cursor=made["cursor"])
        assert (again["id"], again["truncated"], "deliveryStatus" in again) == (made["id"], False, False)
        await until(lambda: hook.event_ids == [str(missed.id)])


async def test_one_whose_secret_does_not_open_holds_up_no_other(world: World, hook: Subscriber) -> None:
    """A key that is gone costs one subscription its deliveries, until its host refreshes it; then nothing is missed."""
    agent, other = world.agent(), world.agent()
    first, second = await world.subscribe(agent, hook.url), await world.subscribe(other, hook.url)
    sealed = SealingKeys({"gone": bytes(32)}, "").seal(bytes(32), context=("mcp_subscriptions", first["id"]))
    await world.owner.execute("UPDATE slotwire.mcp_subscriptions SET secret = $2 WHERE id = $1", first["id"], sealed)
    async with delivering(world.events):
        await world.publish(booked(1))
        await until(lambda: len(hook.messages) == 1)
        world.events.subscribing._most = 1  # as many as the agent has
        assert not (await world.subscribe(agent, hook.url))["truncated"]
        await until(lambda: len(hook.messages) == 2)
    assert [post.headers["x-mcp-subscription-id"] for post in hook.messages] == [second["id"], first["id"]]
    verified(hook.messages[1])


async def test_a_revoked_agent_is_told_nothing_more(world: World, hook: Subscriber) -> None:
    """Also what waited for another try is not sent; the subscription ends, and its host is told."""
    agent = world.agent()
    await world.publish(booked(1))
    made = await world.subscribe(agent, hook.url)
    hook.statuses = [503]
    async with delivering(world.events) as deliveries:
        await world.publish(booked(2))
        await until(lambda: _has_tried(world, made["id"], 1))
        world.revoke(agent)
        world.events.access.forget()
        world.clock.advance(timedelta(seconds=2))
        deliveries.ring()
        await until(lambda: len(hook.messages) == 2)
        await until(lambda: _is_gone(world, made["id"]))
    told = verified(hook.messages[1])
    assert (told["type"], told["error"]["code"]) == ("terminated", -32024)


async def test_data_that_is_too_large_is_told_by_reference(world: World, hook: Subscriber) -> None:
    """No body is longer than 256 KiB."""
    agent = world.agent()
    await world.publish(booked(1))
    await world.subscribe(agent, hook.url)
    hosts = [{"user": "https://api.calendly.com/users/HOST", "user_name": "x" * 400} for _ in range(700)]
    large = booked(2, data={"scheduled_event": {"uri": "E", "event_memberships": hosts}})
    async with delivering(world.events):
        await world.publish(large)
        await until(lambda: len(hook.messages) == 1)
    [post] = hook.messages
    assert len(post.body) <= 262_144
    assert orjson.loads(post.body)["data"] == {"reference": f"/v1/events/{large.id}"}


async def test_two_replicas_share_and_take_over(world: World, hook: Subscriber, database: Database) -> None:
    """Each has half of the slots; when one is gone the other one has all, and goes on where it was."""
    agent = world.agent()
    await world.publish(booked(1))
    urls = [f"{hook.url}?n={number}" for number in range(8)]
    for url in urls:
        await world.subscribe(agent, url)
    async with delivering(world.another()) as theirs:
        async with delivering(world.events) as ours:
            await until(lambda: len(ours._mine) == len(theirs._mine) == 32)
            await world.publish(booked(2))
            await until(lambda: len({each.path for each in hook.messages}) == len(urls))
            assert len(hook.messages) == len(urls)
        await until(lambda: len(theirs._mine) == 64 and len(theirs.held) == len(urls))
        await world.publish(booked(3))
        await until(lambda: len(hook.messages) == 2 * len(urls))


async def test_what_nothing_comes_for_keeps_its_place_and_what_ended_is_removed(
    world: World, hook: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscription moves past events of others and reads none of them again; one that ended a day ago is gone."""
    monkeypatch.setattr(rounds, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(delivery, "SWEEP_SECONDS", 0.0)
    made = await world.subscribe(world.agent(), hook.url, arguments={"invitee_domain": "rare.example"}, ttlMs=None)
    ended = await world.subscribe(world.agent(), hook.url, ttlMs=60_000)
    async with delivering(world.events) as deliveries:
        last = await world.publish(booked(1), booked(2))
        await until(lambda: _is_at(world, made["id"], last))
        await until(lambda: _has_seen_the_end(world, made["id"]))
        world.clock.advance(timedelta(hours=23))
        await world.subscribe(world.agent(), hook.url, arguments={"origin": "own"})
        deliveries.ring()
        assert await world.subscription(ended["id"]) is not None
        world.clock.advance(timedelta(hours=2))
        deliveries.ring()
        await until(lambda: _is_gone(world, ended["id"]))


async def _has_seen_the_end(world: World, subscription: str) -> bool:
    return (await world.subscription(subscription))["seen_at"] is not None


async def _is_gone(world: World, subscription: str) -> bool:
    return await world.subscription(subscription) is None
