"""The whole way while its parts are killed in turn: nothing acknowledged is lost, nothing is seen twice."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from slotwire.ingest.simulator.ledger import MessageFilter
from slotwire.ingest.simulator.model import Message
from tests.support.end_to_end import EndToEnd, committed_records, end_to_end
from tests.support.writing import until_written

SETTLED_SECONDS = 120


def acknowledged(world: EndToEnd) -> list[Message]:
    """Return the deliveries the simulator has had a 2xx for."""
    wanted = MessageFilter("acknowledged", None, None, None)
    return [message for message, _ in world.simulator.engine.ledger.listing(wanted, 0, 100_000)]


async def until_acknowledged(world: EndToEnd, count: int) -> None:
    """Wait until so many are acknowledged."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while len(acknowledged(world)) < count:  # noqa: ASYNC110  # another process and another clock say when
            await asyncio.sleep(0.05)


async def until_in_ledger(world: EndToEnd, count: int) -> None:
    """Wait until the agent has written so many events down."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while (await world.rows("SELECT count(*) AS n FROM public.ledger"))[0]["n"] < count:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.05)


async def kill_in_turn(stack: Stack, world: EndToEnd, deliveries: int, rounds: int) -> None:
    """Send deliveries while relay, agent, service, Postgres and Kafka are killed one after the other."""
    await world.simulate("load", count=deliveries, rate=200, wait=False)
    step = deliveries // (5 * rounds + 1)
    goal = 0
    for _ in range(rounds):
        for victim in (world.relay, world.agent, world.serve):
            await until_acknowledged(world, goal := goal + step)
            await victim.kill()
            await victim.restart()
        await until_acknowledged(world, goal := goal + step)
        await stack.postgres.kill()
        await stack.postgres.restart()
        await until_acknowledged(world, goal := goal + step)
        await stack.kafka.kill()
        await stack.kafka.restart()
    await until_acknowledged(world, deliveries)


async def check(stack: Stack, world: EndToEnd) -> None:
    """Count what the simulator, Postgres, Kafka and the agent saw against each other."""
    await until_written(world.database.owner_url)
    log = await world.rows(
        "SELECT event_id, type, subject, key, position FROM slotwire.events"
        " WHERE type NOT LIKE 'io.slotwire.connection%' ORDER BY position"
    )
    await until_in_ledger(world, len(log))
    known = {(row["type"].removeprefix("com.calendly.").removesuffix(".v1"), row["subject"]) for row in log}
    sent = acknowledged(world)
    assert [each for each in sent if (each.event, each.resource) not in known] == []
    ledger = await world.rows("SELECT event_id, key, sequence FROM public.ledger ORDER BY number")
    assert Counter(row["event_id"] for row in ledger) == Counter(row["event_id"] for row in log)
    by_key: dict[str, list[int]] = defaultdict(list)
    for row in ledger:
        by_key[row["key"]].append(row["sequence"])
    assert all(sequence == sorted(sequence) for sequence in by_key.values())
    records = []
    for topic in ("calendly.invitee", "calendly.routing-form"):
        expected = sum(row["type"].startswith("com.calendly.routing") == (topic != "calendly.invitee") for row in log)
        name = f"{world.topic_prefix}{topic}"
        records += await asyncio.to_thread(committed_records, stack.kafka_bootstrap_servers, name, expected)
    assert Counter(record.headers["ce_id"] for record in records) == Counter(str(row["event_id"]) for row in log)
    positions = {str(row["event_id"]): row["position"] for row in log}
    for record in records:
        assert int(record.headers["ce_sequence"]) == positions[record.headers["ce_id"]]


async def test_killing_each_process_in_turn_loses_and_duplicates_nothing(
    breakable_stack: Stack, database: Database, topic_prefix: str
) -> None:
    """Relay, agent, service, Postgres and Kafka die under 1,000 deliveries: each arrives, readers see each once."""
    async with end_to_end(breakable_stack, database, topic_prefix) as world:
        await kill_in_turn(breakable_stack, world, 1_000, 1)
        await check(breakable_stack, world)
        assert len(acknowledged(world)) == 1_000


@pytest.mark.soak
async def test_killing_each_process_in_turn_soak(breakable_stack: Stack, database: Database, topic_prefix: str) -> None:
    """The long form: 20,000 deliveries, ten rounds of kills."""
    async with end_to_end(breakable_stack, database, topic_prefix) as world:
        await kill_in_turn(breakable_stack, world, 20_000, 10)
        await check(breakable_stack, world)
        assert len(acknowledged(world)) == 20_000
