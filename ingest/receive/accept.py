"""Accept: the one door. Whatever is to become events is committed here, and understood later by the writer.

Webhooks come through `group_commit`; everybody else calls `accept` with a few rows: backfill, retries of the
quarantine, events of our own. When it returns, the rows are durable and have their place in the order of their shard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.clock import ordered_id
from slotwire.ingest.foundation.postgres import Connection, Pool, borrowed, call_outright, read_queries, translated
from slotwire.ingest.receive.verify import VerifiedDelivery
from slotwire.schemas.codec import encode_data, format_time
from slotwire.schemas.events import EventData
from slotwire.schemas.ids import EventId

BACKLOG_FULL = "SW001"
"""SQLSTATE of `slotwire.accept` when what waits to be written has reached its limit."""
SETTLED_POLL_SECONDS = 0.02
"""How often a caller that waits for the writer looks."""

QUERIES = read_queries("slotwire.ingest.sql", "accept.sql")


class AcceptRow(NamedTuple):
    """`slotwire.accepting`, field by field: one thing that comes in."""

    id: UUID
    org: str
    subscription_id: UUID | None
    origin: str
    received_at: datetime
    signed_at: datetime
    stale: bool
    content_encoding: str
    traceparent: str | None
    original: UUID | None
    body: bytes | None
    signing_key: UUID | None = None


def row_of(delivery: VerifiedDelivery) -> AcceptRow:
    """Write a verified delivery as a row."""
    tenant = delivery.tenant
    age = delivery.received_at - delivery.signed_at
    return AcceptRow(
        id=delivery.id,
        org=tenant.org,
        subscription_id=tenant.subscription_id,
        origin="webhook",
        received_at=delivery.received_at,
        signed_at=delivery.signed_at,
        stale=tenant.max_age is not None and age > tenant.max_age,
        content_encoding=delivery.content_encoding,
        traceparent=delivery.traceparent,
        original=None,
        body=delivery.body,
        signing_key=delivery.signing_key,
    )


def fetched_row(
    org: str, *, origin: str, invitee: object, scheduled_event: object, now: datetime, marks: Sequence[str] = ()
) -> AcceptRow:
    """Write what REST told of an invitee, both documents as they came, with the time.

    Args:
        org: the organization.
        origin: `backfill` or `reconcile`.
        invitee: the invitee's document.
        scheduled_event: that of the scheduled event.
        now: when it was fetched.
        marks: the URIs of the no-show marks that were known to be set before it was asked for. Those that the document
            does not show are cleared by it.
    """
    told = {"invitee": invitee, "scheduled_event": scheduled_event, **({"marks": marks} if marks else {})}
    return AcceptRow(ordered_id(now), org, None, origin, now, now, False, "", None, None, orjson.dumps(told))


def fetched_resource(org: str, *, event: str, payload: object, now: datetime, inferred: bool = False) -> AcceptRow:
    """Write what REST told of a resource, as Calendly's event about it would have.

    Args:
        org: the organization.
        event: Calendly's name of the event.
        payload: the resource's document; of one that is gone a tombstone with its URI.
        now: when it was fetched.
        inferred: nothing told of it, it only is not there any more.
    """
    told = {"event": event, "payload": payload, **({"inferred": True} if inferred else {})}
    return AcceptRow(ordered_id(now), org, None, "reconcile", now, now, False, "", None, None, orjson.dumps(told))


def retry_row(org: str, original: UUID, now: datetime) -> AcceptRow:
    """Write a retry: it has no body, points at a quarantined delivery, and is read with its body and times."""
    return AcceptRow(ordered_id(now), org, None, "retry", now, now, False, "", None, original, None)


class OwnEvent(NamedTuple):
    """An event of our own, as it will stand in the log: about Slotwire itself."""

    id: EventId
    data: EventData
    subject: str
    key: str
    time: datetime


def own_row(org: str, event: OwnEvent, now: datetime) -> AcceptRow:
    """Write an event of our own. One whose id is in the log already is found known there."""
    body = orjson.dumps(
        {
            "id": str(event.id),
            "type": event.data.type,
            "subject": event.subject,
            "key": event.key,
            "time": format_time(event.time),
            "data": orjson.Fragment(encode_data(event.data)),
        }
    )
    return AcceptRow(ordered_id(now), org, None, "own", now, now, False, "", None, None, body)


def move_row(org: str, now: datetime, **told: object) -> AcceptRow:
    """Write what an action tells the writer before it reschedules; it becomes no event.

    Args:
        org: the organization.
        now: when it is intended.
        told: `action`, `old_invitee`, `tag`, `event_type`, `start_time` and `person`, as the writer reads them.
    """
    body = orjson.dumps({"type": "io.slotwire.action.intended", **told})
    return AcceptRow(ordered_id(now), org, None, "own", now, now, False, "", None, None, body)


async def accept(
    connection: Connection,
    shard: int,
    rows: Sequence[AcceptRow],
    *,
    now: datetime,
    seconds: float,
    limit: int | None = None,
) -> int:
    """Commit rows to a shard, and tell the writer; return the position of the last one.

    Args:
        connection: any; it is closed where the answer does not come.
        shard: of the organization, or the organizations, the rows belong to.
        rows: at least one.
        now: the time; a new day begins a new range of positions.
        seconds: how long the commit may take.
        limit: bytes that may be accepted and not yet written; None for no limit.

    Raises:
        DatabaseUnavailable: with reason `backlog` past the limit; else it is not known whether they are committed.
    """
    position: int = (await _commit(connection, shard, rows, now, limit, seconds))["last"]
    return position


async def accept_webhooks(
    connection: Connection, shard: int, rows: Sequence[AcceptRow], *, now: datetime, seconds: float, limit: int
) -> frozenset[UUID]:
    """Commit webhooks to a shard; return the ids of those that were not taken, because their key is revoked.

    Args:
        connection: as for `accept`, like the others.
        shard: of the organizations.
        rows: each with its `signing_key`.
        now: the time.
        seconds: how long the commit may take.
        limit: bytes that may be accepted and not yet written.

    Raises:
        DatabaseUnavailable: see `accept`.
    """
    return frozenset((await _commit(connection, shard, rows, now, limit, seconds))["revoked"] or ())


async def _commit(
    connection: Connection,
    shard: int,
    rows: Sequence[AcceptRow],
    now: datetime,
    limit: int | None,
    seconds: float,
) -> Any:
    try:
        return await call_outright(connection, QUERIES["accept"], shard, now, limit, rows, seconds=seconds)
    except DatabaseUnavailable as problem:
        if problem.reason == BACKLOG_FULL:
            raise DatabaseUnavailable("too much waits to be written", reason="backlog") from problem
        raise


@asynccontextmanager
async def committing(pool: Pool, shard: int) -> AsyncIterator[Connection]:
    """Lend a connection to commit to a shard with, and wake the writer at the end of the block.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    async with borrowed(pool) as connection:
        yield connection
        await connection.execute(QUERIES["notify"], str(shard))


async def accept_through(pool: Pool, shard: int, rows: Sequence[AcceptRow], *, now: datetime, seconds: float) -> int:
    """Commit rows through a pool's connection, and wake the writer; return the position of the last one.

    Raises:
        DatabaseUnavailable: see `accept`.
    """
    async with committing(pool, shard) as connection:
        return await accept(connection, shard, rows, now=now, seconds=seconds)


async def until_settled(pool: Pool, shard: int, position: int, *, seconds: float) -> bool:
    """Wait until the delivery at a position is settled, and return whether it is, in time.

    An organization's deliveries are settled in their order, so those it had accepted before are settled too.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        with translated():
            if await pool.fetchval(QUERIES["is_settled"], shard, position):
                return True
        if loop.time() >= until:
            return False
        await asyncio.sleep(SETTLED_POLL_SECONDS)
