"""Runs as operators see them: what agents have begun and not ended, with their journals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.operate.agent_filter import AgentFilter

_SQL = read_queries("slotwire.ingest.sql", "agent_runs.sql")


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run.

    Attributes:
        id: what operators call it by.
        agent: whose it is.
        event_id: its event.
        org: of its event.
        type: of its event.
        subject: of its event.
        version: of the agent.
        state: see `docs/reference/states.md`.
        reason: why it is held or was given up.
        attempts: runs that failed.
        began_at: when it began.
        changed_at: since when it is as it is.
        due_at: when it goes on by itself.
        waits_for: the name of the wait that is open.
        decided_by: who said last how a step ended, and `note`: how they know.
    """

    id: UUID
    agent: str
    event_id: UUID
    org: str
    type: str
    subject: str
    version: str
    state: str
    reason: str
    attempts: int
    began_at: datetime
    changed_at: datetime
    due_at: datetime | None
    waits_for: str | None
    decided_by: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A step or wait of a run; see the fields of the same names in `run_models`."""

    name: str
    kind: str
    state: str
    result: bytes | None
    awaited: tuple[str, ...]
    deadline: datetime | None
    began_at: datetime
    ended_at: datetime | None


async def read_page(pool: Pool, only: AgentFilter, *, before: tuple[datetime, UUID] | None, limit: int) -> list[RunRow]:
    """Read runs before a place, newest first."""
    at, last = before or (None, None)
    with translated():
        rows = await pool.fetch(_SQL["runs_page"], only.org, only.agent, only.state, at, last, limit)
    return [RunRow(**row) for row in rows]


async def read_one(pool: Pool, run_id: UUID, org: str | None) -> RunRow | None:
    """Read one run; None when it is not within reach."""
    with translated():
        row = await pool.fetchrow(_SQL["one_run"], run_id, org)
    return None if row is None else RunRow(**row)


async def read_journal(pool: Pool, run: RunRow) -> tuple[RunEntry, ...]:
    """Read the journal of a run."""
    with translated():
        rows = await pool.fetch(_SQL["run_journal"], run.agent, run.event_id)
    return tuple(RunEntry(**{**row, "awaited": tuple(row["awaited"])}) for row in rows)


async def cancel(pool: Pool, run: RunRow, *, now: datetime) -> bool:
    """End a run: its event counts as settled. Returns whether it was still there."""
    with translated():
        ended: bool = await pool.fetchval(_SQL["cancel_run"], run.agent, run.event_id, now)
    return ended


async def decide_step(
    pool: Pool, run: RunRow, step: str, result: bytes | None, *, by: str, why: str, now: datetime
) -> bool:
    """Say how the step ended for which a run is held; the run goes on from there.

    Args:
        pool: the database.
        run: the run.
        step: the last one of its journal.
        result: what it returned, as JSON; None where it has not happened, and is to run again.
        by: who says so.
        why: how they know.
        now: the time.

    Returns:
        Whether it was the last step of the journal, and the run was held for it.
    """
    with translated():
        decided: bool = await pool.fetchval(
            _SQL["decide_step"], run.agent, run.event_id, step, result, by[:200], why, now
        )
    return decided
