"""Events that end the process which runs them: found among the others, given up, and driven again; nobody else pays."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from slotwire.handlers import Agent, Context
from slotwire.handlers.author.shown_runs import ShownRuns
from slotwire.handlers.dispatch.careful import MIN_DEATHS, SPAN, Care, Careful, ProcessLife, released_after
from slotwire.handlers.patience import Interrupted, Patience
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.problems import Problems
from slotwire.handlers.records import Partition
from slotwire.handlers.registry import group_name
from slotwire.handlers.schedule.schedule_store import ScheduleStore
from slotwire.handlers.settle.dead_letters import GiveUpReason
from slotwire.handlers.settle.noted_runs import NotedRuns, RunSuspicion
from slotwire.handlers.testing import record_of
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import (
    NOTE_EFFECT,
    AgentSetup,
    agent_setup,
    in_order,
    invitee_created,
    one_effect_each,
    running_agents,
    until,
)
from tests.support.command import slotwire
from tests.support.fork_server import Forked

LETHAL = """
import os
from pathlib import Path
import asyncpg
from slotwire.handlers import Agent
from slotwire.handlers.policy import RetryPolicy
from slotwire.ingest.foundation.settings import load_settings
from slotwire.schemas.events import InviteeCreated

agent = Agent("lethal", retry=RetryPolicy(attempts=1, first_seconds=0.01, longest_seconds=0.05))

async def charge(key):
    connection = await asyncpg.connect(load_settings().database_url.get_secret_value())
    await connection.execute("INSERT INTO outside (key) VALUES ($1)", key)
    await connection.close()

@agent.on(InviteeCreated)
async def note(event, ctx):
    if event.key == "bad" and event.sequence % 2 == 1:
        await ctx.step("charge", charge)
    async with ctx.transaction() as connection:
        await connection.execute("INSERT INTO effects (event_id, key, sequence) VALUES ($1, $2, $3)",
                                 event.id, event.key, event.sequence)
        if event.key == "bad" and event.sequence % 2 == 1 and Path("lethal").exists():
            os._exit(70)
"""
MAX_LIVES = MIN_DEATHS + 3
"""The first death is not noted, the second may have others beside it, and the last process gives the event up."""
TOPIC = Partition("topic", 0)


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics, a database and the outside's ledger of the test's own."""
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("CREATE TABLE outside (key text); GRANT ALL ON outside TO PUBLIC")
    await owner.close()
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as made:
        yield made


async def lives_until(setup: AgentSetup, folder: Path, query: str, child: Forked | None = None) -> tuple[int, Forked]:
    """Start the lethal agent again and again until a query says that it is so.

    Args:
        setup: where it runs.
        folder: where its module is.
        query: for a boolean.
        child: the first process, if it runs already.

    Returns:
        How many processes died, and the one that lives.
    """

    async def so() -> bool:
        return bool(await setup.pool.fetchval(query))

    died = 0
    while True:
        child = child or Forked(("agents", "run", "lethal_agent:agent"), setup.environment(), folder)
        ended, reached = asyncio.create_task(child.wait()), asyncio.create_task(until(so))
        await asyncio.wait({ended, reached}, return_when=asyncio.FIRST_COMPLETED)
        if reached.done():
            ended.cancel()
            return died, child
        reached.cancel()
        assert await ended == 70
        died, child = died + 1, None


async def redrive(setup: AgentSetup, letter: UUID) -> None:
    """Have the agent handle its dead letter again, as an operator does."""
    driven = await slotwire("dead-letters", "redrive", str(letter), env=setup.environment())
    assert driven.code == 0, driven.stderr


