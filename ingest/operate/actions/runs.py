"""Operations on agents' runs."""

from __future__ import annotations

from uuid import UUID

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.operate import run_pages
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.agent_filter import AgentFilter
from slotwire.ingest.operate.cursors import read_time_place, write_time_place
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.ingest.operate.run_models import (
    RunDetail,
    RunItem,
    RunPage,
    RunQuery,
    StepDecision,
    run_detail,
    run_item,
)
from slotwire.ingest.operate.run_pages import RunRow


class RunActions(ResourceActions):
    """Runs of agents that have steps or waits."""

    async def list(self, who: Principal, query: RunQuery) -> RunPage:
        """List runs, newest first."""
        who.require(Role.READER)
        only = AgentFilter(who.reach(query.organization), query.agent, query.state)
        before = None if query.cursor is None else read_time_place("runs", query.cursor)
        with narrowed_by(query):
            found = await run_pages.read_page(self.pool, only, before=before, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_time_place("runs", (found[-1].began_at, found[-1].id)) if more else None
        return RunPage(items=tuple(map(run_item, found)), next_cursor=cursor)

    async def get(self, who: Principal, run_id: UUID) -> RunDetail:
        """Read one run with its journal. Only operators and admins see what its steps returned."""
        who.require(Role.READER)
        found = await self._one(who, run_id)
        entries = await run_pages.read_journal(self.pool, found)
        return run_detail(found, entries, with_results=who.role.rank >= Role.OPERATOR.rank)

    async def decide(self, who: Principal, run_id: UUID, request: StepDecision) -> RunItem:
        """Say how the step ended for which a run is held: the run goes on from there."""
        async with self.audited(who, "runs.decide", org=None, target=run_id) as entry:
            who.require(Role.OPERATOR)
            found = await self._one(who, run_id)
            entry.org = found.org
            result = request.stored if request.outcome == "done" else None
            decided = await run_pages.decide_step(
                self.pool, found, request.step, result, by=who.actor, why=request.why, now=self.clock.now()
            )
            if not decided:
                raise _not_to_decide(await self._one(who, run_id), request.step)
        return run_item(await self._one(who, run_id))

    async def cancel(self, who: Principal, run_id: UUID) -> RunItem:
        """End a run: its event counts as done, and its journal goes. A step that runs now ends without a result."""
        async with self.audited(who, "runs.cancel", org=None, target=run_id) as entry:
            who.require(Role.OPERATOR)
            found = await self._one(who, run_id)
            entry.org = found.org
            if not await run_pages.cancel(self.pool, found, now=self.clock.now()):
                raise _gone()
        return run_item(found, canceled=True)

    async def _one(self, who: Principal, run_id: UUID) -> RunRow:
        found = await run_pages.read_one(self.pool, run_id, who.org)
        if found is None:
            raise _gone()
        return found


def _not_to_decide(run: RunRow, step: str) -> RequestRefused:
    if run.state != "unknown":
        return RequestRefused(
            f"there is nothing to decide: the run is {run.state}",
            code="not_to_decide",
            remedy="A person decides about runs that are `unknown`.",
        )
    return RequestRefused(
        f"{step!r} is not the last step of the journal, or has ended",
        code="step_not_last",
        remedy="What came after a step followed from its not being known. Decide about the last, or cancel the run.",
    )


def _gone() -> RequestRefused:
    return RequestRefused(
        "there is no such run within reach, or it has ended",
        code="not_found",
        remedy="List them: slotwire agents runs list",
    )
