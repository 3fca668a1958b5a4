"""`events/stream`: what comes in which order, how it ends, and that a reader who does not read holds nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.mcp.events import feed, stream
from slotwire.ingest.mcp.events.profiles import EventsProblem, EventsRefused
from slotwire.ingest.mcp.principal import AgentPrincipal
from tests.support.mcp_events import CREATED, NOW, World, booked, delivering, mcp_world, until


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """A log, agents, and the methods on it."""
    async with mcp_world(database) as made:
        yield made


@dataclass
class Reader:
    """A client of one stream.

    Attributes:
        told: what came: method without its prefix, and params.
        last: the last frame, once the stream has ended.
        reads: cleared, it takes nothing more.
    """

    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    last: dict[str, Any] | None = None
    reads: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, method: str, params: dict[str, Any]) -> None:
        """Take one notification."""
        await self.reads.wait()
        assert params["_meta"][stream.SUBSCRIPTION] == 7
        self.told.append((method.removeprefix(stream.PREFIX), params))

    @property
    def ids(self) -> list[str]:
        """The ids of the events that came."""
        return [params["eventId"] for what, params in self.told if what == "event"]

    def last_of(self, what: str) -> dict[str, Any]:
        """Return the last notification of a kind."""
        return next(params for kind, params in reversed(self.told) if kind == what)


@asynccontextmanager
async def reading(
    world: World, agent: AgentPrincipal, cursor: str | None = None, **params: Any
) -> AsyncIterator[Reader]:
    """Read a stream while the block runs."""
    reader = Reader()
    reader.reads.set()

    async def run() -> None:
        asked = {"name": CREATED, "arguments": {}, "cursor": cursor, **params}
        reader.last = await world.events.streams(agent, asked, 7, reader.send)

    task = asyncio.create_task(run())
    try:
        await until(lambda: bool(reader.told) or task.done())
        yield reader
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_stream_tells_where_it_is_first_and_then_what_comes(world: World) -> None:
    """`active`, then what was missed, then what comes, in order; its cursors and those of polls are one."""
    agent = world.agent()
    await world.publish(booked(1))
    begin = (await world.poll(agent))["cursor"]
    missed = [booked(2), booked(3, host="https://api.calendly.com/users/OTHER")]
    await world.publish(*missed)
    async with delivering(world.events), reading(world, agent, begin) as reader:
        assert reader.told[0][0] == "active"
        assert (reader.told[0][1]["cursor"], reader.told[0][1]["truncated"]) == (begin, False)
        await until(lambda: len(reader.ids) == 1)
        later = [booked(4), booked(5)]
        await world.publish(*later)
        await until(lambda: len(reader.ids) == 3)
        assert reader.ids == [str(each.id) for each in (missed[0], *later)]
        middle = [params for what, params in reader.told if what == "event"][1]["cursor"]
    polled = await world.poll(agent, middle)
    assert [each["eventId"] for each in polled["events"]] == [str(later[1].id)]
    assert len(world.events.feed) == 0, "a reader that left is followed no more"


async def test_heartbeats_carry_the_place_past_what_was_not_wanted(world: World) -> None:
    """A quiet stream's cursor moves, so that it does not age."""
    world.events.streams._heartbeat = 0.05
    agent = world.agent()
    await world.publish(booked(1))
    async with delivering(world.events), reading(world, agent) as reader:
        await until(lambda: reader.told[-1][0] == "heartbeat")
        first = reader.last_of("heartbeat")["cursor"]
        await world.publish(booked(2, host="https://api.calendly.com/users/OTHER"))
        await until(lambda: reader.last_of("heartbeat")["cursor"] != first)
        moved = reader.last_of("heartbeat")["cursor"]
    await world.publish(booked(3))
    assert len((await world.poll(agent, moved))["events"]) == 1
    assert reader.ids == []


async def test_a_revocation_and_the_token_end_a_stream(world: World) -> None:
    """Revoked: `terminated` with the profile's number, and nothing after it. Expired: a last frame."""
    agent = world.agent()
    async with delivering(world.events), reading(world, agent) as reader:
        world.revoke(agent)
        world.events.access.forget()
        await world.publish(booked(1))
        await until(lambda: reader.last is not None)
        assert reader.told[-1][0] == "terminated"
        assert reader.told[-1][1]["error"]["code"] == -32024
        assert reader.ids == []
        assert reader.last == {"_meta": {stream.SUBSCRIPTION: 7}}
    other = world.agent(expires_at=NOW + timedelta(minutes=1))
    async with delivering(world.events), reading(world, other) as reader:
        world.clock.advance(timedelta(minutes=2))
        await until(lambda: reader.last is not None)
        assert [what for what, _ in reader.told] == ["active"]


async def test_who_does_not_read_holds_nobody_and_misses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue is read again from the log later, while others are told at once."""
    monkeypatch.setattr(feed, "MAX_QUEUED", 3)
    slow, quick = world.agent(), world.agent()
    await world.publish(booked(1))
    async with delivering(world.events), reading(world, slow) as held, reading(world, quick) as other:
        await world.publish(booked(2))
        await until(lambda: len(held.ids) == len(other.ids) == 1)
        held.reads.clear()
        events = [booked(number) for number in range(3, 13)]
        for event in events:
            await world.publish(event)
        await until(lambda: len(other.ids) == 11)
        assert len(held.ids) == 1
        held.reads.set()
        await until(lambda: len(held.ids) == 11)
        assert held.ids == other.ids


async def test_what_was_too_old_is_told_as_a_gap(world: World) -> None:
    """`maxAgeMs` passes over old events: `active` says so again, with a place behind them."""
    agent = world.agent()
    await world.publish(booked(1))
    begin = (await world.poll(agent))["cursor"]
    old, young = booked(2), booked(3)
    await world.publish(old, young)
    await world.owner.execute(
        "UPDATE slotwire.events SET recorded_at = $1::timestamptz"
        " - CASE WHEN event_id = $2 THEN interval '1 h' ELSE '0' END",
        *(NOW, old.id),
    )
    async with delivering(world.events), reading(world, agent, begin, maxAgeMs=60_000) as reader:
        await until(lambda: len(reader.ids) == 1)
    assert [(what, params.get("truncated")) for what, params in reader.told] == [
        ("active", False),
        ("active", True),
        ("event", None),
    ]
    assert reader.ids == [str(young.id)]


async def test_streams_are_limited_and_not_for_every_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit one opens, past it none; a host whose profile has no streams is told so."""
    monkeypatch.setattr(stream, "MAX_STREAMS", 1)
    agent = world.agent()
    async with delivering(world.events), reading(world, agent):
        with pytest.raises(EventsRefused) as caught:
            await world.events.streams(agent, {"name": CREATED}, 1, Reader().send)
        assert caught.value.problem is EventsProblem.RESOURCE_EXHAUSTED
    with pytest.raises(EventsRefused) as caught:
        await world.events.streams(replace(agent, profile="chatgpt"), {"name": CREATED}, 1, Reader().send)
    assert (caught.value.problem, caught.value.data) == (
        EventsProblem.UNSUPPORTED,
        {"feature": "deliveryMode", "value": "push"},
    )
