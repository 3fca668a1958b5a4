"""A process that serves MCP Events is killed while it sends: by poll, stream and webhook nothing is lost."""

from __future__ import annotations

import asyncio
import base64
import random
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import orjson
import pytest
from pydantic import SecretStr

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.mcp_settings import McpSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.mcp.events.profiles import DRAFT
from slotwire.ingest.mcp.tokens import TokenKeys
from slotwire.schemas.events import BY_TYPE
from tests.support.children import free_port
from tests.support.fork_server import Forked
from tests.support.mcp_durable_clients import PAGE, DurableClient
from tests.support.mcp_events import HOST, KEY, Subscriber, World, booked, mcp_world, subscriber, until
from tests.support.receiver import ReceivedPost
from tests.support.relay_setup import LoggedEvent

CHAINS = 5
"""Bookings that the events are of: those of one come in their order, by webhook too."""
_AGENT = """
INSERT INTO slotwire.mcp_agents (id, name, hash, orgs, users, tools, event_types, label, created_at)
VALUES ($1, $2, sha256('x'), '{A}', '{}', '{}', $3, '', $4)
"""
_PLACES = "SELECT event_id, position FROM slotwire.events"


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """A log, agents, and the methods of another replica, which is not killed and delivers nothing."""
    async with mcp_world(database, now=SystemClock().now()) as made:
        yield made


@dataclass
class Killer:
    """Kills the process at some of its requests: after it has sent, before it has an answer.

    Attributes:
        hook: where the requests come.
        at: the numbers of the requests that it does not survive, in order.
        clients: readers by the other modes: it is killed while it serves both.
        process: the one that lives now, once there is one.
        dead: set once it is killed.
        acknowledged: ids of the events that were answered 204.
        came: ids of all events, also of requests that were not answered.
        begun: how often each client had begun again when it was killed last.
    """

    hook: Subscriber
    at: list[int]
    clients: Sequence[DurableClient]
    process: Forked | None = None
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: list[str] = field(default_factory=list)
    came: list[str] = field(default_factory=list)
    begun: Sequence[int] = ()

    async def reply(self, post: ReceivedPost, writer: asyncio.StreamWriter) -> bytes:
        """Answer, or kill whoever asks."""
        event = orjson.loads(post.body).get("eventId")
        if event is None:
            return await self.hook.reply(post, writer)
        self.came.append(event)
        if self._is_due():
            await until(lambda: self.dead.is_set() or all(each.is_there for each in self.clients))
        if self._is_due():
            del self.at[0]
            self.begun = [each.begun for each in self.clients]
            assert self.process is not None
            self.process.kill()
            self.dead.set()
        if self.dead.is_set():
            return b""
        self.acknowledged.append(event)
        return await self.hook.reply(post, writer)

    def is_noticed(self) -> bool:
        """Say whether each client has noticed the last kill."""
        return all(each.begun > before for each, before in zip(self.clients, self.begun, strict=True))

    def _is_due(self) -> bool:
        return not self.dead.is_set() and bool(self.at) and len(self.came) >= self.at[0]


