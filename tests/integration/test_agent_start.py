"""Where an agent begins, once; and that it holds rather than jump where Kafka has lost its place."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from confluent_kafka.admin import AdminClient

from slotwire.handlers import Agent
from slotwire.handlers.consume.groups import speaking_for
from slotwire.handlers.consume.placement import Placement
from slotwire.handlers.policy import Start
from slotwire.handlers.testing import event_of
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.errors import BrokerUnavailable, ConfigurationError
from slotwire.ingest.foundation.exposition import REGISTRY
from slotwire.ingest.foundation.kafka import full_name, opened_client, require_topics
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated, RoutingFormSubmissionCreated
from slotwire.schemas.topics import ROUTING_FORM
from tests.support.agent_setup import AgentSetup, agent_setup, invitee_created, running_agents, until
from tests.support.command import slotwire
from tests.support.fork_server import Forked

PARTITIONS = 2
_WAITS = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
END_WAITS = f"SELECT pg_terminate_backend(pid) FROM {_WAITS}"
CODE = """
from slotwire.handlers import Agent
from slotwire.schemas.events import InviteeCreated

agent = Agent("late")

@agent.on(InviteeCreated)
async def note(event, ctx):
    async with ctx.transaction() as connection:
        await connection.execute("INSERT INTO effects (sequence) VALUES ($1)", event.sequence)
