"""Rounds of webhook subscriptions: what goes together, what waits, and what is not sent any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest

from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.mcp.agents import Agents
from slotwire.ingest.mcp.events.service import McpEvents
from slotwire.ingest.mcp.events.stream import PREFIX
from slotwire.ingest.mcp.principal import AgentPrincipal
from slotwire.schemas.events import BY_TYPE
from tests.support.mcp_events import (
    CREATED,
    Subscriber,
    World,
    booked,
    delivering,
    mcp_world,
    opened_events,
    subscriber,
    until,
)
from tests.support.receiver import ReceivedPost, answer

SUBSCRIPTIONS = 8
_AGENT = """
INSERT INTO slotwire.mcp_agents (id, name, hash, orgs, users, tools, event_types, label, created_at)
VALUES ($1, $2, sha256('x'), '{A}', '{}', '{}', $3, '', $4)
"""
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


_REVOCATIONS = {
    "agent": "UPDATE slotwire.mcp_agents SET revoked_at = $1",
    "connection": "UPDATE slotwire.connections SET state = 'revoked', reason = 'gone', changed_at = $1",
    "organization": "UPDATE slotwire.organizations SET ended_at = $1",
}
"""What takes everything from an agent, by what is revoked."""


@pytest.mark.parametrize("what", _REVOCATIONS)
async def test_nothing_is_sent_once_a_replica_has_seen_a_revocation(world: World, hook: Subscriber, what: str) -> None:
    """Requests that wait for their turn are not made, streams end; every replica is told at the commit."""
    agent, now = world.agent(), world.clock.now()
    await world.owner.execute(_AGENT, agent.agent, agent.name, sorted(BY_TYPE), now)
    await world.publish(booked(1))
    for number in range(SUBSCRIPTIONS):
        await world.subscribe(agent, f"{hook.url}?n={number}")
    came, go_on = list[bytes](), asyncio.Event()

    async def reply(post: ReceivedPost, writer: asyncio.StreamWriter) -> bytes:
        if b'"eventId"' in post.body:
            came.append(post.body)
            await go_on.wait()  # the only turn of its replica
        return await hook.reply(post, writer)

    hook.receiver.reply = reply
    async with real_replicas(world) as replicas, AsyncExitStack() as running:
        for each in replicas:
            await running.enter_async_context(delivering(each))
        await until(lambda: _is_shared(replicas))
        streams = [await running.enter_async_context(streaming(each, agent)) for each in replicas]
        await world.publish(booked(2))
        await until(lambda: len(came) == len(replicas) and all(each.count("event") == 1 for each in streams))
        await world.owner.execute(_REVOCATIONS[what], now)
        await until(lambda: all(each.access.forgotten for each in replicas))
        await world.publish(booked(3))
        go_on.set()
        await until(lambda: all(each[-1] == "terminated" for each in streams))
        await until(lambda: _told_of_ends(hook) == SUBSCRIPTIONS)
        await until(lambda: not any(each.deliveries.held for each in replicas))
        await until(lambda: _are_gone(world))
    assert len(came) == len(replicas)
    assert [each.count("event") for each in streams] == [1, 1]


async def _are_gone(world: World) -> bool:
    return not await world.owner.fetchval("SELECT count(*) FROM slotwire.mcp_subscriptions")


@asynccontextmanager
async def real_replicas(world: World) -> AsyncIterator[list[McpEvents]]:
    """Put two processes' methods together, with agents as they are stored, and one turn each for requests to a host."""
    url = world.database.url_of["mcp"]
    async with create_pool(url, DatabaseSettings(pool_size=2), application="mcp") as pool:
        agents = Agents(pool, world.clock, timedelta(minutes=15))
        async with (
            opened_events(url, agents, clock=world.clock, at_once=1) as first,
            opened_events(url, agents, clock=world.clock, at_once=1) as second,
        ):
            yield [first(), second()]


@asynccontextmanager
async def streaming(events: McpEvents, agent: AgentPrincipal) -> AsyncIterator[list[str]]:
    """Read a stream while the block runs; yields the names of what came."""
    told = list[str]()

    async def send(method: str, _: dict[str, Any]) -> None:
        told.append(method.removeprefix(PREFIX))

    task = asyncio.create_task(events.streams(agent, {"name": CREATED, "arguments": {}}, 1, send))
    try:
        await until(lambda: bool(told))
        yield told
    finally:
        task.cancel()
        await asyncio.wait([task])


def _is_shared(replicas: Sequence[McpEvents]) -> bool:
    """Say whether each delivers a part of the subscriptions; have them look."""
    held = [len(each.deliveries.held) for each in replicas]
    for each in replicas:
        each.deliveries.ring()
    return all(held) and sum(held) == SUBSCRIPTIONS


def _told_of_ends(hook: Subscriber) -> int:
    return len({post.path for post in hook.messages if b'"terminated"' in post.body})


async def _is_at(world: World, subscription: str, position: int) -> bool:
    return bool((await world.subscription(subscription))["position"] >= position)


async def _has_tried(world: World, subscription: str, tries: int) -> bool:
    return bool((await world.subscription(subscription))["tries"] == tries)


async def test_a_revocation_is_told_however_long_a_name_is(world: World) -> None:
    """The longest URI of a user, of four octets a character, does not keep anybody from being revoked."""
    longest = "\N{GRINNING FACE}" * 2_000
    await world.connect(longest)
    changed = await world.owner.execute(
        "UPDATE slotwire.connections SET state = 'revoked', reason = 'gone' WHERE user_uri = $1", longest
    )
    assert changed == "UPDATE 1"
