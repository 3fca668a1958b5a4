"""What an agent handles later: long retries and all behind them, and dead letters that are driven again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from slotwire.handlers import Agent, Context, Reject, Retry
from slotwire.handlers.settle.ledger import MAX_REMEMBERED
from slotwire.handlers.testing import record_of
from slotwire.ingest.control import retention
from slotwire.ingest.foundation.agents_settings import AgentsSettings
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.retention_settings import RetentionSettings
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import (
    NOTE_EFFECT,
    AgentSetup,
    agent_setup,
    invitee_created,
    one_effect_each,
    running_agents,
    until,
)
from tests.support.command import CommandResult, slotwire

BEGIN = datetime(2026, 11, 23, 9, tzinfo=UTC)
SOON: dict[str, Any] = {"interval": 0.1, "queue_interval": 0.02}


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as made:
        yield made


class Scripted:
    """An agent that does with each event what a test says, and notes what it was given.

    Attributes:
        seen: key, sequence, attempt of each run.
        runs: the contexts of all runs.
    """

    def __init__(self, name: str = "scripted") -> None:
        self.agent = Agent(name)
        self.answers: dict[tuple[str, int], list[Retry | Reject]] = {}
        self.seen: list[tuple[str, int, int]] = []
        self.runs: list[Context] = []

        @self.agent.on(InviteeCreated)
        async def handle(event: Event[InviteeCreated], ctx: Context) -> Retry | Reject | None:
            self.seen.append((event.key, event.sequence, ctx.attempt))
            self.runs.append(ctx)
            if answers := self.answers.get((event.key, event.sequence)):
                return answers.pop(0)
            async with ctx.transaction() as connection:
                await connection.execute(NOTE_EFFECT, event.id, event.key, event.sequence)
            return None


async def all_committed(setup: AgentSetup, agent: str) -> bool:
    """Whether the agent's offsets are at the end of the topic."""
    return await setup.committed(f"{setup.settings.kafka.topic_prefix}{agent}") == await setup.ends()


async def waiting(setup: AgentSetup) -> list[int]:
    """The offsets of what waits in the queue, in order."""
    rows = await setup.pool.fetch("SELECT record_offset FROM slotwire.agent_queue ORDER BY record_offset")
    return [row["record_offset"] for row in rows]


async def is_empty(setup: AgentSetup) -> bool:
    """Whether nothing waits in the queue."""
    return await waiting(setup) == []


async def typed(setup: AgentSetup, *arguments: str, stdin: str = "") -> CommandResult:
    """Type a command to its end."""
    return await slotwire(*arguments, env=setup.environment(), stdin=stdin)


async def test_a_long_retry_holds_no_offset_and_keeps_its_key_in_order(setup: AgentSetup) -> None:
    """The record and all behind it of its key wait in Postgres; others go on, and so do the offsets.

    Another process continues with the attempt that comes next, when it is due, and before anything of the key.
    """
    scripted, clock = Scripted(), ManualClock(BEGIN)
    scripted.answers["slow", 1] = [Retry(after=60)]
    first = [invitee_created("slow", 1), invitee_created("quick", 1), invitee_created("slow", 2)]
    await setup.publish(*first)
    async with running_agents(setup.runner(scripted.agent, clock=clock, **SOON)):
        await until(lambda: all_committed(setup, "scripted"))
    assert scripted.seen == [("slow", 1, 1), ("quick", 1, 1)]
    assert await waiting(setup) == [0, 2]

    later = [invitee_created("slow", 3), invitee_created("quick", 2)]
    await setup.publish(*later)
    async with running_agents(setup.runner(scripted.agent, clock=clock, **SOON)):
        await until(lambda: all_committed(setup, "scripted"))
        assert scripted.seen[2:] == [("quick", 2, 1)], "the fence is known before the first record"
        queued = {"agent": "scripted"}
        await until(lambda: REGISTRY.get_sample_value("slotwire_consumer_queued", queued) == 3)
        clock.advance(timedelta(seconds=61))
        await setup.settle([*first, *later])
        assert scripted.seen[3:] == [("slow", 1, 2), ("slow", 2, 1), ("slow", 3, 1)]
        await setup.publish(invitee_created("slow", 4))
        await until(lambda: ("slow", 4, 1) in scripted.seen)
        await until(lambda: is_empty(setup))


