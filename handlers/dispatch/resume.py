"""Lets runs that were set aside go on when an event of their key comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

from slotwire.handlers.dispatch.runs import Runs, Work
from slotwire.handlers.long_work.journal import StoredRun
from slotwire.handlers.long_work.steps import Candidate
from slotwire.handlers.patience import Interrupted, Patience
from slotwire.handlers.problems import Problems
from slotwire.handlers.records import Record
from slotwire.handlers.registry import Agent
from slotwire.handlers.results import RecordResult, RecordStatus

VERSION_SECONDS = 5.0
"""How often to look whether a run is gone that only another version of the agent finishes."""


class Resumption:
    """The runs of an agent that an event may concern.

    Args:
        settle: lets a run go on until it is settled or set aside again.
    """

    def __init__(
        self,
        agent: Agent,
        runs: Runs,
        problems: Problems,
        patience: Patience,
        settle: Callable[[Work, asyncio.Event], Awaitable[RecordResult]],
    ) -> None:
        self._agent = agent
        self._runs = runs
        self._problems = problems
        self._patience = patience
        self._settle = settle

    async def concerning(self, record: Record, stopping: asyncio.Event) -> tuple[StoredRun, ...]:
        """Return the runs of a record's key, in the order of the log."""
        if not self._runs.in_use:
            return ()
        return await self._patience.until_answered("postgres", lambda: self._runs.concerning(record), stopping)

    async def stored(self, record: Record, event_id: UUID, stopping: asyncio.Event) -> StoredRun | None:
        """Return the run of an event of a record's key; None if it has none."""
        return next((run for run in await self.concerning(record, stopping) if run.event_id == event_id), None)

    async def answer(self, run: StoredRun | None, candidate: Candidate, stopping: asyncio.Event) -> None:
        """Let a run go on where an event may end its wait, or where something else has.

        Where only another version of the agent finishes it, the event waits for a process of that version, so that it
        is not lost to the run.

        Raises:
            Interrupted: the work was asked to stop before the run was settled or set aside again.
        """
        while run is not None and run.goes_on_with(candidate.event, candidate.record):
            work = self._runs.whole(run, candidate=candidate)
            if work is not None:
                result = await self._settle(work, stopping)
                if result.status is RecordStatus.HANDED_BACK:
                    raise Interrupted
                break
            if run.state != "waiting":
                return
            self._problems.begin("version", _other_version(self._agent, run))
            await self._patience.wait(VERSION_SECONDS, stopping)
            run = await self.stored(candidate.record, run.event_id, stopping)
        self._problems.end("version")


def _other_version(agent: Agent, run: StoredRun) -> str:
    name, version = agent.name, run.version
    return (
        f"an event may answer a run of agent {name} that began on version {version!r}, and version {agent.version!r}"
        f" does not finish it. Say how with agent.takes_over({version!r}, ...), run version {version!r} again, or end"
        f" the run of event {run.event_id}: slotwire agents runs list {name}"
    )
