"""A process that delivers MCP Events is killed between sending and recording: nothing is lost or invented."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson
import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.mcp.principal import AgentPrincipal
from tests.support.mcp_events import (
    HOST,
    KEY,
    ORGANIZATIONS,
    Subscriber,
    World,
    booked,
    mcp_world,
    subscriber,
    until,
)
from tests.support.receiver import ReceivedPost


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """A log, agents, and the methods of another replica, which is not killed and delivers nothing."""
    async with mcp_world(database) as made:
        yield made


@dataclass
class Killer:
    """Kills the process at some of its requests: after it has sent, before it has an answer.

    Attributes:
        hook: where the requests come.
        at: the numbers of the requests that it does not survive.
        process: the one that lives now.
        dead: set once it is killed.
        acknowledged: ids of the events that were answered 204.
        came: ids of all events, also of requests that were not answered.
    """

    hook: Subscriber
    at: set[int]
    process: int = 0
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: list[str] = field(default_factory=list)
    came: list[str] = field(default_factory=list)

    async def reply(self, post: ReceivedPost, writer: asyncio.StreamWriter) -> bytes:
        """Answer, or kill whoever asks."""
        event = orjson.loads(post.body).get("eventId")
        if event is None:
            return await self.hook.reply(post, writer)
        self.came.append(event)
        if len(self.came) in self.at:
            os.kill(self.process, signal.SIGKILL)
            self.dead.set()
            return b""
        self.acknowledged.append(event)
        return await self.hook.reply(post, writer)


@contextmanager
def processes(world: World, agent: AgentPrincipal) -> Iterator[Callable[[], int]]:
    """Yield what starts a process that delivers; the last one ends with the block."""
    wanted = {
        "database_url": world.database.url_of["mcp"],
        "agent": str(agent.agent),
        "user": HOST,
        "organization": f"{ORGANIZATIONS}A",
        "key": KEY.hex(),
    }
    command = [sys.executable, "-m", "tests.support.mcp_delivering", json.dumps(wanted)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        orders, numbers = maker.stdin, maker.stdout
        assert orders is not None
        assert numbers is not None

        def start() -> int:
            print(file=orders, flush=True)
            return int(numbers.readline())

        yield start


async def killed_often(world: World, events: int, kills: int, seed: int) -> None:
    """Deliver so many events while the process is killed so often; check what came, and the watermark at each kill."""
    agent = world.agent()
    await world.publish(booked(0))
    written = [booked(number) for number in range(1, events + 1)]
    async with subscriber() as hook:
        cursor = (await world.subscribe(agent, hook.url))["cursor"]
        subscription = await world.owner.fetchval("SELECT id FROM slotwire.mcp_subscriptions")
        at = set(random.Random(seed).sample(range(1, events), kills))  # noqa: S311 - repeated by its seed
        killer = Killer(hook, at)
        hook.receiver.reply = killer.reply
        last = await world.publish(*written)
        place = {str(row["event_id"]): row["position"] for row in await world.owner.fetch(_PLACES)}
        with processes(world, agent) as start:
            for _ in range(kills + 1):
                killer.process = start()
                killer.dead.clear()
                await until(lambda: killer.dead.is_set() or len(set(killer.acknowledged)) == events)
                position = (await world.subscription(subscription))["position"]
                passed = {str(each.id) for each in written if place[str(each.id)] <= position}
                assert passed <= set(killer.acknowledged), "the watermark is ahead"
            await until(lambda: _is_at(world, subscription, last))
    ids = [str(each.id) for each in written]
    assert list(dict.fromkeys(killer.came)) == ids, f"lost or out of order, seed {seed}"
    assert len(killer.came) - len(ids) <= 2 * kills
    polled: list[str] = []
    more = True
    while more:
        answer = await world.poll(agent, cursor)
        polled += [each["eventId"] for each in answer["events"]]
        cursor, more = answer["cursor"], answer["hasMore"]
    assert polled == ids


_PLACES = "SELECT event_id, position FROM slotwire.events"


async def _is_at(world: World, subscription: str, position: int) -> bool:
    return bool((await world.subscription(subscription))["position"] >= position)


async def test_a_kill_between_sending_and_recording_repeats_with_the_same_id(world: World) -> None:
    """Each event comes, in order; what was under way comes again under its id; the watermark is never ahead."""
    await killed_often(world, events=60, kills=3, seed=1)


@pytest.mark.soak
async def test_many_kills_lose_nothing(world: World) -> None:
    """The same with 5,000 events and 100 kills."""
    await killed_often(world, events=5_000, kills=100, seed=2)
