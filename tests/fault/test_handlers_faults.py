"""Agents under faults: killed at every point, torn between members, badly deployed, slow, cut off."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from structlog.testing import capture_logs

from slotwire.handlers import Agent, Context
from slotwire.handlers.policy import GiveUpLimit, RetryPolicy
from slotwire.handlers.settle.inbox import AlreadyDone, PostgresInbox
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import (
    NOTE_EFFECT,
    AgentSetup,
    agent_setup,
    in_order,
    invitee_created,
    ledger_agent,
    one_effect_each,
    running_agents,
    until,
)
from tests.support.fork_server import Forked

MORTAL = """
import asyncio, os, signal
import asyncpg
from slotwire.handlers import Agent
from slotwire.ingest.foundation.settings import load_settings
from slotwire.schemas.events import InviteeCreated

agent = Agent("mortal")
POINTS = ("before the effect", "after it, before the commit", "after the commit, before the offset")

one_by_one = asyncio.Lock()

async def die_here(point, sequence):
    async with one_by_one:
        connection = await asyncpg.connect(load_settings().database_url.get_secret_value())
        due = await connection.fetchval("DELETE FROM deaths WHERE point = $1 AND sequence = $2 RETURNING true",
                                        point, sequence)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        await connection.close()

@agent.on(InviteeCreated)
async def note(event, ctx):
    if event.sequence % 10 == 0:
        await die_here(0, event.sequence)
    async with ctx.transaction() as connection:
        await connection.execute("INSERT INTO effects (event_id, key, sequence) VALUES ($1, $2, $3)",
                                 event.id, event.key, event.sequence)
        if event.sequence % 10 == 0:
            await die_here(1, event.sequence)
    if event.sequence % 10 == 0:
        await die_here(2, event.sequence)
"""


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


async def killed_again_and_again(
    setup: AgentSetup, database: Database, folder: Path, *, deaths: int
) -> tuple[int, list[Event[InviteeCreated]]]:
    """Let a member die by SIGKILL at each point in turn, and start it again each time.

    Returns:
        How often it died, and what it had to handle.
    """
    (folder / "mortal_agent.py").write_text(MORTAL)
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("CREATE TABLE deaths (point int, sequence int); GRANT ALL ON deaths TO PUBLIC")
    await owner.executemany("INSERT INTO deaths VALUES ($1, $2)", [(n % 3, (n + 1) * 10) for n in range(deaths)])
    await owner.close()
    events = [invitee_created(f"key-{n % 7}", n) for n in range(1, deaths * 10 + 20)]
    await setup.publish(*events)
    died = 0
    while True:
        child = Forked(("agents", "run", "mortal_agent:agent"), setup.environment(), folder)
        done = asyncio.create_task(setup.settle(events))
        ended = asyncio.create_task(child.wait())
        await asyncio.wait({done, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            break
        done.cancel()
        assert await ended == -signal.SIGKILL
        died += 1
    child.terminate()
    assert await ended == 0, "a stop that was asked for ends well"
    await done
    # Whoever was past its effect when another event's death took the process does not come to its own.
    spared = await setup.pool.fetch("SELECT point FROM deaths")
    assert {row["point"] for row in spared} <= {2}
    assert died + len(spared) == deaths
    return died, events


async def test_a_member_killed_at_any_point_leaves_one_effect_an_event(
    setup: AgentSetup, database: Database, tmp_path: Path
) -> None:
    """SIGKILL before the effect, after it, and before the offset's commit: the ledger shows one effect an event."""
    died, events = await killed_again_and_again(setup, database, tmp_path, deaths=3)
    assert died >= 2
    assert one_effect_each(await setup.effects(), events)
    assert in_order(await setup.effects())


@pytest.mark.soak
async def test_a_member_killed_thirty_times_leaves_one_effect_an_event(
    setup: AgentSetup, database: Database, tmp_path: Path
) -> None:
    """The long form: ten deaths at each point."""
    died, events = await killed_again_and_again(setup, database, tmp_path, deaths=30)
    assert died >= 20
    assert one_effect_each(await setup.effects(), events)
    assert in_order(await setup.effects())


