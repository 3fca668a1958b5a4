"""Arbitrary records through a real agent on real Kafka: none ends it, and each is accounted for."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from slotwire.handlers import Agent, Context
from slotwire.handlers.policy import GiveUpLimit
from slotwire.handlers.records import Record
from slotwire.handlers.settle.dead_letters import LEFT_OUT
from slotwire.handlers.testing import record_of
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from slotwire.schemas.topics import dead_letter_topic
from tests.support.agent_setup import AgentSetup, agent_setup, invitee_created, reading, running_agents, until
from tests.support.odd_records import RawName, is_good, odd_record, send_raw

PATIENT = GiveUpLimit(run=1_000_000, window=10, share=1.0)
"""No number of dead letters stops the agent."""
STEP = 200
"""Records that are settled in a minute, on the slowest machine."""
ENDS = ("done", "skipped", "dead_lettered")


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own; one partition, so that a record that stops it stops all."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as made:
        yield made


@asynccontextmanager
async def producing(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    """Open a producer that sends what it is given."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=2_000_000)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def taking_agent(name: str, taken: list[int], *, limit: GiveUpLimit = PATIENT) -> Agent:
    """Make an agent that notes the positions of the events it is given."""
    agent = Agent(name, limit=limit)

    @agent.on(InviteeCreated)
    async def take(event: Event[InviteeCreated], ctx: Context) -> None:
        del ctx
        taken.append(event.sequence)

    return agent


def settled(agent: str) -> dict[str, int]:
    """Count an agent's settled records by what became of them."""
    counts = dict.fromkeys(ENDS, 0)
    for family in REGISTRY.collect():
        for sample in family.samples:
            if sample.name == "slotwire_handled_total" and sample.labels["agent"] == agent:
                outcome = sample.labels["outcome"]
                counts[outcome] = counts.get(outcome, 0) + int(sample.value)
    return counts


async def all_settled(agent: str, count: int) -> None:
    """Wait until an agent has settled so many records; it must settle `STEP` more, or the last, again and again."""
    while (done := _total(agent)) < count:

        def further(aim: int = min(count, done + STEP)) -> bool:
            return _total(agent) >= aim

        await until(further, seconds=120)


def _total(agent: str) -> int:
    counts = settled(agent)
    return sum(counts[end] for end in ENDS)


async def count_records(setup: AgentSetup, topic: str) -> int:
    """Read a topic of one partition to its end."""
    place, count = TopicPartition(topic, 0), 0
    async with reading(setup.settings.kafka.bootstrap_servers) as consumer:
        consumer.assign([place])
        await consumer.seek_to_beginning()
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            count += sum(map(len, (await consumer.getmany(timeout_ms=200)).values()))
    return count


async def account_for(setup: AgentSetup, name: str, records: Iterator[Record]) -> None:
    """Send records, then a last good one, to a running agent: it is handled, and the three ends add up."""
    taken: list[int] = []
    runner, sent, good = setup.runner(taking_agent(name, taken), interval=0.5), 0, set[int]()

    def counted() -> Iterator[Record]:
        nonlocal sent
        for record in records:
            if is_good(record, sent):
                good.add(sent + 1)
            sent += 1
            yield record

    async with running_agents(runner), producing(setup.settings.kafka.bootstrap_servers) as producer:
        await send_raw(producer, setup.topic, counted())
        await all_settled(name, sent)
        assert await runner.problems.check() is None
        last = record_of(invitee_created("last", 10**9))
        await send_raw(producer, setup.topic, [last])
        await until(lambda: 10**9 in taken)
    counts = settled(name)
    letters = await count_records(setup, dead_letter_topic(setup.topic, name))
    sys.stderr.write(f"{sent} arbitrary records: {counts}, {letters} dead letters, {len(good)} of them good events\n")
    assert sum(counts[end] for end in ENDS) == sent + 1
    assert counts["dead_lettered"] == letters
    assert counts["done"] == len(taken) == len(await setup.inbox())
    assert good <= set(taken)


def drawn(count: int, seed: int) -> Iterator[Record]:
    """Draw records."""
    draw = random.Random(seed)  # noqa: S311 - chance, not a secret
    return (odd_record(draw, number) for number in range(count))


async def test_each_of_thousands_of_arbitrary_records_is_accounted_for(setup: AgentSetup) -> None:
    """Handled + skipped + dead-lettered = sent; every good event is handled, and the agent is well at the end."""
    await account_for(setup, "odd", drawn(3_000, seed=11))


@pytest.mark.soak
async def test_each_of_a_hundred_thousand_arbitrary_records_is_accounted_for(setup: AgentSetup) -> None:
    """The same with a hundred thousand records."""
    await account_for(setup, "odd-soak", drawn(100_000, seed=12))