async def test_a_full_queue_holds_the_partition_and_says_so(setup: AgentSetup) -> None:
    """At the limit of a key there is room, past it the partition is held, alarmed; with room it goes on by itself."""
    scripted, clock = Scripted(), ManualClock(BEGIN)
    scripted.answers["slow", 1] = [Retry(after=60)]
    setup.settings = setup.settings.model_copy(
        update={"agents": AgentsSettings(session_timeout_seconds=6, max_queued_per_key=2, max_in_flight=1)}
    )
    events = [invitee_created("slow", n) for n in (1, 2, 3)]
    await setup.publish(*events[:2])
    runner = setup.runner(scripted.agent, clock=clock, **SOON)
    full = {"agent": "scripted"}

    async def held() -> bool:
        return "queue is full" in (await runner.problems.check() or "")

    async with running_agents(runner):
        await until(lambda: all_committed(setup, "scripted"))
        assert not await held()
        await setup.publish(events[2], invitee_created("quick", 1))
        await until(held)
        await until(lambda: REGISTRY.get_sample_value("slotwire_consumer_queue_full", full) == 1)
        assert ("quick", 1, 1) not in scripted.seen
        clock.advance(timedelta(seconds=61))
        await setup.settle([*events, invitee_created("quick", 1)])
        await until(lambda: REGISTRY.get_sample_value("slotwire_consumer_queue_full", full) == 0)
    assert [sequence for key, sequence, _ in scripted.seen if key == "slow"] == [1, 1, 2, 3]
    assert await waiting(setup) == []


async def test_what_is_settled_behind_a_gap_is_not_handled_again(setup: AgentSetup) -> None:
    """An agent cut off while one event is in work handles that one again, and none of those behind it.

    No transaction of theirs would have kept them from it: the commit remembers them.
    """
    seen: list[str] = []
    stuck, agent = asyncio.Event(), Agent("gaps")

    @agent.on(InviteeCreated)
    async def note(event: Event[InviteeCreated], ctx: Context) -> None:
        del ctx
        seen.append(event.key)
        if event.key == "k0" and not stuck.is_set():
            stuck.set()
            await asyncio.Event().wait()

    await setup.publish(*(invitee_created(f"k{n}", 1) for n in range(30)))
    group = f"{setup.settings.kafka.topic_prefix}gaps"

    async def remembered() -> bool:
        return len(set(seen)) == 30 and await setup.settled_behind(group) == set(range(1, 30))

    async with running_agents(setup.runner(agent, **SOON)):
        await until(remembered)
    await setup.pool.execute("DELETE FROM slotwire.inbox")  # it would skip them, too
    async with running_agents(setup.runner(agent, **SOON)):
        await until(lambda: all_committed(setup, "gaps"))
    assert seen[30:] == ["k0"]
    assert await setup.settled_behind(group) == set()
    assert MAX_REMEMBERED > 30


async def given_up(setup: AgentSetup, scripted: Scripted) -> dict[str, dict[str, object]]:
    """Let an agent give up the first and third event of a key and do the second and fourth; return the letters."""
    for sequence in (1, 3):
        scripted.answers["k", sequence] = [Reject(f"not {sequence}")]
    await setup.publish(*(invitee_created("k", n) for n in (1, 2, 3, 4)))
    async with running_agents(setup.runner(scripted.agent, **SOON)):
        await until(lambda: all_committed(setup, scripted.agent.name))
    listed = await typed(setup, "dead-letters", "list", scripted.agent.name, "--json")
    assert listed.code == 0, listed.stderr
    return {str(each["reason"]): each for each in map(json.loads, listed.stdout.splitlines())}


