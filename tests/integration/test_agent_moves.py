"""Partitions that move while a member learns about others: it is not named where it works no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from slotwire.handlers.consume.member import Member
from slotwire.handlers.consume.membership import Membership
from slotwire.handlers.consume.placement import Placement
from slotwire.handlers.dispatch.dispatcher import Dispatcher
from slotwire.handlers.problems import Problems
from slotwire.handlers.records import Partition, Record
from slotwire.handlers.results import RecordResult
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.kafka import opened_client, require_topics
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.local.databases import Database
from tests.support.agent_setup import AgentSetup, agent_setup


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=2) as made:
        yield made


async def placed(setup: AgentSetup) -> Placement:
    """Make the place of one more process, which has decided where the agent begins."""
    placement = Placement(
        setup.pool, agent="moves", group="moves", start="earliest", clock=SystemClock(), process=uuid4()
    )
    async with opened_client(setup.settings.kafka, client="test") as client:
        topics = await require_topics(client, [setup.topic])
    await placement.decide(setup.settings.kafka, topics)
    return placement


async def test_a_death_is_known_until_all_that_was_in_work_is_done(setup: AgentSetup) -> None:
    """A member that leaves in order hands on the name of the dead one as often as needed, and never its own."""
    first, second, third, fourth = [await placed(setup) for _ in range(4)]
    places = [Partition(setup.topic, 0), Partition(setup.topic, 1)]
    assert await first.begin(places) == {}
    died = dict.fromkeys(places, first._process)
    assert await second.begin(places) == died
    await second.leave()
    assert await third.begin(places) == died
    await third.leave(places[:1])
    assert await fourth.begin(places) == {places[1]: first._process}
    await fourth.leave(places)
    assert await first.begin(places) == {}


class Moving:
    """A queue that is asked about new partitions just as these begin to move."""

    def __init__(self) -> None:
        self.member: Any = None
        self.looked = asyncio.Event()

    async def load(self, partitions: Collection[Partition]) -> object:
        """Learn about partitions; meanwhile they are revoked."""
        await self.member.on_partitions_revoked(partitions)
        return None

    async def due(self, partitions: Collection[Partition]) -> list[Any]:
        """Have nothing due."""
        del partitions
        self.looked.set()
        return []

    def passed(self, offsets: Mapping[Partition, int]) -> Collection[Partition]:
        """Know of no death."""
        return set(offsets)


async def test_who_has_given_back_its_partitions_is_not_named_again(setup: AgentSetup) -> None:
    """They are revoked while the member learns about new ones: whoever gets them would take it for dead."""
    ready, new = Partition(setup.topic, 0), Partition(setup.topic, 1)
    placement, queue, make = await placed(setup), Moving(), cast("Any", Member)
    about = (Membership("moves", "moves", (setup.topic,)), setup.settings.kafka, setup.settings.agents)
    member = make(*about, queue, None, placement, Problems("moves", get_logger("test")))
    member._consumer = SimpleNamespace(_coordinator=SimpleNamespace(generation=1, fetch_committed_offsets=nothing))
    queue.member = member
    async with asyncio.TaskGroup() as lanes:
        member._dispatcher = Dispatcher(nobody, agent="moves", max_in_flight=1, spawn=lanes.create_task, counted=False)
        member._dispatcher.open([ready])
        member._dispatcher.open([new], ready=False)
        await placement.begin([ready])
        member._assigned = True
        tending = lanes.create_task(member._tend_queue())
        await queue.looked.wait()
        tending.cancel()
    assert await setup.pool.fetchval("SELECT count(*) FROM slotwire.agent_starts WHERE process IS NOT NULL") == 0


async def nothing(places: object) -> dict[Any, Any]:
    """Have no offset of these."""
    del places
    return {}


async def nobody(record: Record, stopping: asyncio.Event) -> RecordResult:
    """Be asked to handle nothing."""
    raise AssertionError(record, stopping)