@pytest.mark.parametrize("compression", range(5), ids=["none", "gzip", "snappy", "lz4", "zstd"])
async def test_a_header_s_name_that_is_not_text_is_read_and_travels_escaped(
    setup: AgentSetup, compression: int
) -> None:
    """A broker stores it; the agent reads its batch all the same, and the letter has it escaped."""
    event, nameless = record_of(invitee_created("k", 1)), record_of(invitee_created("k", 2))
    odd = replace(nameless, headers=((RawName.of(b"na\xffme"), b"v"),))
    marked = replace(event, headers=(*event.headers, (RawName.of(b"\xc3\x28"), None)))
    taken: list[int] = []
    async with running_agents(setup.runner(taking_agent("names", taken))):
        async with producing(setup.settings.kafka.bootstrap_servers) as producer:
            await send_raw(producer, setup.topic, [odd, marked], compression=compression)
        await until(lambda: taken == [1])
        (letter,) = await setup.dead_letters("names", 1)
    assert (letter.key, letter.value) == (odd.key, odd.value)
    assert dict(letter.headers)["na\\xffme"] == b"v"
    assert dict(letter.headers)["slotwire-error-reason"] == b"not_an_event: the header ce_id is missing"


async def test_tombstones_nulls_and_timestamps_at_the_ends_are_settled(setup: AgentSetup) -> None:
    """Key and value null, together or alone, and times that are none: dead letters, and the next event is handled."""
    good = record_of(invitee_created("k", 1))
    odd = [
        replace(good, key=None, value=None),
        replace(good, value=None),
        replace(good, key=None, value=None, headers=()),
        replace(good, key=b"", value=b"", headers=(("ce_type", None),)),
    ]
    times = [datetime.fromtimestamp(stamp, UTC) for stamp in (0, -0.001, -62_000_000_000)]
    timed = [replace(record_of(invitee_created("t", n)), published_at=time) for n, time in enumerate(times, start=2)]
    taken: list[int] = []
    async with running_agents(setup.runner(taking_agent("nulls", taken))):
        async with producing(setup.settings.kafka.bootstrap_servers) as producer:
            await send_raw(producer, setup.topic, [*odd, *timed[:2], good])
        await until(lambda: set(taken) == {1, 2, 3})
        letters = await setup.dead_letters("nulls", 4)
    assert [(each.key, each.value) for each in sorted(letters, key=place)] == [
        (None, b""),
        (b"k", None),
        (None, b""),
        (b"", b""),
    ]


def place(letter: Any) -> int:
    """Return the offset of the record that a letter is of."""
    return int(dict(letter.headers)["slotwire-error-offset"])


async def test_a_dead_letter_too_large_for_its_topic_goes_without_what_does_not_fit(setup: AgentSetup) -> None:
    """The topic of the letters takes less than that of the events: first the value stays behind, then the headers."""
    kafka, name = setup.settings.kafka, "narrow"
    taken: list[int] = []
    large = record_of(invitee_created("k", 1))
    headers = (*large.headers[1:], ("ce_time", b"never"), ("note", b"n" * 1_000))
    records = [
        replace(large, headers=headers, value=b"x" * 200_000),
        replace(large, headers=(*headers, ("more", b"m" * 30_000)), value=b"x" * 200_000),
    ]
    async with running_agents(setup.runner(taking_agent(name, taken), interval=0.2)) as _:
        await until(lambda: _exists(setup, dead_letter_topic(setup.topic, name)))
        await limit_topic(kafka.bootstrap_servers, dead_letter_topic(setup.topic, name), 10_000)
        async with producing(kafka.bootstrap_servers) as producer:
            await send_raw(producer, setup.topic, [*records, record_of(invitee_created("k", 2))])
        await until(lambda: taken == [2])
        first, second = sorted(await setup.dead_letters(name, 2), key=place)
    assert (first.value, dict(first.headers)[LEFT_OUT]) == (b"", b"value")
    assert dict(first.headers)["note"] == b"n" * 1_000
    assert (second.value, dict(second.headers)[LEFT_OUT]) == (b"", b"value, headers")
    assert {dict(each.headers)["slotwire-error-topic"] for each in (first, second)} == {setup.topic.encode()}


async def _exists(setup: AgentSetup, topic: str) -> bool:
    async with reading(setup.settings.kafka.bootstrap_servers) as consumer:
        return topic in await consumer.topics()


async def limit_topic(bootstrap: str, topic: str, size: int) -> None:
    """Let a topic take records of at most so many bytes."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        wanted = {"max.message.bytes": str(size)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=wanted)])

        async def is_known() -> bool:  # the controller's answer comes before the broker knows of it
            [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=wanted)])
            [[*_, entries]] = answer.resources
            return {name: value for name, value, *_ in entries} == wanted

        await until(is_known)
    finally:
        await admin.close()


async def test_usual_limits_hold_for_foreign_records_too(setup: AgentSetup) -> None:
    """A topic full of records that are no events stops the agent at its limit, which is no end: it says why."""
    runner = setup.runner(taking_agent("usual", [], limit=GiveUpLimit(run=5)))
    foreign = [replace(record_of(invitee_created("k", n)), headers=()) for n in range(10)]
    async with running_agents(runner):
        async with producing(setup.settings.kafka.bootstrap_servers) as producer:
            await send_raw(producer, setup.topic, foreign)

        async def says_why() -> bool:
            return "gave up 5 events in a row" in (await runner.problems.check() or "")

        await until(says_why)
    assert settled("usual")["dead_lettered"] == 5
