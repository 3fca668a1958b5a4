"""How a run keeps its token of the MCP server, and when it gets another one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from slotwire.handlers import RunToken
from slotwire.handlers.reach import mcp_tokens
from slotwire.handlers.reach.calendly import MemoryCalls
from slotwire.handlers.reach.mcp_tokens import LEFT, RunTokens
from slotwire.handlers.testing import TrialClock
from tests.support.agent_setup import run_ready_tasks


class Counted(MemoryCalls):
    """Notes how often a run says that it goes on."""

    kept = 0

    async def keep_run(self, run: UUID) -> bool:
        """Count it."""
        self.kept += 1
        return await super().keep_run(run)


async def grant() -> str:
    """Grant anything."""
    return "granted"


async def test_a_run_says_that_it_goes_on_unless_it_was_told_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, again and again; a run that is interrupted and does not end says nothing more; its end ends it."""
    monkeypatch.setattr(mcp_tokens, "KEEP_SECONDS", 0)
    clock, calls = TrialClock(), Counted()
    calls.mcp = RunToken("https://mcp.test/mcp/tools", "slwr_x", clock.now() + timedelta(minutes=15))
    tokens = RunTokens(calls, grant, clock)
    interrupted, ends = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        await tokens.get()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            interrupted.set()
            await ends.wait()

    running = asyncio.create_task(run())
    async with asyncio.timeout(20):
        while calls.kept < 3:
            await run_ready_tasks()
    running.cancel()
    await interrupted.wait()
    before = calls.kept
    for _ in range(10):
        await run_ready_tasks()
    assert calls.kept == before
    ends.set()
    await running
    await tokens.end()
    assert calls.mcp_runs == set()
    with pytest.raises(RuntimeError, match="has ended"):
        await tokens.get()


async def test_a_token_is_replaced_before_it_ends() -> None:
    """The same one while it has more than a minute left and is good; then another."""
    clock, calls = TrialClock(), Counted()
    first = calls.mcp = RunToken("https://mcp.test/mcp/tools", "slwr_1", clock.now() + timedelta(minutes=15))
    tokens = RunTokens(calls, grant, clock)
    assert await tokens.get() is first
    second = calls.mcp = RunToken(first.url, "slwr_2", clock.now() + timedelta(minutes=29))
    assert await tokens.get() is first
    clock.advance(timedelta(minutes=15) - LEFT)
    assert await tokens.get() is second
    calls.mcp_runs.clear()  # nobody said in time that the run goes on
    third = calls.mcp = RunToken(first.url, "slwr_3", clock.now() + timedelta(minutes=15))
    assert await tokens.get() is third
    await tokens.end()


async def test_a_token_that_comes_after_the_run_has_ended_ends_at_once() -> None:
    """A handler left behind what asked for it: it gets none, and nothing keeps it good."""
    clock, asked, answer = TrialClock(), asyncio.Event(), asyncio.Event()
    calls = Counted()
    calls.mcp = RunToken("https://mcp.test/mcp/tools", "slwr_x", clock.now() + timedelta(minutes=15))

    async def slow_grant() -> str:
        asked.set()
        await answer.wait()
        return "granted"

    tokens = RunTokens(calls, slow_grant, clock)
    left_behind = asyncio.create_task(tokens.get())
    await asked.wait()
    await tokens.end()
    answer.set()
    with pytest.raises(RuntimeError, match="has ended"):
        await left_behind
    assert calls.mcp_runs == set()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "mcp token"]
