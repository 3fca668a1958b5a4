"""Where an agent begins, once; and that it holds rather than jump where Kafka has lost its place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from confluent_kafka.admin import AdminClient

from slotwire.handlers import Agent
from slotwire.handlers.consume.groups import speaking_for
from slotwire.handlers.consume.placement import place
from slotwire.handlers.policy import Start
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.errors import BrokerUnavailable, ConfigurationError
from slotwire.ingest.foundation.kafka import opened_client, require_topics
from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import AgentSetup, agent_setup, invitee_created, running_agents, until
from tests.support.command import slotwire

PARTITIONS = 2


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=PARTITIONS) as made:
        yield made


def noting(seen: list[int], start: Start = "earliest") -> Agent:
    """An agent that notes what it is given."""
    agent = Agent("late", start=start)

    @agent.on(InviteeCreated)
    async def note(event: Event[InviteeCreated], ctx: object) -> None:
        seen.append(event.sequence)

    return agent


def group_of(setup: AgentSetup) -> str:
    """The agent's consumer group."""
    return f"{setup.settings.kafka.topic_prefix}late"


async def publish(setup: AgentSetup, *numbers: int) -> None:
    """Publish events, each of a chain of its own."""
    await setup.publish(*(invitee_created(f"chain{n}", n) for n in numbers))


async def run_until(setup: AgentSetup, agent: Agent, seen: list[int], wanted: set[int]) -> None:
    """Run an agent until it was given these and has committed all there is."""
    async with running_agents(setup.runner(agent)):
        await until(lambda: wanted <= set(seen))

        async def caught_up() -> bool:
            return await setup.committed(group_of(setup)) == await setup.ends()

        await until(caught_up)


@pytest.mark.parametrize(("start", "given"), [("earliest", {1, 2, 3, 4}), ("latest", {3, 4})])
async def test_a_new_agent_begins_where_it_says(setup: AgentSetup, start: Start, given: set[int]) -> None:
    """With the oldest event, or with what is published from its first start on, whenever it first joins."""
    await publish(setup, 1, 2)
    seen: list[int] = []
    async with running_agents(setup.runner(noting(seen, start))):

        async def begun() -> bool:
            return len(await setup.committed(group_of(setup))) == PARTITIONS

        await until(begun)
        await publish(setup, 3, 4)
        await until(lambda: set(seen) == given)


