"""Holes as they are stored: claimed for a fetch, kept, given back, closed, listed.

A claim has an epoch, which every statement about it compares: whoever was taken for dead, and goes on, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import UUID

import orjson

from slotwire.ingest.control.holes import HoleCause
from slotwire.ingest.errors import RequestRefused, RowRefused
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.schemas.ids import OrganizationUri

if TYPE_CHECKING:
    import asyncpg

LEASE = timedelta(minutes=15)
"""How long a claim holds unless it is kept. A call to Calendly that waits for the rate limit may take that long."""
SKEW = timedelta(minutes=5)
"""By how much clocks may differ: a hole begins so much before the time that was noted."""
FIRST_AGAIN = timedelta(minutes=1)
"""After how long a fetch that failed goes on; doubled with each that follows, up to `LAST_AGAIN`."""
LAST_AGAIN = timedelta(hours=2)
KEPT_HOLES = 1_000
"""Closed holes of an organization that are kept."""

HoleState: TypeAlias = Literal["open", "fetching", "closed"]
_SQL = read_queries("slotwire.ingest.sql", "holes.sql")


@dataclass(frozen=True, slots=True)
class HoleRecord:
    """A hole as it is stored.

    Attributes:
        since: it may have begun then.
        noticed_at: when it was first noticed.
        last_noticed_at: when it was last.
        due_at: when its fetch begins or goes on, at the earliest.
        attempts: fetches that failed, or that it outlasted.
        problem: why the last one failed, in a short word.
        fetch_began_at: when the fetch began that fills it now; None while there is none.
        progress: how far that has come, and what it counted.
        report: of the last fetch that ended.
    """

    id: UUID
    org: str
    cause: HoleCause
    subscription_id: UUID | None
    since: datetime
    noticed_at: datetime
    last_noticed_at: datetime
    state: HoleState
    due_at: datetime
    attempts: int
    problem: str | None
    fetch_began_at: datetime | None
    progress: dict[str, Any]
    report: dict[str, Any] | None
    closed_at: datetime | None


@dataclass(slots=True)
class HoleClaim:
    """The right to fetch what an organization's holes hide.

    Attributes:
        id: the hole that was claimed; its fetch fills the others of the organization too.
        epoch: of the claim.
        fetch_since: the fetch covers what happened since then.
        fetch_began_at: when it was begun, by whomever.
        progress: how far it has come.
    """

    id: UUID
    org: str
    uri: OrganizationUri
    shard: int
    epoch: int
    attempts: int
    fetch_since: datetime
    fetch_began_at: datetime
    progress: dict[str, Any] = field(default_factory=dict)


class ClaimLost(Exception):
    """Another process fetches by now."""


async def claim(pool: Pool, now: datetime, *, org: str | None = None) -> HoleClaim | None:
    """HoleClaim the hole that has been due for longest; None if none is.

    Args:
        pool: the database.
        now: the time.
        org: only of this organization.
    """
    try:
        with translated():
            row = await pool.fetchrow(_SQL["claim_hole"], now, now + LEASE, org)
    except RowRefused:  # two claimed holes of one organization at one moment: the other one has it
        return None
    return None if row is None else HoleClaim(**{**dict(row), "progress": orjson.loads(row["progress"])})


async def keep(pool: Pool, held: HoleClaim, now: datetime) -> None:
    """Keep a claim, with its progress.

    Raises:
        ClaimLost: it was not kept in time.
    """
    progress = orjson.dumps(held.progress).decode()
    with translated():
        if await pool.fetchval(_SQL["keep_hole"], held.id, held.epoch, now + LEASE, progress) is None:
            raise ClaimLost


async def release(pool: Pool, held: HoleClaim, *, due_at: datetime, problem: str | None = None) -> None:
    """Give a claim back, with its progress; nothing happens if it is another's by now.

    Args:
        pool: the database.
        held: the claim.
        due_at: when the fetch goes on.
        problem: why it failed, in a short word; None if it did not.
    """
    progress = orjson.dumps(held.progress).decode()
    with translated():
        await pool.execute(_SQL["release_hole"], held.id, held.epoch, due_at, progress, problem)


async def finish(pool: Pool, held: HoleClaim, report: dict[str, Any], now: datetime) -> tuple[UUID, ...]:
    """End a fetch: close the holes that it covers, and that were not noticed again since it began.

    Returns:
        The holes that are closed. If its own was noticed again, that is due again later.

    Raises:
        ClaimLost: another process fetches by now.
    """
    again = now + backoff(held.attempts)
    with translated():
        told = orjson.dumps(report).decode()
        rows = await pool.fetch(_SQL["finish_hole"], held.id, held.epoch, now, told, again)
        if not rows:
            raise ClaimLost
        await pool.execute(_SQL["forget_holes"], held.org, KEPT_HOLES)
    return tuple(row["id"] for row in rows if row["state"] == "closed")


async def hasten(pool: Pool, org: str, now: datetime) -> None:
    """Let an organization's holes that wait after a failure be due now."""
    with translated():
        await pool.execute(_SQL["hasten_holes"], org, now)


def backoff(attempts: int) -> timedelta:
    """Return how long to wait after so many fetches that did not end a hole."""
    return min(FIRST_AGAIN * (1 << min(attempts, 16)), LAST_AGAIN)


async def note_unwatched(pool: Pool, now: datetime) -> int:
    """Note of each subscribed organization without a usable credential that nobody watches it; return how many."""
    with translated():
        noted: int = await pool.fetchval(_SQL["note_unwatched"], now, SKEW)
    return noted


async def read_page(
    pool: Pool, org: str | None, *, before: tuple[datetime, UUID] | None, closed: bool, limit: int
) -> tuple[HoleRecord, ...]:
    """List holes of one organization, or of all (None), the newest first; closed ones too if asked."""
    noticed_at, hole = before or (None, None)
    with translated():
        rows = await pool.fetch(_SQL["holes_page"], org, noticed_at, hole, closed, limit)
    return tuple(map(_hole_of, rows))


async def read_one(pool: Pool, hole: UUID, org: str | None = None) -> HoleRecord:
    """Read one hole of an organization, or of any (None).

    Raises:
        RequestRefused: there is no such hole, or it belongs to another organization (`not_found`).
    """
    with translated():
        row = await pool.fetchrow(_SQL["hole"], hole, org)
    if row is None:
        raise RequestRefused(
            "there is no such reconciliation within reach",
            code="not_found",
            remedy="List them: slotwire reconcile --list",
        )
    return _hole_of(row)


def _hole_of(row: asyncpg.Record) -> HoleRecord:
    values = dict(row)
    report = values["report"]
    values |= {
        "cause": HoleCause(values["cause"]),
        "progress": orjson.loads(values["progress"]),
        "report": None if report is None else orjson.loads(report),
    }
    return HoleRecord(**values)