async def test_a_dead_letter_is_edited_and_driven_again_once(
    setup: AgentSetup, database: Database, tmp_path: Path
) -> None:
    """Its agent alone handles it, with what is newer and that it was edited; repeated, it takes no second effect."""
    scripted = Scripted()
    letters = await given_up(setup, scripted)
    assert {why: each["newer_position"] for why, each in letters.items()} == {"not 1": 4, "not 3": 4}
    first = str(letters["not 1"]["id"])
    shown = json.loads((await typed(setup, "dead-letters", "show", first, "--json")).stdout)
    data = json.loads(shown["value"])
    bad = await typed(setup, "dead-letters", "edit", first, "--value", "-", stdin="{}")
    assert (bad.code, "with this data the record is no event" in bad.stderr) == (1, True)
    (tmp_path / "data.json").write_text(json.dumps({**data, "timezone": "Europe/Vienna"}))
    edited = await typed(setup, "dead-letters", "edit", first, "--value", str(tmp_path / "data.json"))
    assert edited.code == 0, edited.stderr

    driven = await typed(setup, "dead-letters", "redrive", first, "--json")
    assert json.loads(driven.stdout)["state"] == "queued"
    again = await typed(setup, "dead-letters", "redrive", first, "--json")
    assert json.loads(again.stdout)["state"] == "queued", "what waits stays as it is"
    events = [invitee_created("k", n) for n in (1, 2, 4)]
    async with running_agents(setup.runner(scripted.agent, **SOON)):
        await setup.settle(events)
        await until(lambda: settled(setup, first))
    run = scripted.runs[-1]
    assert (run.redriven, run.newer_position, run.edited) == (True, 4, True)
    assert run.event.data.timezone == "Europe/Vienna"
    assert one_effect_each(await setup.effects(), events)
    refused = await typed(setup, "dead-letters", "redrive", first)
    assert (refused.code, "was handled again" in refused.stderr) == (1, True)
    rows = await owner_rows(database, "SELECT action, result FROM slotwire.audit WHERE result <> 'started' ORDER BY id")
    assert rows == [
        ("dead_letters.edit", "refused"),
        ("dead_letters.edit", "done"),
        ("dead_letters.redrive", "done"),
        ("dead_letters.redrive", "done"),
        ("dead_letters.redrive", "refused"),
    ]
    kept = await owner_rows(database, "SELECT value, edited_by FROM slotwire.dead_letters WHERE id = $1", UUID(first))
    assert kept == [(record_of(invitee_created("k", 1)).value, "command line")]


async def test_letters_of_a_key_are_driven_again_in_order_behind_its_running_work(setup: AgentSetup) -> None:
    """All in one step; the event of the key that is in work ends first, and one that fails again is a letter again."""
    scripted = Scripted()
    await given_up(setup, scripted)
    scripted.answers["k", 3] = [Reject("not 3 again")]
    begun, go_on, agent = asyncio.Event(), asyncio.Event(), Agent("scripted")
    order: list[int] = []

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> Reject | None:
        if event.sequence == 5:
            begun.set()
            await go_on.wait()
        order.append(event.sequence)
        return Reject("not 3 again") if event.sequence == 3 and ctx.redriven else None

    async with running_agents(setup.runner(agent, **SOON)):
        await setup.publish(invitee_created("k", 5))
        await begun.wait()
        done = await typed(setup, "dead-letters", "redrive", "--all", "scripted")
        assert done.code == 0, done.stderr
        await setup.publish(invitee_created("k", 6))
        go_on.set()
        await until(lambda: len(order) == 4)
        await until(lambda: all_committed(setup, "scripted"))
        await until(lambda: is_empty(setup))
    assert order.index(5) == 0
    assert order.index(1) < order.index(3)
    rows = await setup.pool.fetch("SELECT sequence, state, reason, times FROM slotwire.dead_letters ORDER BY sequence")
    assert [tuple(row) for row in rows] == [(1, "settled", "not 1", 1), (3, "open", "not 3 again", 2)]