async def test_a_second_member_with_the_same_event_waits_then_skips(setup: AgentSetup) -> None:
    """Two members with one event: the second one's transaction waits for the first, and finds the mark.

    That is what is left between a member that lost its membership without hearing of it and its successor.
    """
    event = invitee_created("k", 1)
    first, second = (PostgresInbox(setup.pool, agent="a", clock=SystemClock(), idle_seconds=60) for _ in range(2))
    waiting = asyncio.Event()

    async def come_second() -> None:
        waiting.set()
        async with second.transaction(event.id):
            raise AssertionError("two owners had their effect")

    async def locked() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return bool(await setup.pool.fetchval(query))

    async with first.transaction(event.id) as connection:
        rival = asyncio.create_task(come_second())
        await waiting.wait()
        await until(locked)
        await connection.execute(NOTE_EFFECT, event.id, event.key, event.sequence)
    with pytest.raises(AlreadyDone):
        await rival
    assert len(await setup.effects()) == 1


async def torn_between_members(setup: AgentSetup, *, rounds: int, seed: int) -> tuple[int, list[Event[InviteeCreated]]]:
    """Let a second member come and go while events are published.

    Returns:
        How often a member was given partitions, and what was published.
    """
    chance = random.Random(seed)  # noqa: S311 - a schedule that can be drawn again, no secret
    agent = ledger_agent("torn", pause=chance)
    published: list[Event[InviteeCreated]] = []
    with capture_logs() as logs:
        async with running_agents(setup.runner(agent, interval=0.2)):
            await until(lambda: _assigned(logs) >= 1)
            for _ in range(rounds):
                before = _assigned(logs)
                async with running_agents(setup.runner(agent)) as leave:
                    for _ in range(4):
                        first = len(published)
                        more = [invitee_created(f"key-{n % 15}", n + 1) for n in range(first, first + 60)]
                        published.extend(more)
                        await setup.publish(*more)
                    await until(lambda: _assigned(logs) >= before + 2)  # noqa: B023 - awaited before it moves on
                    leave.set()
                await until(lambda: _assigned(logs) >= before + 3)  # noqa: B023 - awaited before it moves on
            await setup.settle(published)
    assert not any(line["event"] == "process_died" for line in logs), "who leaves in order is not taken for dead"
    return _assigned(logs), published


def _assigned(logs: Sequence[Mapping[str, object]]) -> int:
    return sum(line["event"] == "partitions_assigned" for line in logs)


async def test_rebalances_lose_duplicate_and_reorder_nothing(setup: AgentSetup) -> None:
    """With a member that comes and goes every second, each key keeps its order and each event has one effect."""
    seed = random.SystemRandom().randrange(10**6)
    assignments, published = await torn_between_members(setup, rounds=3, seed=seed)
    assert assignments >= 10, "the members did not rebalance"
    assert one_effect_each(await setup.effects(), published), f"seed {seed}"
    assert in_order(await setup.effects()), f"seed {seed}"


@pytest.mark.soak
async def test_many_rebalances_lose_duplicate_and_reorder_nothing(setup: AgentSetup) -> None:
    """The long form: fifty rounds of joining and leaving."""
    seed = random.SystemRandom().randrange(10**6)
    assignments, published = await torn_between_members(setup, rounds=50, seed=seed)
    assert assignments >= 151, "the members did not rebalance"
    assert one_effect_each(await setup.effects(), published), f"seed {seed}"
    assert in_order(await setup.effects()), f"seed {seed}"


async def test_a_rebalance_interrupts_only_what_moves(setup: AgentSetup) -> None:
    """A second member joins while long handlers run: those of partitions that stay go on, and the others run there."""
    agent, go_on = Agent("long"), asyncio.Event()
    begun: list[str] = []
    interrupted: list[str] = []

    @agent.on(InviteeCreated)
    async def note(event: Event[InviteeCreated], ctx: Context) -> None:
        begun.append(event.key)
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            interrupted.append(event.key)
            raise
        async with ctx.transaction() as connection:
            await connection.execute(NOTE_EFFECT, event.id, event.key, event.sequence)

    events = [invitee_created(f"key-{n}", sequence) for sequence in (1, 2) for n in range(12)]
    await setup.publish(*events)
    async with running_agents(setup.runner(agent, move_grace=0.2)):
        await until(lambda: len(begun) == 12)
        async with running_agents(setup.runner(agent, move_grace=0.2)):
            await until(lambda: interrupted and len(begun) == 12 + len(interrupted))
            assert len(set(interrupted)) == len(interrupted) < 12
            go_on.set()
            await setup.settle(events)
    assert one_effect_each(await setup.effects(), events)
    assert in_order(await setup.effects())