async def killed_often(world: World, events: int, kills: int, seed: int) -> None:
    """Tell of so many events by all modes while the process is killed so often; check each mode, and the watermark."""
    agent = world.agent()
    await world.owner.execute(_AGENT, agent.agent, agent.name, sorted(BY_TYPE), world.clock.now())
    await world.publish(booked(0))
    written = [booked(number, key=str(UUID(int=number % CHAINS))) for number in range(1, events + 1)]
    port, token_key = free_port(), secrets.token_urlsafe(32)
    env = _environment(world, port, token_key)
    async with subscriber() as hook:
        made = await world.subscribe(agent, hook.url)
        at = sorted(random.Random(seed).sample(range(1, events), kills))  # noqa: S311 - repeated by its seed
        endpoint = f"http://127.0.0.1:{port}/mcp/{agent.name}"
        keys = TokenKeys.from_settings(McpSettings(token_keys=(SecretStr(f"t1:{token_key}"),)))

        def token() -> str:
            return keys.issue(endpoint, agent.agent, HOST, None, SystemClock().now())[0]

        def may_poll() -> bool:  # its last page is for after the last kill; what comes again may be more than there is
            return killer.dead.is_set() or not killer.at or len(poller.ids) + PAGE <= min(len(killer.came), events - 1)

        async def pace() -> None:
            await until(may_poll)

        poller, reader = (DurableClient(endpoint, token, made["cursor"]) for _ in range(2))
        poller.pace = pace
        killer = Killer(hook, at, (poller, reader))
        hook.receiver.reply = killer.reply
        last = await world.publish(*written)
        async with asyncio.TaskGroup() as group:
            group.create_task(poller.poll(events))
            reading = group.create_task(reader.stream())
            await _kill(world, killer, env, made["id"], written)
            await until(lambda: _is_at(world, made["id"], last))
            await until(lambda: len(poller.ids) >= events and len(reader.ids) >= events)
            reading.cancel()
        await _ended(killer.process)
    ids = [str(each.id) for each in written]
    assert poller.ids == reader.ids == ids, f"lost, doubled or out of order, seed {seed}"
    assert min(poller.begun, reader.begun) >= kills, "both have lived through all of them"
    assert _of_chains(killer.came, written) == _of_chains(ids, written), f"lost or out of order, seed {seed}"
    assert len(killer.came) - len(ids) <= 2 * DRAFT.at_once * kills


async def _kill(
    world: World, killer: Killer, env: Mapping[str, str], subscription: str, written: Sequence[LoggedEvent]
) -> None:
    place = {str(row["event_id"]): row["position"] for row in await world.owner.fetch(_PLACES)}
    for _ in range(len(killer.at) + 1):
        await _ended(killer.process)
        killer.process = Forked(("mcp", "serve"), env, Path.cwd())
        killer.dead.clear()
        await until(lambda: killer.dead.is_set() or len(set(killer.acknowledged)) == len(written))
        position = (await world.subscription(subscription))["position"]
        passed = {str(each.id) for each in written if place[str(each.id)] <= position}
        assert passed <= set(killer.acknowledged), "the watermark is ahead"
        if killer.dead.is_set():
            await until(killer.is_noticed)


async def _ended(process: Forked | None) -> None:
    if process is not None:
        process.kill()
        await process.wait()


def _environment(world: World, port: int, token_key: str) -> Mapping[str, str]:
    """Write the settings of `slotwire mcp serve`."""
    return {
        "SLOTWIRE_DATABASE_URL": world.database.url_of["mcp"],
        "SLOTWIRE_PUBLIC_URL": "http://127.0.0.1:1",
        "SLOTWIRE_CALENDLY__API_URL": "http://127.0.0.1:1",
        "SLOTWIRE_CALENDLY__AUTH_URL": "http://127.0.0.1:1",
        "SLOTWIRE_OUTGOING__ALLOW_LOCAL": "true",
        "SLOTWIRE_HEALTH__PORT": str(free_port()),
        "SLOTWIRE_MCP__PORT": str(port),
        "SLOTWIRE_MCP__TOKEN_KEYS": f"t1:{token_key}",
        "SLOTWIRE_MCP__EVENT_KEYS": f"k1:{base64.urlsafe_b64encode(KEY).decode().rstrip('=')}",
    }


def _of_chains(ids: Sequence[str], written: Sequence[LoggedEvent]) -> Mapping[str, Sequence[str]]:
    """Return what came of each booking, the first time each."""
    key_of = {str(each.id): each.key for each in written}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for each in dict.fromkeys(ids):
        found[key_of[each]].append(each)
    return found


async def _is_at(world: World, subscription: str, position: int) -> bool:
    return bool((await world.subscription(subscription))["position"] >= position)


async def test_kills_while_it_sends_lose_nothing_by_any_mode(world: World) -> None:
    """Poll and stream go on from their cursors without a double; a webhook's come again under their ids, in order."""
    await killed_often(world, events=60, kills=10, seed=1)


@pytest.mark.soak
async def test_many_kills_lose_nothing(world: World) -> None:
    """The same with 5,000 events and 500 kills."""
    await killed_often(world, events=5_000, kills=500, seed=2)