async def test_an_event_that_ends_its_process_becomes_a_dead_letter(setup: AgentSetup, tmp_path: Path) -> None:
    """After three deaths that it alone is to blame for, again when it is redriven too early; all others take effect."""
    (tmp_path / "lethal_agent.py").write_text(LETHAL)
    (tmp_path / "lethal").touch()
    events = [invitee_created("bad" if n in {7, 8} else f"key-{n % 9}", n) for n in range(1, 60)]
    bad, others = events[6], [*events[:6], *events[7:]]
    await setup.publish(*events)
    died, child = await lives_until(setup, tmp_path, f"SELECT count(*) = {len(others)} FROM slotwire.inbox")
    assert MIN_DEATHS < died <= MAX_LIVES
    effects = await setup.effects()
    assert one_effect_each(effects, others)
    assert in_order(effects)
    [letter] = await setup.pool.fetch("SELECT id, event_id, reason, attempts FROM slotwire.dead_letters")
    assert letter["event_id"] == bad.id
    assert (letter["reason"], letter["attempts"]) == ("its process died 3 times while it ran", MIN_DEATHS)
    [record] = await setup.dead_letters("lethal", 1)
    assert dict(record.headers)["slotwire-error-reason"] == letter["reason"].encode()
    assert await setup.pool.fetchval("SELECT count(*) FROM slotwire.noted_runs") == 0
    await redrive(setup, letter["id"])
    again = "SELECT reason = 'its process died 3 times while it ran' FROM slotwire.dead_letters WHERE times = 2"
    died, child = await lives_until(setup, tmp_path, again, child)
    assert MIN_DEATHS <= died <= MAX_LIVES
    (tmp_path / "lethal").unlink()
    await redrive(setup, letter["id"])
    await setup.settle(events)
    await until(lambda: noted_as(setup, "settled"))
    child.terminate()
    assert await child.wait() == 0, "a stop that was asked for ends well"
    assert one_effect_each(await setup.effects(), events)
    assert await setup.pool.fetchval("SELECT count(*) FROM outside") == 1, "what its journal has is not done again"


async def noted_as(setup: AgentSetup, state: str) -> bool:
    """Whether the only dead letter is in a state."""
    return bool(await setup.pool.fetchval("SELECT state = $1 FROM slotwire.dead_letters", state))


def watched(running: set[int], seen: list[int], most: list[int], let_end: asyncio.Event) -> Agent:
    """Make an agent whose events of sequence 100 and above wait for a signal, and are counted while they run."""
    agent = Agent("watched", grace_seconds=0)

    @agent.on(InviteeCreated)
    async def note(event: Event[InviteeCreated], ctx: Context) -> None:
        if event.sequence >= 100:
            running.add(event.sequence)
            most.append(len(running))
            try:
                await let_end.wait()
            finally:
                running.discard(event.sequence)
        async with ctx.transaction() as connection:
            await connection.execute(NOTE_EFFECT, event.id, event.key, event.sequence)
        seen.append(event.sequence)

    return agent


async def test_suspects_run_one_at_a_time_beside_everything_else(setup: AgentSetup) -> None:
    """Others are not held up; a stop blames nobody; what outlives its run is suspected no more."""
    running, seen, most, let_end = set[int](), list[int](), list[int](), asyncio.Event()
    agent = watched(running, seen, most, let_end)
    suspects = [invitee_created(f"suspect-{n}", 100 + n) for n in range(6)]
    others = [invitee_created(f"key-{n}", n) for n in range(1, 20)]
    await setup.publish(*suspects, *others)
    runner = setup.runner(agent)
    async with running_agents(runner):
        await until(lambda: len(running) == len(suspects))
        assert await noted(setup) == [], "in the usual case nothing is noted"
        dead = await setup.pool.fetchval("SELECT process FROM slotwire.agent_starts WHERE process IS NOT NULL LIMIT 1")
        await until(lambda: len(seen) == len(others))
    assert await names(setup) == {None}
    await setup.pool.execute("UPDATE slotwire.agent_starts SET process = $1", dead)
    await setup.pool.executemany(
        "INSERT INTO slotwire.noted_runs (agent, topic, partition, event_id, process, state, at, seen)"
        " SELECT 'watched', topic, partition, $1, $2, 'running', now(), 1 FROM slotwire.agent_starts",
        [(event.id, dead) for event in suspects],
    )
    more = [invitee_created(f"more-{n}", n) for n in range(20, 40)]
    await setup.publish(*more)
    most.clear()
    async with running_agents(setup.runner(agent)):
        await until(lambda: len(seen) == len(others) + len(more) and running)
        assert len(running) == 1
    assert await names(setup) == {dead}, "who leaves before all that the dead one had is done says so to the next one"
    assert set(await noted(setup)) == {("died", 2, 0), ("ended", 2, 0)}, "six ran at the death: none is to blame"
    let_end.set()
    async with running_agents(setup.runner(agent)):
        await setup.settle([*suspects, *others, *more])

        async def forgotten() -> bool:
            return not await noted(setup)

        await until(forgotten)
        ends = await setup.ends()
        await until(lambda: committed_to(setup, ends))
    assert await names(setup) == {None}
    assert set(most) == {1}
    assert one_effect_each(await setup.effects(), [*suspects, *others, *more])


