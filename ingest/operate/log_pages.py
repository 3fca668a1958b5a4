"""Pages of events. Each page starts after the last item, so nothing is skipped or repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from slotwire.ingest.errors import SchemaMismatch
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.operate.cursors import LogPlace
from slotwire.ingest.operate.models import EventDetail, EventItem, HandledItem, ParkedItem
from slotwire.schemas.events import EVENT_CLASSES

if TYPE_CHECKING:
    import asyncpg

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")
_TYPES = [str(cls.type) for cls in EVENT_CLASSES]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to read.

    Attributes:
        org: of one organization; None for all.
        type: of one type.
        subject: of one invitee or resource.
    """

    org: str | None = None
    type: str | None = None
    subject: str | None = None


async def log_ends(pool: Pool) -> LogPlace:
    """Return the last position of each shard.

    Raises:
        SchemaMismatch: the log does not exist yet.
    """
    return {row["shard"]: row["position"] for row in await _shards(pool, _SQL["log_ends"])}


async def everywhere(pool: Pool, position: int) -> LogPlace:
    """Return a place that is the same position in each shard.

    Raises:
        SchemaMismatch: the log does not exist yet.
    """
    return {row["shard"]: position for row in await _shards(pool, _SQL["shards"])}


async def events_after(pool: Pool, place: LogPlace, only: EventFilter, *, limit: int) -> Sequence[EventItem]:
    """Read events after a place, oldest first.

    An organization, and so a subject, is in one shard, so the largest position of the place counts.
    """
    with translated():
        if only.subject is not None:
            position = max(place.values())
            rows = await pool.fetch(_SQL["events_after_of_subject"], only.subject, position, only.type, limit, only.org)
        elif only.org is not None:
            types = _TYPES if only.type is None else [only.type]
            rows = await pool.fetch(_SQL["events_after_of_org"], only.org, max(place.values()), types, limit)
        else:
            rows = await pool.fetch(_SQL["events_after"], list(place), list(place.values()), only.type, limit)
    return [EventItem(**event_fields(row)) for row in rows]


def place_after(place: LogPlace, items: Sequence[EventItem], only: EventFilter) -> LogPlace:
    """Return the place after events that were read from a place."""
    reached = {**place, **{item.shard: item.sequence for item in items}}
    if only.org is None and only.subject is None:
        return reached
    return dict.fromkeys(reached, max(reached.values()))


async def latest_events(pool: Pool, only: EventFilter, *, limit: int) -> Sequence[EventItem]:
    """Read the latest events, oldest first."""
    with translated():
        if only.subject is not None:
            rows = await pool.fetch(_SQL["latest_events_of_subject"], only.subject, only.type, limit, only.org)
        elif only.org is not None:
            types = _TYPES if only.type is None else [only.type]
            rows = await pool.fetch(_SQL["latest_events_of_org"], only.org, types, limit)
        else:
            rows = await pool.fetch(_SQL["latest_events"], list(await everywhere(pool, 0)), only.type, limit)
    return [EventItem(**event_fields(row)) for row in reversed(rows)]


async def event(pool: Pool, event_id: UUID, org: str | None) -> EventDetail | None:
    """Read one event with its data, byte for byte as it was written; None when it is not within reach."""
    with translated():
        row = await pool.fetchrow(_SQL["event"], event_id, org)
        if row is None:
            return None
        handled = tuple(HandledItem(**item) for item in await pool.fetch(_SQL["handled"], event_id))
    return EventDetail(**event_fields(row), data=orjson.Fragment(row["data"]), handled=handled)


async def parked_page(pool: Pool, org: str | None, *, after: UUID | None, limit: int) -> Sequence[ParkedItem]:
    """Read events that Kafka refused, by id."""
    with translated():
        rows = await pool.fetch(_SQL["parked_page"], org, after, limit)
    return [
        ParkedItem(
            id=row["event_id"],
            type=row["type"],
            organization=row["org"],
            subject=row["subject"],
            sequence=row["position"],
            shard=row["shard"],
            reason=row["reason"],
            parked_at=row["parked_at"],
        )
        for row in rows
    ]


async def settle_parked(pool: Pool, event_id: UUID) -> None:
    """Forget that an event is parked. It stays in the log."""
    with translated():
        await pool.execute(_SQL["settle_parked"], event_id)


def event_fields(row: asyncpg.Record) -> Mapping[str, Any]:
    """Return the fields of an `EventItem` from a row of the log."""
    return {
        "id": row["event_id"],
        "type": row["type"],
        "source": f"/organizations/{row['org']}",
        "organization": row["org"],
        "tenant": row["tenant"],
        "subject": row["subject"],
        "time": row["time"],
        "recorded_at": row["recorded_at"],
        "sequence": row["position"],
        "shard": row["shard"],
        "key": row["key"],
        "origin": row["origin"],
        "inferred": row["inferred"],
        "delivery_id": row["delivery_id"],
        "traceparent": row["traceparent"],
    }


async def _shards(pool: Pool, statement: str) -> Sequence[asyncpg.Record]:
    with translated():
        rows = await pool.fetch(statement)
    if not rows:
        raise SchemaMismatch("the log does not exist yet", remedy="Run `slotwire migrate`.")
    return rows
