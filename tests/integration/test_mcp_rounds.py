"""Rounds of webhook subscriptions: what goes together, what waits, and what is not sent any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import orjson
import pytest

from slotwire.ingest.local.databases import Database
from tests.support.mcp_events import Subscriber, World, booked, delivering, mcp_world, subscriber, until
from tests.support.receiver import ReceivedPost, answer

CHAIN = str(uuid4())
"""The key of one booking: its events come one after the other."""


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


async def test_bookings_go_together_and_the_watermark_waits_for_the_first(world: World, hook: Subscriber) -> None:
    """Several bookings are under way at once, one of each; what was acknowledged behind a failure is not sent again."""
    agent = world.agent()
    await world.publish(booked(1))
    made = await world.subscribe(agent, hook.url)
    first, other, again = booked(2, key=CHAIN), booked(3), booked(4, key=CHAIN)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def reply(post: ReceivedPost, writer: asyncio.StreamWriter) -> bytes:
        if hook.event_ids.count(str(first.id)) == 1 and post.headers["webhook-id"] == str(first.id):
            begun.set()
            await go_on.wait()
            return answer(503)
        return await hook.reply(post, writer)

    hook.receiver.reply = reply
    before = (await world.subscription(made["id"]))["position"]
    async with delivering(world.events) as deliveries:
        last = await world.publish(first, other, again)
        await begun.wait()
        await until(lambda: len(hook.messages) == 2)
        go_on.set()
        await until(lambda: _has_tried(world, made["id"], 1))
        assert (await world.subscription(made["id"]))["position"] == before
        world.clock.advance(timedelta(seconds=2))
        deliveries.ring()
        await until(lambda: _is_at(world, made["id"], last))
    assert sorted(hook.event_ids[:2]) == sorted([str(first.id), str(other.id)])
    assert hook.event_ids[2:] == [str(first.id), str(again.id)]
    early = next(each for each in hook.messages if each.headers["webhook-id"] == str(other.id))
    behind = await world.poll(agent, orjson.loads(early.body)["cursor"])
    assert [each["eventId"] for each in behind["events"]] == [str(each.id) for each in (first, other, again)]


async def _is_at(world: World, subscription: str, position: int) -> bool:
    return bool((await world.subscription(subscription))["position"] >= position)


async def _has_tried(world: World, subscription: str, tries: int) -> bool:
    return bool((await world.subscription(subscription))["tries"] == tries)