async def names(setup: AgentSetup) -> set[UUID | None]:
    """Read which processes are named where agents work."""
    return {row["process"] for row in await setup.pool.fetch("SELECT process FROM slotwire.agent_starts")}


async def committed_to(setup: AgentSetup, ends: dict[int, int]) -> bool:
    """Whether the agent that is watched has committed all there is."""
    return await setup.committed(group_name(setup.settings.kafka.topic_prefix, Agent("watched"))) == ends


async def noted(setup: AgentSetup) -> list[tuple[str, int, int]]:
    """Read the notes of runs."""
    rows = await setup.pool.fetch("SELECT state, seen, deaths FROM slotwire.noted_runs")
    return [tuple(row) for row in rows]


def life(setup: AgentSetup, agent: str = "crm") -> tuple[UUID, NotedRuns]:
    """Make the notes of one more process."""
    process = uuid4()
    return process, NotedRuns(setup.pool, agent=agent, process=process, clock=SystemClock())


async def test_a_death_is_blamed_on_what_alone_was_suspected(setup: AgentSetup) -> None:
    """Over partitions and agents; what was done counts for nobody, and what ran beside it is suspected from then on."""
    a, b, c, d = (uuid4() for _ in range(4))
    elsewhere = Partition("topic", 1)
    first, notes = life(setup)
    await asyncio.gather(*(notes.begin((TOPIC, each)) for each in (a, b)), notes.begin((elsewhere, c)))
    await notes.end((TOPIC, b))
    second, notes = life(setup)
    # Two ran, in partitions that are taken one after the other: neither is to blame.
    assert await notes.conclude({TOPIC: first}, [TOPIC]) == {(TOPIC, a): RunSuspicion(1, 0)}
    assert await notes.conclude({elsewhere: first}, [elsewhere]) == {(elsewhere, c): RunSuspicion(1, 0)}
    assert await notes.conclude({elsewhere: first}, [elsewhere]) == {(elsewhere, c): RunSuspicion(1, 0)}
    # One of them runs beside one that is not suspected.
    await asyncio.gather(notes.begin((TOPIC, a)), notes.begin((TOPIC, d)))
    third, notes = life(setup)
    found = {(TOPIC, a): RunSuspicion(2, 1), (TOPIC, d): RunSuspicion(1, 0)}
    assert await notes.conclude({TOPIC: second}, [TOPIC]) == found
    # A suspect of another agent ran in the same process.
    await notes.begin((TOPIC, a))
    others = NotedRuns(setup.pool, agent="mailer", process=third, clock=SystemClock())
    await others.begin((TOPIC, b))
    await setup.pool.execute("UPDATE slotwire.noted_runs SET seen = 1 WHERE agent = 'mailer'")
    fourth, notes = life(setup)
    assert (await notes.conclude({TOPIC: third}, [TOPIC]))[TOPIC, a] == RunSuspicion(3, 1)
    # It had its effect before the process died.
    await notes.begin((TOPIC, d))
    await setup.pool.execute("INSERT INTO slotwire.inbox (agent, event_id, done_at) VALUES ('crm', $1, now())", d)
    _, notes = life(setup)
    assert await notes.conclude({TOPIC: fourth}, [TOPIC]) == {(TOPIC, a): RunSuspicion(3, 1)}
    await notes.drop((TOPIC, a))
    assert await notes.conclude({}, [TOPIC]) == {}


async def test_whoever_fires_after_a_death_knows_of_it(setup: AgentSetup) -> None:
    """The process that takes the lease from one that stood still, and not from one that left."""
    about: dict[str, Any] = {"agent": "nightly", "clock": SystemClock(), "lease_seconds": 0.0}
    first, second, third = (ScheduleStore(setup.pool, process=uuid4(), **about) for _ in range(3))
    assert await first.take()
    assert first.died is None
    assert not await second.take()
    assert await second.take()
    assert second.died == first._process
    assert await second.take(), "to renew it"
    await second.leave()
    assert await third.take()
    assert third.died is None


INNOCENT = """
import asyncio
from slotwire.handlers import Agent
from slotwire.handlers.policy import RetryPolicy
from slotwire.schemas.events import InviteeCreated

agent = Agent("innocent", retry=RetryPolicy(attempts=1))

@agent.on(InviteeCreated)
async def note(event, ctx):
    await asyncio.sleep(0.05)
    async with ctx.transaction() as connection:
        await connection.execute("INSERT INTO effects (event_id, key, sequence) VALUES ($1, $2, $3)",
                                 event.id, event.key, event.sequence)
"""


