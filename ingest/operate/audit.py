"""The audit: who changed what, in rows that are added and never changed.

    started ──▶ done        it was carried out
       │   ├──▶ refused     for its caller, its values, or by Calendly: `code` says which
       │   └──▶ failed      on our side or on Calendly's: part of it may have been done
       └── (no end)         the process ended or gave up in the middle: check the target

A change has one row before anything is done and one at its end. For changes in our own database one row in the
change's transaction would do. But most changes call Calendly, and a crash in the middle of one must leave a trace.
One way for all changes is easier to trust than two. If the first row cannot be written, nothing is done; if the
last one cannot, the change is reported as failed.

A key whose changes are refused again and again gets a row for the first ones; the others are counted, and a row with
their number follows (`refusals`). While it is so, its changes are refused before anything is done.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from slotwire.ingest.errors import (
    CalendlyError,
    CalendlyProblem,
    DatabaseUnavailable,
    RequestRefused,
    RowRefused,
    SlotwireError,
)
from slotwire.ingest.foundation.clock import Clock, ordered_id
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.operate.refusals import RefusedChanges
from slotwire.ingest.operate.roles import Principal

MAX_TEXT = 200
"""Characters of an organization or a target."""
SUM_SECONDS = 10.0
"""The pause between two rounds that write what was counted."""

Result = Literal["started", "done", "refused", "failed"]

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")
_FORM = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_TEXT}}}", re.ASCII)
_log = get_logger("audit")
_CALENDLY_FAILED = frozenset({CalendlyProblem.UPSTREAM, CalendlyProblem.UNREACHABLE, CalendlyProblem.UNEXPECTED})


@dataclass(slots=True)
class AuditEntry:
    """The subject of a change, filled in as soon as it is known.

    Attributes:
        org: the organization; None for all of them, or none.
        target: the id of what is changed.
    """

    org: str | None
    target: UUID | str | None = None


@dataclass(frozen=True, slots=True)
class AuditedChange:
    """A change, as it is in the audit.

    Attributes:
        id: of the row of its end, or of its start while there is no end; ids are ordered by time.
        at: when it ended, or started.
        actor: `command line`, `control`, or the id of a key, or of the link by which somebody consented or decided.
        role: of the actor.
        org: the organization; None for all of them, or none.
        action: `noun.verb`.
        target: the id of what it was done to.
        result: how it ended; `started` while there is no end.
        code: of the refusal or failure.
        times: how many refusals the row stands for.
    """

    id: UUID
    at: datetime
    actor: str
    role: str
    org: str | None
    action: str
    target: str | None
    result: Result
    code: str | None
    times: int


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which changes to read.

    Attributes:
        org: of one organization; None for all.
        action: of one action.
        actor: by one actor.
    """

    org: str | None = None
    action: str | None = None
    actor: str | None = None


async def write(
    pool: Pool,
    who: Principal,
    action: str,
    entry: AuditEntry,
    *,
    result: Result,
    now: datetime,
    code: str | None = None,
    begun: UUID | None = None,
) -> UUID:
    """Add a row, and return its id.

    Raises:
        DatabaseUnavailable: it may or may not be written.
    """
    made = ordered_id(now)
    org, target = _identifier(entry.org), _identifier(entry.target)
    with translated():
        await pool.execute(
            _SQL["insert_audit"], made, begun, now, who.actor, who.role, org, action, target, result, code, 1
        )
    return made


async def write_counts(pool: Pool, refused: RefusedChanges, *, now: datetime) -> int:
    """Write a row for each sort of refusal that was counted; return how many rows.

    Raises:
        DatabaseUnavailable: what is not written stays counted.
    """
    counted = dict(refused.take_counts())
    written = 0
    try:
        for found in tuple(counted):
            times = counted[found]
            row = (str(found.key_id), found.role, _identifier(found.org), found.action, None, "refused", found.code)
            with translated():
                await pool.execute(_SQL["insert_audit"], ordered_id(now), None, now, *row, times)
            del counted[found]
            written += 1
    finally:
        refused.put_back(counted)
    return written


async def run(pool: Pool, clock: Clock, refused: RefusedChanges) -> None:
    """Write what was counted again and again, until cancelled. A round that fails is logged, and tried again."""
    while True:
        await asyncio.sleep(SUM_SECONDS)
        await write_counts_or_log(pool, clock, refused)


async def write_counts_or_log(pool: Pool, clock: Clock, refused: RefusedChanges) -> None:
    """Write what was counted; a failure is logged."""
    try:
        await write_counts(pool, refused, now=clock.now())
    except SlotwireError as problem:
        _log.warning("refusals_not_written", error=problem.message)


async def read_page(pool: Pool, only: AuditFilter, *, before: UUID | None, limit: int) -> tuple[AuditedChange, ...]:
    """Read changes before an id, newest first. A change that has ended is its last row."""
    with translated():
        rows = await pool.fetch(_SQL["audit_page"], before, only.org, only.action, only.actor, limit)
    return tuple(AuditedChange(**dict(row)) for row in rows)


def outcome_of(error: Exception) -> tuple[Result, str]:
    """Return the result of a change that an exception ended, and the management API's code for it."""
    match error:
        case RequestRefused():
            return "refused", error.code
        case RowRefused():
            return "refused", "value_refused"
        case CalendlyError():
            result: Result = "failed" if error.problem in _CALENDLY_FAILED else "refused"
            return result, f"calendly_{error.problem}"
        case DatabaseUnavailable():
            return "failed", "database_unavailable"
        case SlotwireError():
            return "failed", "misconfigured"
        case _:
            return "failed", "internal"


def _identifier(value: UUID | str | None) -> str | None:
    """Return what has the form of an identifier; anything else that a caller sent could be personal, and is dropped."""
    return None if value is None or not _FORM.fullmatch(str(value)) else str(value)
