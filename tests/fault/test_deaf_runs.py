"""Runs that do not end: the process stops all the same, and what they do through us counts for nothing."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from slotwire.handlers import Agent, Context, Event
from slotwire.handlers.dispatch import interruption
from slotwire.handlers.ending import EXIT_LEFT
from slotwire.ingest.local.databases import Database
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

AUTHORS = """
import asyncio
import time
from pathlib import Path

from slotwire.handlers import Agent, ending
from slotwire.handlers.dispatch import dispatcher
from slotwire.schemas.events import InviteeCreated

agent = Agent("deaf", grace_seconds=0)
ending.LEAVE_SECONDS, ending.LEFT_SECONDS, ending.LOOK_SECONDS, ending.BLOCKED_SECONDS = LEAVE, 0.2, 0.1, 0.3
dispatcher.CANCEL_SECONDS, dispatcher.AGAIN_SECONDS = 0.2, 0.1

async def catches():
    while True:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            pass

async def awaits():
    await asyncio.create_task(catches())

async def shields():
    inner = asyncio.create_task(catches())
    while True:
        try:
            await asyncio.shield(inner)
        except asyncio.CancelledError:
            pass

async def threads():
    await asyncio.to_thread(time.sleep, 3600)

async def blocks():
    time.sleep(3600)

@agent.on(InviteeCreated)
async def handle(event, ctx):
    async with ctx.transaction() as connection:
        await connection.execute("INSERT INTO effects (event_id, key, sequence) VALUES ($1, $2, $3)",
                                 event.id, event.key, event.sequence)
        Path(event.key).touch()
        await globals()[event.key]()
"""
KINDS = ("catches", "awaits", "shields", "threads")


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=2) as made:
        yield made


async def stopped(setup: AgentSetup, folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """Run the agent until it is at work on events of these kinds, and ask it to stop; return what it has logged."""
    with (folder / "log").open("w+b") as log:
        environment = {**setup.environment(), "SLOTWIRE_DATABASE__POOL_SIZE": str(len(KINDS) + 4)}
        child = Forked(("agents", "run", "package.agent:agent"), environment, folder, *[log.fileno()] * 3)
        await until(lambda: all((folder / kind).exists() for kind in kinds))
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == EXIT_LEFT
        log.seek(0)
        return [json.loads(line) for line in log.read().splitlines()]


async def test_a_process_stops_whatever_its_handlers_catch(setup: AgentSetup, tmp_path: Path) -> None:
    """It ends by itself, with a code that says so, and names the lines; nothing was done, and another process does it.

    Also where a call blocks its loop, so that it does not even hear of the stop.
    """
    (tmp_path / "package").mkdir()
    code = tmp_path / "package" / "agent.py"
    code.write_text(AUTHORS.replace("LEAVE,", "18,"))
    events = [invitee_created(kind, number) for number, kind in enumerate((*KINDS, "blocks"), 1)]
    await setup.publish(*events[:-1])
    said = await stopped(setup, tmp_path, *KINDS)
    left = {each["at"].split(" ")[1] for each in said if each["event"] == "run_abandoned"}
    assert left == {"catches", "awaits", "shields"}, said
    assert sum(each["event"] == "run_abandoned" for each in said) == 3, "the thread's handler itself ends"
    (last,) = [each for each in said if each["event"] == "process_ended_with_work_left"]
    assert (last["tasks"], last["threads"]) >= (2, 1)
    assert "leaving_failed" not in {each["event"] for each in said}
    assert (await setup.inbox(), await setup.effects()) == (set(), [])

    await setup.publish(events[-1])
    code.write_text(AUTHORS.replace("LEAVE,", "1,"))
    said = await stopped(setup, tmp_path, "blocks")
    blocked = {each["event"]: each["at"] for each in said if "at" in each}
    assert blocked["loop_blocked"] == blocked["process_ended_with_work_left"]
    assert blocked["loop_blocked"].endswith(" blocks")

    async with running_agents(setup.runner(ledger_agent("deaf"), instance="child")):
        await setup.settle(events)
    assert one_effect_each(await setup.effects(), events)


async def test_a_deaf_run_has_no_effect_once_its_partition_has_moved(
    setup: AgentSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits in its transaction and catches its interruption; the new member waits for it, and then does it all."""
    monkeypatch.setattr(interruption, "LET_END_SECONDS", 0.1)
    agent, begun, caught = Agent("moves"), list[str](), list[str]()

    @agent.on(InviteeCreated)
    async def never(event: Event[InviteeCreated], ctx: Context) -> None:
        async with ctx.transaction() as connection:
            await connection.execute(NOTE_EFFECT, event.id, event.key, event.sequence)
            begun.append(event.key)
            while True:
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                caught.append(event.key)

    events = [invitee_created(f"key-{number % 4}", number) for number in range(1, 9)]
    await setup.publish(*events)
    async with running_agents(setup.runner(agent, move_grace=0.1)) as leave:
        await until(lambda: len(begun) == 4)
        async with running_agents(setup.runner(ledger_agent("moves"))):
            await until(lambda: bool(caught))
            leave.set()
            await setup.settle(events)
    effects = await setup.effects()
    assert one_effect_each(effects, events)
    assert in_order(effects)