async def test_a_bad_deploy_stops_before_the_topic_drains(setup: AgentSetup) -> None:
    """Every event fails: the agent gives up its limit, stops, not ready and alarmed; once mended nothing is lost."""
    limit = 5
    bad = Agent(
        "deployed",
        retry=RetryPolicy(attempts=2, first_seconds=0.01, longest_seconds=0.02),
        limit=GiveUpLimit(run=limit),
    )

    @bad.on(InviteeCreated)
    async def fail(event: Event[InviteeCreated], ctx: Context) -> None:
        del event, ctx
        raise RuntimeError

    events = [invitee_created(f"key-{n % 30}", n) for n in range(1, 201)]
    await setup.publish(*events)
    runner = setup.runner(bad, interval=0.1)

    async def stopped() -> bool:
        return "has stopped" in (await runner.problems.check() or "")

    async with running_agents(runner):
        await until(stopped)
        letters = await setup.dead_letters("deployed", limit)
        await until(lambda: REGISTRY.get_sample_value("slotwire_consumer_in_flight", {"agent": "deployed"}) == 0)
        assert len(letters) == limit
    count = REGISTRY.get_sample_value("slotwire_dead_letters_total", {"agent": "deployed", "topic": setup.topic})
    assert count == limit

    given_up = {UUID(dict(letter.headers)["ce_id"].decode()) for letter in letters}

    async def complete() -> bool:
        return {row["event_id"] for row in await setup.effects()} >= {event.id for event in events} - given_up

    async with running_agents(setup.runner(ledger_agent("deployed"))):
        await until(complete)
    # What was given up behind an event that was not settled comes again, too; the inbox keeps it at one effect.
    assert max(Counter(row["event_id"] for row in await setup.effects()).values()) == 1


async def test_a_slow_handler_keeps_its_membership_and_holds_back_only_its_key(setup: AgentSetup) -> None:
    """A handler that runs longer than the session's timeout causes no rebalance, and other keys go on meanwhile."""
    agent = Agent("slow")
    release, begun = asyncio.Event(), asyncio.Event()
    handled: list[str] = []

    @agent.on(InviteeCreated)
    async def note(event: Event[InviteeCreated], ctx: Context) -> None:
        del ctx
        if event.key == "slow":
            begun.set()
            await release.wait()
        handled.append(event.key)

    loop, seconds = asyncio.get_running_loop(), setup.settings.agents.session_timeout_seconds
    with capture_logs() as logs:
        async with running_agents(setup.runner(agent, interval=0.2)):
            await setup.publish(invitee_created("slow", 1), invitee_created("slow", 2))
            await asyncio.wait_for(begun.wait(), 60)
            began = loop.time()
            n = 0
            while loop.time() - began < seconds + 0.5 or n <= 5:
                n += 1
                await setup.publish(invitee_created(f"quick-{n}", 1))
                await until(lambda: handled[-1:] == [f"quick-{n}"])  # noqa: B023 - awaited before n moves on
            release.set()
            await until(lambda: handled.count("slow") == 2)
    assert _assigned(logs) == 1


async def test_agents_notice_a_frozen_broker_and_wait_for_a_dead_one(
    setup: AgentSetup, breakable_stack: Stack, database: Database
) -> None:
    """A frozen Kafka makes the agent stuck, not ready and alarmed; a killed one, and a killed Postgres, are waited for.

    When they are back it goes on by itself, and no attempt of any event was burnt.
    """
    agent = ledger_agent("cut-off")
    runner = setup.runner(agent, interval=0.2, stuck_after=1.5)
    sent = 0

    async def well() -> bool:
        return await runner.problems.check() is None

    async def held() -> bool:
        return bool(await runner.problems.check())

    def stuck() -> bool:
        return REGISTRY.get_sample_value("slotwire_consumer_stuck", {"agent": "cut-off"}) == 1

    async def publish() -> None:
        nonlocal sent
        sent += 1
        await setup.publish(invitee_created("k", sent))

    async def all_effects() -> bool:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return len(await setup.effects()) == sent
        return False

    async with running_agents(runner):
        await publish()
        await until(all_effects)
        breakable_stack.kafka.freeze()
        await until(stuck)
        assert await held()
        breakable_stack.kafka.thaw()
        await until(well)
        await publish()
        await until(all_effects)
        await breakable_stack.kafka.kill()
        await until(held)
        await breakable_stack.kafka.restart()
        await publish()
        await until(all_effects)
        await breakable_stack.postgres.kill()
        await publish()
        await until(held)
        await breakable_stack.postgres.restart()
        await until(all_effects)
        await until(well)
    assert in_order(await setup.effects())
    assert REGISTRY.get_sample_value("slotwire_dead_letters_total", {"agent": "cut-off", "topic": setup.topic}) == 0
    retried = {"agent": "cut-off", "type": InviteeCreated.type, "outcome": "retried"}
    assert REGISTRY.get_sample_value("slotwire_handled_total", retried) is None