async def test_a_new_agent_begins_at_a_time(setup: AgentSetup) -> None:
    """What was published at or after it is given, what was before is not."""
    await publish(setup, 1)
    async with speaking_for(setup.settings.kafka, "nobody", client="test") as consumer:
        consumer.assign(places := [TopicPartition(setup.topic, number) for number in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        first = await consumer.getone(*places)
    at = datetime.fromtimestamp(first.timestamp / 1_000, UTC) + timedelta(milliseconds=1)
    await until(lambda: datetime.now(UTC) > at)
    await publish(setup, 2)
    seen: list[int] = []
    await run_until(setup, noting(seen, at), seen, {2})
    assert seen == [2]


async def test_it_begins_once(setup: AgentSetup) -> None:
    """What was published while a `latest` agent was stopped is given to it; another start changes nothing."""
    seen: list[int] = []
    async with running_agents(setup.runner(noting(seen, "latest"))):

        async def begun() -> bool:
            return len(await setup.committed(group_of(setup))) == PARTITIONS

        await until(begun)
    await publish(setup, 1, 2)
    await run_until(setup, noting(seen, "latest"), seen, {1, 2})
    await publish(setup, 3)
    await run_until(setup, noting(seen, "earliest"), seen, {3})
    assert sorted(seen) == [1, 2, 3]


async def test_an_agent_whose_place_is_forgotten_holds(setup: AgentSetup) -> None:
    """Kafka deletes a group's offsets after a while: the agent is not ready, repeats nothing, and goes on once told."""
    seen: list[int] = []
    await publish(setup, 1, 2)
    await run_until(setup, noting(seen), seen, {1, 2})
    await publish(setup, 3)
    forgetting = AdminClient({"bootstrap.servers": setup.settings.kafka.bootstrap_servers})
    for done in forgetting.delete_consumer_groups([group_of(setup)]).values():
        await asyncio.to_thread(done.result, 20)
    runner = setup.runner(noting(seen))
    async with running_agents(runner):

        async def held() -> bool:
            return "Kafka has forgotten where 2 partitions continue" in (await runner.problems.check() or "")

        await until(held)
        assert "slotwire agents rewind late --topic" in (await runner.problems.check() or "")
    assert sorted(seen) == [1, 2]
    told = await slotwire(
        *("agents", "rewind", "late", "--topic", setup.topic, "--to", "2020-01-01T00:00:00Z"), env=setup.environment()
    )
    assert told.code == 0, told.stderr
    assert told.stdout.count("nowhere -> 0 of") == PARTITIONS
    await run_until(setup, noting(seen), seen, {3})
    assert sorted(seen) == [1, 2, 3], "the inbox skips what is done"


async def test_an_agent_whose_records_are_gone_holds(setup: AgentSetup) -> None:
    """Retention was faster than the agent: it says so instead of going on with the oldest that is left."""
    seen: list[int] = []
    await publish(setup, 1, 2)
    await run_until(setup, noting(seen), seen, {1, 2})
    await publish(setup, 3, 4, 5, 6)
    ends = await setup.ends()
    admin = AIOKafkaAdminClient(bootstrap_servers=setup.settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(setup.topic, n): RecordsToDelete(ends[n]) for n in range(PARTITIONS)}
        )
    finally:
        await admin.close()
    await publish(setup, 7)
    runner = setup.runner(noting(seen))
    async with running_agents(runner):

        async def held() -> bool:
            return "are gone, older than Kafka keeps them" in (await runner.problems.check() or "")

        await until(held)
    assert sorted(seen) == [1, 2]
    told = await slotwire(
        *("agents", "rewind", "late", "--topic", setup.topic, "--to", "2020-01-01T00:00:00Z"), env=setup.environment()
    )
    assert told.code == 0, told.stderr
    await run_until(setup, noting(seen), seen, {7})
    assert sorted(seen) == [1, 2, 7]


async def test_two_members_begin_together(setup: AgentSetup) -> None:
    """Whoever is first places the agent; the other finds it placed, and both work."""
    await publish(setup, *range(1, 11))
    seen: list[int] = []
    async with running_agents(setup.runner(noting(seen), instance="one"), setup.runner(noting(seen), instance="two")):
        await until(lambda: len(seen) == 10)
    assert sorted(seen) == list(range(1, 11))


async def test_an_agent_of_a_version_that_remembered_nothing_goes_on(setup: AgentSetup) -> None:
    """Its committed offsets count; a partition that it had not reached begins at the oldest record, as it did then."""
    await publish(setup, 1, 2, 3, 4)
    async with opened_client(setup.settings.kafka, client="test") as client:
        topics = await require_topics(client, [setup.topic])
    before = TopicPartition(setup.topic, 0)
    async with speaking_for(setup.settings.kafka, group_of(setup), client="test") as consumer:
        consumer.assign([before])
        await consumer.commit({before: 1})
    await place(
        setup.settings.kafka,
        setup.pool,
        agent="late",
        group=group_of(setup),
        topics=topics,
        start="latest",
        clock=SystemClock(),
    )
    begun = await setup.pool.fetch("SELECT agent, topic, start FROM slotwire.agent_topics")
    assert await setup.committed(group_of(setup)) == {0: 1, 1: 0}
    assert [tuple(row) for row in begun] == [("late", setup.topic, "latest")]


async def test_a_broker_that_is_away_places_nobody(setup: AgentSetup) -> None:
    """The placement fails, and nothing is remembered."""
    async with opened_client(setup.settings.kafka, client="test") as client:
        topics = await require_topics(client, [setup.topic])
    away = setup.settings.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:9"})
    with pytest.raises(BrokerUnavailable):
        await place(
            away,
            setup.pool,
            agent="late",
            group=group_of(setup),
            topics=topics,
            start="earliest",
            clock=SystemClock(),
        )
    assert await setup.pool.fetchval("SELECT count(*) FROM slotwire.agent_topics") == 0


@pytest.mark.parametrize("start", ["newest", "", datetime(2026, 11, 23), 5])  # noqa: DTZ001 -- a time without a zone
def test_a_start_that_cannot_be_is_refused(start: object) -> None:
    """When the module is imported, with what can be."""
    with pytest.raises(ConfigurationError, match="cannot start at") as caught:
        Agent("late", start=start)  # type: ignore[arg-type]  # because that is the mistake
    assert "with a zone" in caught.value.remedy