@pytest.mark.soak
async def test_a_process_that_is_killed_at_its_first_effect_again_and_again_blames_no_event(
    setup: AgentSetup, tmp_path: Path
) -> None:
    """Twenty kills, each as soon as there is progress, with an agent of one attempt: every event has its effect."""
    (tmp_path / "innocent_agent.py").write_text(INNOCENT)
    events = [invitee_created(f"key-{n % 40}", n) for n in range(1, 2_001)]
    await setup.publish(*events)
    for _ in range(20):
        before = len(await setup.inbox())
        child = Forked(("agents", "run", "innocent_agent:agent"), setup.environment(), tmp_path)

        async def further(before: int = before) -> bool:
            return len(await setup.inbox()) > before

        await until(further)
        child.send_signal(signal.SIGKILL)
        assert await child.wait() == -signal.SIGKILL
    child = Forked(("agents", "run", "innocent_agent:agent"), setup.environment(), tmp_path)
    await setup.settle(events)
    child.terminate()
    assert await child.wait() == 0
    effects = await setup.effects()
    assert one_effect_each(effects, events)
    assert in_order(effects)
    assert await setup.pool.fetchval("SELECT count(*) FROM slotwire.dead_letters") == 0


async def test_what_is_run_with_care_and_when_it_is_given_up(setup: AgentSetup) -> None:
    """At each limit and one past it: offsets, deaths; and a turn ends with its time, with a stop, and with its run."""
    _, notes = life(setup)
    patience = Patience(Problems("crm", get_logger("test")), wait_for)
    said: list[str] = []
    show = ShownRuns(SystemClock(), said.append).suspected
    careful = Careful(notes, ProcessLife(), RetryPolicy(attempts=5, first_seconds=0.01), patience, show)
    event, other = invitee_created("one", 1), invitee_created("other", 2)
    going, stopping = asyncio.Event(), asyncio.Event()
    stopping.set()
    assert careful.of(record_of(event, partition=TOPIC, offset=0), event.id) is None
    await careful.beware({TOPIC: 100, Partition("topic", 1): 100}, {TOPIC: uuid4()}, {})
    for offset, partition, known in ((0, 0, True), (99 + SPAN, 0, True), (100 + SPAN, 0, False), (100, 1, False)):
        record = record_of(event, partition=Partition("topic", partition), offset=offset)
        assert (careful.of(record, event.id) is not None) == known
    assert careful.passed({TOPIC: 99 + SPAN}) == set()
    assert careful.passed({TOPIC: 100 + SPAN, Partition("topic", 1): 100 + SPAN}) == {TOPIC}
    careful.forget([TOPIC])
    assert careful.of(record_of(event, partition=TOPIC, offset=0), event.id) is None
    await careful.beware({TOPIC: 100}, {TOPIC: uuid4()}, {TOPIC: 150})
    for offset, known in ((149, True), (150, False)):
        assert (careful.of(record_of(event, partition=TOPIC, offset=offset), event.id) is not None) == known
        assert (careful.passed({TOPIC: offset}) == set()) == known
    careful.forget([TOPIC])
    for attempts, deaths, begun in ((5, 0, 0), (5, 4, 4), (1, 2, 0), (2, 2, 1)):
        careful.retry = RetryPolicy(attempts=attempts, first_seconds=0.01)
        assert await Care(careful, TOPIC, event.id, RunSuspicion(deaths, deaths)).begin(going) == begun
    assert said[1].endswith(f"{event.id}  runs with care: its process died 4 times while it ran")
    for attempts, deaths in ((5, 5), (1, MIN_DEATHS), (2, MIN_DEATHS)):
        careful.retry = RetryPolicy(attempts=attempts)
        why = await Care(careful, TOPIC, event.id, RunSuspicion(deaths, deaths)).begin(going)
        assert why == GiveUpReason(f"its process died {deaths} times while it ran", deaths)
    first, second = (Care(careful, TOPIC, each.id, RunSuspicion(1, 0)) for each in (event, other))
    async with first.turn(going):
        with pytest.raises(Interrupted):
            async with second.turn(stopping):
                raise AssertionError
        assert careful.life.turn.locked()
        async with Care(careful, TOPIC, other.id, None).turn(going):
            assert careful.life.turn.locked(), "who is not suspected waits for no turn"
    await careful.life.turn.acquire()
    with released_after(careful.life.turn, 0.0):
        async with second.turn(going):
            assert careful.life.turn.locked()
    assert not careful.life.turn.locked()
