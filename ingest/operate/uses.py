"""What was done with customers' credentials: reads what `control/calendly_client/use_log.py` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from slotwire.ingest.foundation.clock import first_id
from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated

DAY = timedelta(days=1)
UseResult = Literal["leased", "started", "done", "refused", "failed"]

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")


@dataclass(frozen=True, slots=True)
class CredentialUse:
    """A row of the audit of credential uses; `uses_models.UseItem` says what each column means."""

    id: UUID
    at: datetime
    user: str | None
    org: str | None
    connection: UUID | None
    action: str
    target: str | None
    people: Sequence[str]
    actor: str | None
    agent: str | None
    event: UUID | None
    result: UseResult
    status: int | None
    code: str | None
    times: int


@dataclass(frozen=True, slots=True)
class UseFilter:
    """Which uses to read; None for all.

    Attributes:
        org: of one organization.
        user: of one user's credential, by its URI.
        action: of one operation, or `lease`.
        actor: on behalf of one actor.
        agent: for one agent.
        event: for one event.
        target: about one thing, by its URI.
        people: that named one of these, as keyed hashes.
        since: from then on.
        until: before then.
    """

    org: str | None = None
    user: str | None = None
    action: str | None = None
    actor: str | None = None
    agent: str | None = None
    event: UUID | None = None
    target: str | None = None
    people: Sequence[str] | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class UseGrowth:
    """How fast the audit of credential uses grows.

    Attributes:
        rows: how many there are, as the server estimates.
        bytes: what they take, with their indexes.
        day: rows of the last day.
        days: how many days have a partition of their own, those made ahead too.
    """

    rows: int
    bytes: int
    day: int
    days: int


async def read_page(pool: Pool, only: UseFilter, *, before: UUID | None, limit: int) -> tuple[CredentialUse, ...]:
    """Read uses before an id, newest first. The beginning of one is left out once it has an end."""
    ends = [each for each in (before, None if only.until is None else first_id(only.until)) if each is not None]
    with translated():
        rows = await pool.fetch(
            _SQL["uses_page"],
            min(ends, default=None),
            None if only.since is None else first_id(only.since),
            only.org,
            only.user,
            only.action,
            only.actor,
            only.agent,
            only.event,
            only.target,
            None if only.people is None else list(only.people),
            limit,
        )
    return tuple(CredentialUse(**dict(row)) for row in rows)


async def growth(connection: Connection | Pool, now: datetime) -> UseGrowth:
    """Say how much there is, and how much came in a day."""
    with translated():
        row = await connection.fetchrow(_SQL["uses_growth"], first_id(now - DAY))
    assert row is not None  # noqa: S101 -- a query without FROM always has a row
    return UseGrowth(**dict(row))
