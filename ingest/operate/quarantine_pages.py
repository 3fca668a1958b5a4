"""The quarantine as operators see it: what Calendly signed and an earlier version could not understand.

A retry goes through the door like everything else. Its events get the ids they would have had, so that a fact that
arrived another way meanwhile is not written twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.receive.accept import accept_through, retry_row

if TYPE_CHECKING:
    import asyncpg

ACCEPT_SECONDS = 5.0
"""How long the commit of a retry may take."""

_SQL = read_queries("slotwire.ingest.sql", "quarantine.sql")
_STATES = ["waiting", "retried", "discarded"]


@dataclass(frozen=True, slots=True)
class QuarantinedDelivery:
    """A row of the quarantine, with what is told of its delivery.

    Attributes:
        state: `waiting`, `retried` or `discarded`.
        reason: why it was, or still is, not understood: a short word.
        detail: where in the payload, without values.
        note: why it was discarded.
        outcome: of its delivery; `stored` or `duplicate` once it was retried.
        event_id: the event it stands for, once it was retried.
        body_bytes: how long its body is.
        body: as it came; None where only a list was asked for.
    """

    delivery_id: UUID
    org: str
    reason: str
    detail: str
    state: str
    created_at: datetime
    settled_at: datetime | None
    note: str | None
    subscription_id: UUID | None
    shard: int
    received_at: datetime
    signed_at: datetime
    outcome: str
    event_id: UUID | None
    body_bytes: int
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class QuarantineFilter:
    """Which rows.

    Attributes:
        org: of one organization; None for all.
        reason: quarantined for one reason.
        state: in one state.
    """

    org: str | None = None
    reason: str | None = None
    state: str | None = None


async def read_page(
    pool: Pool, only: QuarantineFilter, *, before: UUID | None, limit: int
) -> list[QuarantinedDelivery]:
    """Read quarantined deliveries before a place, newest first, without their bodies."""
    states = _STATES if only.state is None else [only.state]
    with translated():
        rows = await pool.fetch(_SQL["quarantine_page"], before, only.org, only.reason, states, limit)
    return [_read_row(row) for row in rows]


async def read_one(pool: Pool, delivery_id: UUID, org: str | None) -> QuarantinedDelivery | None:
    """Read one quarantined delivery with its body; None when it is not within reach."""
    with translated():
        row = await pool.fetchrow(_SQL["quarantined"], delivery_id, org)
    return None if row is None else _read_row(row, body=row["body"])


async def count_waiting(pool: Pool, reason: str, org: str | None) -> int:
    """Count the deliveries that wait for one reason."""
    with translated():
        found: int = await pool.fetchval(_SQL["count_quarantined"], reason, org)
    return found


async def waiting_ids(pool: Pool, reason: str, org: str | None, *, after: UUID, limit: int) -> list[UUID]:
    """Read which deliveries wait for one reason, in the order they came, after a place."""
    with translated():
        rows = await pool.fetch(_SQL["waiting_ids"], reason, org, after, limit)
    return [row["delivery_id"] for row in rows]


async def discard(pool: Pool, delivery_id: UUID, why: str, *, now: datetime) -> bool:
    """Settle one that waits as not wanted. Its body stays. Returns whether it did wait."""
    with translated():
        applied: bool = await pool.fetchval(_SQL["discard"], delivery_id, now, why)
    return applied


async def retry(pool: Pool, found: QuarantinedDelivery, *, now: datetime) -> int:
    """Let a quarantined delivery in again; the writer reads it as this version does. Returns the retry's position.

    What is still not understood stays, with the reason it has then. The subscription's `max_age` does not count here:
    whoever retries has looked at it. What was retried before stays as it is.

    Raises:
        DatabaseUnavailable: it is not known whether it was let in; to retry it again is harmless.
    """
    row = retry_row(found.org, found.delivery_id, now)
    return await accept_through(pool, found.shard, [row], now=now, seconds=ACCEPT_SECONDS)


def _read_row(row: asyncpg.Record, *, body: bytes | None = None) -> QuarantinedDelivery:
    return QuarantinedDelivery(
        delivery_id=row["delivery_id"],
        org=row["org"],
        reason=row["reason"],
        detail=row["detail"],
        state=row["state"],
        created_at=row["created_at"],
        settled_at=row["settled_at"],
        note=row["note"],
        subscription_id=row["subscription_id"],
        shard=row["shard"],
        received_at=row["received_at"],
        signed_at=row["signed_at"],
        outcome=row["outcome"],
        event_id=row["event_id"],
        body_bytes=row["bytes"],
        body=body,
    )
