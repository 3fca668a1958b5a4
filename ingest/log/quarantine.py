"""Quarantine: what Calendly signed and an earlier version could not understand, read again.

A retried delivery goes the way it would have gone: normalize, join, append, through the log's one door. Its
events get the ids they would have had, so that one that was told otherwise meanwhile is not told twice. The
delivery's row and body are there already and stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from slotwire.ingest.errors import DatabaseUnavailable, RowRefused
from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated
from slotwire.ingest.log.batch import Batch, event_name, read_row
from slotwire.ingest.log.join import named
from slotwire.ingest.log.normalize import Fact, InviteeFact, QuarantineFact, normalize
from slotwire.ingest.receive.verify import Tenant, VerifiedDelivery, verified_before

if TYPE_CHECKING:
    import asyncpg

MAX_TRIES = 10
"""How often one delivery is joined anew because another writer changed its booking."""

_SQL = read_queries("slotwire.ingest.sql", "quarantine.sql")
_STORE = read_queries("slotwire.ingest.sql", "store.sql")


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
    subscription_id: UUID
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
    with translated():
        rows = await pool.fetch(_SQL["quarantine_page"], before, only.org, only.reason, only.state, limit)
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
        applied: bool = await pool.fetchval(
            _SQL["settle_quarantine"], delivery_id, now, "discarded", None, None, why, None, None
        )
    return applied


async def retry(pool: Pool, delivery_id: UUID, org: str | None, *, now: datetime) -> QuarantinedDelivery | None:
    """Read one again; what this version understands becomes events.

    What it still does not understand stays, with the reason it has now. The subscription's `max_age` does not
    count here: whoever retries has looked at it. What was retried before stays as it is.

    Returns:
        It as it is then, with its body; None when it is not within reach.

    Raises:
        DatabaseUnavailable: it may have become events; to retry it again is harmless.
    """
    with translated():
        async with pool.acquire() as connection:
            row = await connection.fetchrow(_SQL["quarantined"], delivery_id, org)
            if row is None:
                return None
            if row["state"] != "retried":
                settled = await _append(connection, normalize(_delivery(row)), shard=row["shard"], now=now)
                await connection.fetchval(_SQL["settle_quarantine"], delivery_id, now, *settled)
    return await read_one(pool, delivery_id, org)


async def _append(connection: Connection, fact: Fact, *, shard: int, now: datetime) -> tuple[object, ...]:
    """Append what a fact becomes; returns how its delivery is settled then.

    To append and to settle are two commits. Between them the delivery waits on, and its events are there:
    the next retry finds them by their ids, and settles it.
    """
    for _ in range(MAX_TRIES):
        if isinstance(fact, QuarantineFact):
            return _still(fact)
        rows = []
        if isinstance(fact, InviteeFact):
            rows = await connection.fetch(_STORE["read_bookings"], named(fact.payload))
        batch = Batch([fact], {row["invitee"]: read_row(dict(row)) for row in rows})
        if (refused := batch.quarantined[0]) is not None:
            return _still(refused)
        arguments = batch.arguments(shard=shard, now=now, kept=True)
        try:
            with translated():
                answer = await connection.fetchrow(_STORE["append_batch"], *arguments)
        except RowRefused as problem:
            return _still(QuarantineFact(fact.source, "refused_by_database", problem.sqlstate))
        if answer is not None and not answer["conflicts"]:
            return "retried", None, None, None, batch.primaries[0], event_name(fact)
    raise DatabaseUnavailable("its booking keeps changing", reason="contention")


def _still(fact: QuarantineFact) -> tuple[object, ...]:
    return None, fact.reason, fact.detail, None, None, None


def _delivery(row: asyncpg.Record) -> VerifiedDelivery:
    tenant = Tenant(row["uri"], row["org"], row["shard"], row["external_id"], row["subscription_id"])
    return verified_before(
        row["delivery_id"],
        tenant,
        row["body"],
        received_at=row["received_at"],
        signed_at=row["signed_at"],
        traceparent=row["traceparent"],
        # No column holds the header; the reason says that there was one.
        content_encoding="unknown" if row["reason"] == "compressed" else "",
    )


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
        received_at=row["received_at"],
        signed_at=row["signed_at"],
        outcome=row["outcome"],
        event_id=row["event_id"],
        body_bytes=row["bytes"],
        body=body,
    )
