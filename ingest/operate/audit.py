"""The audit: who changed what, in rows that are added and never changed.

    started ──▶ done        it was carried out
       │   ├──▶ refused     for its caller, its values, or by Calendly: `code` says which
       │   └──▶ failed      on our side or on Calendly's: part of it may have been done
       └── (no end)         the process ended or gave up in the middle: check the target

A change has one row before anything is done and one at its end. For changes in our own database one row in the
change's transaction would do. But most changes call Calendly, and a crash in the middle of one must leave a trace.
One way for all changes is easier to trust than two. If the first row cannot be written, nothing is done; if the
last one cannot, the change is reported as failed.
"""

from __future__ import annotations

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
from slotwire.ingest.foundation.clock import ordered_id
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.operate.roles import Principal

MAX_TEXT = 200
"""Characters stored of an organization or a target, which may be anything a caller sent."""

Result = Literal["started", "done", "refused", "failed"]

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")
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
        actor: `command line`, `control`, or the id of a key.
        role: of the actor.
        org: the organization; None for all of them, or none.
        action: `noun.verb`.
        target: the id of what it was done to.
        result: how it ended; `started` while there is no end.
        code: of the refusal or failure.
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
    org, target = _short(entry.org), _short(entry.target)
    with translated():
        await pool.execute(
            _SQL["insert_audit"], made, begun, now, who.actor, who.role, org, action, target, result, code
        )
    return made


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


def _short(value: UUID | str | None) -> str | None:
    """Cut a text that a caller sent, and drop characters that control a terminal or cannot be stored."""
    return None if value is None else "".join(filter(str.isprintable, str(value)))[:MAX_TEXT]