async def test_a_journal_is_dropped_only_where_it_is_asked_for(setup: AgentSetup) -> None:
    """Driven again, a step that had ended is not repeated; with --drop-journal it runs once more."""
    agent, stepped = Agent("stepping"), [0]

    async def step(_: object = None) -> int:
        stepped[0] += 1
        return stepped[0]

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> Reject | None:
        del event
        return Reject("once is not enough") if await ctx.step("count", step) == 1 else None

    await setup.publish(invitee_created("k", 1))

    async def letter(state: str, times: int) -> bool:
        row = await setup.pool.fetchrow("SELECT state, times FROM slotwire.dead_letters")
        return row is not None and (row["state"], row["times"]) == (state, times)

    async with running_agents(setup.runner(agent, **SOON)):
        await until(lambda: letter("open", 1))
        await typed(setup, "dead-letters", "redrive", "--all", "stepping")
        await until(lambda: letter("open", 2))
        assert stepped == [1]
        dropped = await typed(setup, "dead-letters", "redrive", "--all", "stepping", "--drop-journal")
        assert dropped.code == 0, dropped.stderr
        await until(lambda: letter("settled", 2))
    assert stepped == [2]


async def test_older_letters_are_discarded_instead(setup: AgentSetup) -> None:
    """With --discard-older nothing runs after what is newer of its key; one by itself is discarded with a reason."""
    scripted = Scripted()
    scripted.answers["alone", 7] = [Reject("not alone")]
    await setup.publish(invitee_created("alone", 7))
    letters = await given_up(setup, scripted)
    without = await typed(setup, "dead-letters", "discard", str(letters["not 1"]["id"]), "--why", "")
    assert without.code == 1
    told = await typed(setup, "dead-letters", "discard", str(letters["not 1"]["id"]), "--why", "a test")
    assert told.code == 0, told.stderr
    await typed(setup, "dead-letters", "redrive", "--all", "scripted", "--discard-older")
    rows = await setup.pool.fetch("SELECT sequence, state, note FROM slotwire.dead_letters ORDER BY sequence")
    assert [tuple(row) for row in rows] == [
        (1, "discarded", "a test"),
        (3, "discarded", "older than what the agent has done since"),
        (7, "queued", None),
    ]


async def test_marks_stay_as_long_as_their_events_may_come_again(setup: AgentSetup, database: Database) -> None:
    """Of old marks retention removes those of settled letters and of events without one; its own letters, too."""
    scripted = Scripted()
    letters = await given_up(setup, scripted)
    ids = {sequence: UUID(str(letters[f"not {sequence}"]["event_id"])) for sequence in (1, 3)}
    old = BEGIN - timedelta(days=1000)
    await setup.pool.execute("INSERT INTO slotwire.inbox SELECT 'scripted', unnest($1::uuid[]), $2", ids.values(), old)
    await setup.pool.execute("UPDATE slotwire.inbox SET done_at = $1", old)
    told = await typed(setup, "dead-letters", "discard", str(letters["not 3"]["id"]), "--why", "a test")
    assert told.code == 0, told.stderr
    url = database.url_of["control"]
    clock = ManualClock(datetime.now(UTC) + timedelta(days=40))
    async with create_pool(url, DatabaseSettings(pool_size=2), application="test") as pool:
        gone = await retention.run_once(pool, clock, RetentionSettings(inbox_days=30, dead_letters_days=30))
        assert gone == {"inbox": 2, "dead_letters": 1}
        assert await setup.inbox() == set(ids.values())
        assert await retention.run_once(pool, clock, RetentionSettings(inbox_days=30)) == {"inbox": 1}
        assert await setup.inbox() == {ids[1]}


async def settled(setup: AgentSetup, letter: str) -> bool:
    """Whether a dead letter is settled."""
    state = await setup.pool.fetchval("SELECT state FROM slotwire.dead_letters WHERE id = $1", UUID(letter))
    return bool(state == "settled")


async def owner_rows(database: Database, query: str, *arguments: object) -> list[tuple[object, ...]]:
    """Ask as the owner."""
    owner = await asyncpg.connect(database.owner_url)
    try:
        return [tuple(row) for row in await owner.fetch(query, *arguments)]
    finally:
        await owner.close()