"""


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


@asynccontextmanager
async def administering(setup: AgentSetup) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open a client of the broker for who administers it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=setup.settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def decide(setup: AgentSetup, start: Start, *, kafka: KafkaSettings | None = None) -> None:
    """Decide where the agent begins, as a member does before it joins."""
    async with opened_client(setup.settings.kafka, client="test") as client:
        topics = await require_topics(client, [setup.topic])
    placement = Placement(
        setup.pool, agent="late", group=group_of(setup), start=start, clock=SystemClock(), process=uuid4()
    )
    await placement.decide(kafka or setup.settings.kafka, topics)


async def starts(setup: AgentSetup) -> list[tuple[int, int, bool]]:
    """Read what is kept of the agent: partition, offset, and whether it has begun there."""
    rows = await setup.pool.fetch(
        "SELECT partition, start_offset, begun_at IS NOT NULL FROM slotwire.agent_starts ORDER BY topic, partition"
    )
    return [tuple(row) for row in rows]


async def waits(setup: AgentSetup) -> bool:
    """Whether somebody waits for a lock."""
    return bool(await setup.pool.fetchval(f"SELECT count(*) FROM {_WAITS}"))


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
        await asyncio.to_thread(done.result, 60)
    runner = setup.runner(noting(seen))
    async with running_agents(runner):

        async def held() -> bool:
            return "Kafka has forgotten where 2 partitions continue" in (await runner.problems.check() or "")

        await until(held)
        assert "slotwire agents rewind late --topic" in (await runner.problems.check() or "")
        assert REGISTRY.get_sample_value("slotwire_consumer_offsets_lost", {"agent": "late"}) == 1
    assert sorted(seen) == [1, 2]
    told = await slotwire(
        *("agents", "rewind", "late", "--topic", setup.topic, "--to", "2020-01-01T00:00:00Z"), env=setup.environment()
    )
    assert told.code == 0, told.stderr
    assert told.stdout.count("nowhere -> 0 of") == PARTITIONS
    await run_until(setup, noting(seen), seen, {3})
    assert sorted(seen) == [1, 2, 3], "the inbox skips what is done"
    assert REGISTRY.get_sample_value("slotwire_consumer_offsets_lost", {"agent": "late"}) == 0


async def test_an_agent_whose_records_are_gone_holds(setup: AgentSetup) -> None:
    """Retention was faster than the agent: it says so instead of going on with the oldest that is left."""
    seen: list[int] = []
    await publish(setup, 1, 2)
    await run_until(setup, noting(seen), seen, {1, 2})
    await publish(setup, 3, 4, 5, 6)
    ends = await setup.ends()
    async with administering(setup) as admin:
        await admin.delete_records(
            {TopicPartition(setup.topic, n): RecordsToDelete(ends[n]) for n in range(PARTITIONS)}
        )
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


async def test_what_is_decided_first_stays(setup: AgentSetup) -> None:
    """Two members decide on `latest` at once, and die before they join; later ones begin at the same offsets."""
    await publish(setup, 1, 2)
    await asyncio.gather(decide(setup, "latest"), decide(setup, "latest"))
    decided = await starts(setup)
    assert decided == [(number, end, False) for number, end in sorted((await setup.ends()).items())]
    await publish(setup, *range(3, 11))
    await decide(setup, "latest")
    assert await starts(setup) == decided
    seen: list[int] = []
    one, two = (setup.runner(noting(seen, "latest"), instance=name) for name in ("one", "two"))
    async with running_agents(one, two):
        await until(lambda: set(seen) >= set(range(3, 11)))
    assert set(seen) == set(range(3, 11))
    assert await starts(setup) == [(number, offset, True) for number, offset, _ in decided]


async def test_a_member_that_is_killed_as_it_begins_repeats_and_loses_nothing(
    setup: AgentSetup, tmp_path: Path
) -> None:
    """Its offsets are committed, and that it has begun is not noted: the next member continues there."""
    (tmp_path / "late_agent.py").write_text(CODE)
    await publish(setup, 1, 2)
    await decide(setup, "earliest")
    async with setup.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM slotwire.agent_starts FOR UPDATE")
        child = Forked(("agents", "run", "late_agent:agent"), setup.environment(), tmp_path)

        async def committed() -> bool:
            return await setup.committed(group_of(setup)) == {0: 0, 1: 0}

        await until(committed)
        await until(lambda: waits(setup))
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
        assert await setup.pool.fetch(END_WAITS)
    assert (await setup.effects(), [begun for *_, begun in await starts(setup)]) == ([], [False, False])
    child = Forked(("agents", "run", "late_agent:agent"), setup.environment(), tmp_path)
    try:

        async def noted() -> bool:
            return sorted(row["sequence"] for row in await setup.effects()) == [1, 2]

        await until(noted)
    finally:
        os.kill(child.pid, signal.SIGTERM)
        await child.wait()
    assert [begun for *_, begun in await starts(setup)] == [True, True]


async def test_a_new_version_begins_a_topic_beside_members_of_the_old_one(setup: AgentSetup) -> None:
    """A rolling update waits for the new version before it ends the old one, whose members keep their group."""
    topic = full_name(setup.settings.kafka, ROUTING_FORM)
    forms = [
        event_of(RoutingFormSubmissionCreated(uri=f"https://api.calendly.com/routing_form_submissions/{n}"), sequence=n)
        for n in (11, 12)
    ]
    seen: list[int] = []
    newer = noting(seen, "latest")

    @newer.on(RoutingFormSubmissionCreated)
    async def note(event: Event[RoutingFormSubmissionCreated], ctx: object) -> None:
        seen.append(event.sequence)

    await setup.publish(forms[0], topic=topic)
    async with running_agents(setup.runner(noting(seen), instance="old")):
        await publish(setup, 1)
        await until(lambda: seen == [1])
        runner = setup.runner(newer, instance="new")
        async with running_agents(runner):

            async def ready() -> bool:
                return await runner.problems.check() is None

            await until(ready)
            await setup.publish(forms[1], topic=topic)
            await publish(setup, 2, 3)
            await until(lambda: set(seen) == {1, 2, 3, 12})


async def test_partitions_that_a_topic_gets_later_begin_at_their_first_record(setup: AgentSetup) -> None:
    """They are no loss, and nothing in them is older than the agent's start."""
    seen: list[int] = []
    await decide(setup, "latest")
    await publish(setup, 1, 2)
    await run_until(setup, noting(seen, "latest"), seen, {1, 2})
    async with administering(setup) as admin:
        await admin.create_partitions({setup.topic: NewPartitions(4)})
    await publish(setup, *range(3, 23))
    async with running_agents(setup.runner(noting(seen, "latest"))):
        await until(lambda: set(seen) == set(range(1, 23)))
    assert [number for number, _, begun in await starts(setup) if begun] == [0, 1, 2, 3]


async def test_an_agent_of_a_version_that_remembered_nothing_goes_on(setup: AgentSetup) -> None:
    """Its committed offsets count; a partition that it had not reached begins at the oldest record, as it did then."""
    await publish(setup, 1, 2, 3, 4)
    async with speaking_for(setup.settings.kafka, group_of(setup), client="test") as consumer:
        consumer.assign([before := TopicPartition(setup.topic, 0)])
        await consumer.commit({before: 1})
    await decide(setup, "latest")
    assert await starts(setup) == [(0, 1, True), (1, 0, False)]


async def test_a_broker_that_is_away_places_nobody(setup: AgentSetup) -> None:
    """Nothing is decided."""
    away = setup.settings.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:9"})
    with pytest.raises(BrokerUnavailable):
        await decide(setup, "earliest", kafka=away)
    assert await starts(setup) == []


@pytest.mark.parametrize("start", ["newest", "", datetime(2026, 11, 23), 5])  # noqa: DTZ001 -- a time without a zone
def test_a_start_that_cannot_be_is_refused(start: object) -> None:
    """When the module is imported, with what can be."""
    with pytest.raises(ConfigurationError, match="cannot start at") as caught:
        Agent("late", start=start)  # type: ignore[arg-type]  # because that is the mistake
    assert "with a zone" in caught.value.remedy
