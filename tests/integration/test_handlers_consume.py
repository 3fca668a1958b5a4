"""An agent on real Kafka and real Postgres: from a record to its effect, its mark and its offset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from slotwire.handlers import Agent, Context, Reject, Retry
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.testing import record_of
from slotwire.ingest.foundation.exposition import REGISTRY
from slotwire.ingest.foundation.kafka import opened_client, require_topics
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.foundation.topic_admin import ensure_topics
from slotwire.ingest.local.databases import Database
from slotwire.schemas.codec import decode
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import (
    AgentSetup,
    agent_setup,
    in_order,
    invitee_created,
    ledger_agent,
    one_effect_each,
    running_agents,
    transactional,
    until,
)


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


async def test_every_event_has_its_effect_once_in_order_and_is_committed(setup: AgentSetup) -> None:
    """A topic of many keys ends as one effect an event, in each key's order, with nothing left to commit."""
    events = [invitee_created(f"key-{n % 20}", n // 20 + 1) for n in range(200)]
    await setup.publish(*events)
    runner = setup.runner(ledger_agent(), interval=0.1)
    group = runner.membership.group

    async def all_committed() -> bool:
        return await setup.committed(group) == await setup.ends()

    async with running_agents(runner):
        # The last offsets are those of transaction markers: only the position knows them.
        await until(all_committed)
        assert await runner.problems.check() is None
    effects = await setup.effects()
    assert one_effect_each(effects, events)
    assert in_order(effects)


async def test_a_restarted_agent_continues_where_it_stopped(setup: AgentSetup) -> None:
    """What was handled before the stop is committed with it; after a restart only what is new is handled."""
    agent = Agent("plain")
    handled: asyncio.Queue[int] = asyncio.Queue()

    @agent.on(InviteeCreated)
    async def note(event: Event[InviteeCreated], ctx: Context) -> None:
        del ctx
        handled.put_nowait(event.sequence)

    for round_ in (1, 2):
        await setup.publish(invitee_created("k", round_))
        async with running_agents(setup.runner(agent)), asyncio.timeout(60):
            assert await handled.get() == round_
    assert handled.empty()
    assert len(await setup.inbox()) == 2


async def test_a_poison_event_becomes_a_dead_letter_and_its_partition_goes_on(setup: AgentSetup) -> None:
    """It is tried as often as the policy says, then kept with key, value, headers and reason; the others settle.

    Driven again once the handler is mended, it takes effect.
    """
    agent = Agent("poisoned", retry=RetryPolicy(attempts=3, first_seconds=0.02, longest_seconds=0.1))
    handled: list[int] = []
    mended = False

    @agent.on(InviteeCreated)
    async def fail_on_seven(event: Event[InviteeCreated], ctx: Context) -> None:
        del ctx
        if event.sequence == 7 and not mended:
            raise ZeroDivisionError
        handled.append(event.sequence)

    await setup.publish(*(invitee_created("one-key", n) for n in range(1, 21)))
    poison = record_of(invitee_created("one-key", 7))
    runner = setup.runner(agent, interval=0.1)
    async with running_agents(runner):
        await until(lambda: len(handled) == 19)
        (letter,) = await setup.dead_letters("poisoned", 1)
        assert handled == [n for n in range(1, 21) if n != 7]
        assert (letter.key, letter.value) == (poison.key, poison.value)
        headers = dict(letter.headers)
        assert headers.items() >= dict(poison.headers).items()
        said = {name: value.decode() for name, value in headers.items() if name.startswith("slotwire-error-")}
        assert said["slotwire-error-reason"] == "raised ZeroDivisionError"
        assert said["slotwire-error-attempts"] == "3"
        assert said["slotwire-error-topic"] == setup.topic
        assert said["slotwire-error-agent"] == "poisoned"
        assert "fail_on_seven" in said["slotwire-error-trace"]
        assert int(said["slotwire-error-partition"]) in range(4)
        assert int(said["slotwire-error-offset"]) >= 0
        assert datetime.fromisoformat(said["slotwire-error-time"]).tzinfo is not None
        assert decode(letter.headers, letter.value).id == invitee_created("one-key", 7).id
        mended = True
        async with transactional(setup.settings.kafka.bootstrap_servers) as producer, producer.transaction():
            await producer.send(setup.topic, letter.value, letter.key, headers=list(letter.headers))
        await until(lambda: handled[-1] == 7)


async def test_what_waits_behind_a_slow_key_is_held_and_bounded_and_delays_no_other(setup: AgentSetup) -> None:
    """More of one key than may be in work: all others are handled; of the slow one no more is read than may be held."""
    agent = Agent("slow")
    handled: list[tuple[str, int]] = []
    release = asyncio.Event()

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
        del ctx
        if event.key == "slow":
            await release.wait()
        handled.append((event.key, event.sequence))

    limits = setup.settings.agents.model_copy(update={"max_in_flight": 20, "max_held": 400})
    setup.settings = setup.settings.model_copy(update={"agents": limits})
    others = {(f"key-{n}", n) for n in range(40)}
    await setup.publish(*(invitee_created("slow", n) for n in range(60)), *(invitee_created(*each) for each in others))
    await setup.publish(*(invitee_created("slow", n) for n in range(60, 200)))

    def held() -> float | None:
        return REGISTRY.get_sample_value("slotwire_consumer_in_flight", {"agent": "slow"})

    async with running_agents(setup.runner(agent)):
        await until(lambda: len(handled) == len(others) and held() == 100)  # of four partitions, one is the slow key's
        assert set(handled) == others
        release.set()
        await until(lambda: len(handled) == len(others) + 200)
    assert [number for key, number in handled if key == "slow"] == list(range(200))


async def test_a_rejection_and_a_retry_do_what_they_say(setup: AgentSetup) -> None:
    """Reject is a dead letter at once with the handler's reason; Retry comes back and its key waits for it."""
    agent = Agent("verbs")
    runs: list[tuple[str, int, int]] = []

    @agent.on(InviteeCreated)
    async def answer(event: Event[InviteeCreated], ctx: Context) -> Retry | Reject | None:
        runs.append((event.key, event.sequence, ctx.attempt))
        if event.key == "no":
            return Reject("no such account")
        return Retry(0.05) if event.sequence == 1 and ctx.attempt < 3 else None

    await setup.publish(invitee_created("no", 1), invitee_created("again", 1), invitee_created("again", 2))
    async with running_agents(setup.runner(agent)):
        await until(lambda: ("again", 2, 1) in runs)
        (letter,) = await setup.dead_letters("verbs", 1)
    assert dict(letter.headers)["slotwire-error-reason"] == b"no such account"
    again = [run[1:] for run in runs if run[0] == "again"]
    assert again == [(1, 1), (1, 2), (1, 3), (2, 1)]


async def test_data_published_by_reference_comes_from_the_log(setup: AgentSetup, database: Database) -> None:
    """A record with `ce_dataref` reaches its handler with the data that Postgres has."""
    event = invitee_created("large", 1)
    record = record_of(event)
    owner = await asyncpg.connect(database.owner_url)
    try:
        await owner.execute(
            "WITH known AS (INSERT INTO slotwire.identities (event_id, shard, position) VALUES ($1, 0, 1))"
            " INSERT INTO slotwire.events (shard, position, event_id, type, org, subject, key, time, recorded_at,"
            " origin, inferred, data) VALUES (0, 1, $1, $2, 'TRIAL', $3, 'large', $4, $4, 'webhook', false, $5)",
            event.id,
            event.type,
            event.subject,
            datetime.now(UTC),
            record.value,
        )
    finally:
        await owner.close()
    agent = Agent("large")
    got: asyncio.Queue[Event[InviteeCreated]] = asyncio.Queue()

    @agent.on(InviteeCreated)
    async def take(event: Event[InviteeCreated], ctx: Context) -> None:
        del ctx
        got.put_nowait(event)

    async with transactional(setup.settings.kafka.bootstrap_servers) as producer, producer.transaction():
        headers = [*record.headers, ("ce_dataref", f"/v1/events/{event.id}".encode())]
        await producer.send(setup.topic, None, record.key, headers=headers)
    async with running_agents(setup.runner(agent)), asyncio.timeout(60):
        assert (await got.get()).data == event.data


async def test_an_agent_waits_for_its_topic_and_names_the_command(setup: AgentSetup) -> None:
    """Without its topic an agent is not ready and says what to run; when the topic is there it goes on by itself."""
    kafka = setup.settings.kafka.model_copy(update={"topic_prefix": f"{setup.settings.kafka.topic_prefix}late."})
    late = AgentSetup(setup.settings.model_copy(update={"kafka": kafka}), setup.pool)
    runner = late.runner(ledger_agent("late"))

    async def says_why() -> bool:
        return f"topic {late.topic} is missing. Run `slotwire migrate`" in (await runner.problems.check() or "")

    async def nothing_wrong() -> bool:
        return await runner.problems.check() is None

    async def has_effect() -> bool:
        return len(await late.effects()) == 1

    async with running_agents(runner):
        await until(says_why)
        await ensure_topics(kafka)
        await until(nothing_wrong)
        await late.publish(invitee_created("k", 1))
        await until(has_effect)
    assert one_effect_each(await late.effects(), [invitee_created("k", 1)])


async def test_the_topics_of_dead_letters_are_made_when_an_agent_starts(setup: AgentSetup) -> None:
    """Once an agent is ready its dead-letter topic is there, before anything failed; a second member finds it."""
    runners = [setup.runner(ledger_agent("ready"), instance=f"ready-{n}") for n in range(2)]

    async def all_ready() -> bool:
        return [await runner.problems.check() for runner in runners] == [None, None]

    async with running_agents(*runners):
        await until(all_ready)
        async with opened_client(setup.settings.kafka, client="test") as client:
            (found,) = await require_topics(client, [f"{setup.topic}.ready.dlq"])
    assert found.partitions == 1


async def test_an_agent_waits_for_the_schema_and_names_the_command(
    setup: AgentSetup, postgres_url: str, topic_prefix: str
) -> None:
    """On a database without our schema an agent does not join, is not ready, and says what to run."""
    name = f"bare_{topic_prefix.rstrip('.')}"
    superuser = await asyncpg.connect(postgres_url)
    try:
        await superuser.execute(f"CREATE DATABASE {name}")
        async with create_pool(
            f"{postgres_url.rpartition('/')[0]}/{name}", DatabaseSettings(), application="t"
        ) as pool:
            runner = AgentSetup(setup.settings, pool).runner(ledger_agent("early"))

            async def says_why() -> bool:
                return "Run `slotwire migrate --pre`" in (await runner.problems.check() or "")

            async with running_agents(runner):
                await until(says_why)
                assert "joining" in (await runner.problems.check() or "")
        await superuser.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await superuser.close()
