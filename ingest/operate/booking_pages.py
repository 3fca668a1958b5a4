"""Pages of bookings, and the timeline of one from the POST to the topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args
from uuid import UUID

from slotwire.ingest.foundation.postgres import Pool, borrowed, read_queries, translated
from slotwire.ingest.log.booking import booking_of
from slotwire.ingest.operate.booking_models import (
    MAX_TIMELINE,
    BookingItem,
    BookingQuery,
    ClearItem,
    MarkItem,
    State,
    Timeline,
    TimelineEvent,
)
from slotwire.ingest.operate.cursors import BookingPlace
from slotwire.ingest.operate.delivery_pages import delivery_item
from slotwire.ingest.operate.log_pages import event_fields
from slotwire.schemas.events import EVENT_CLASSES

if TYPE_CHECKING:
    import asyncpg

MAX_ORGANIZATIONS = 5
"""Organizations named where more than one was told of an invitee."""

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")
_TOPICS = {str(cls.type): cls.topic.name for cls in EVENT_CLASSES}


async def page(
    pool: Pool, query: BookingQuery, org: str | None, *, after: BookingPlace | None, limit: int
) -> Sequence[BookingItem]:
    """Read bookings after a place, in the order of invitee URIs and organizations."""
    invitee, last = after or ("", "")
    states = list(get_args(State)) if query.state is None else [query.state]
    statement = _SQL["bookings_page"] if org is None else _SQL["bookings_of_org"]
    with translated():
        rows = await pool.fetch(statement, invitee, org or last, states, limit, query.waiting)
    return [_booking(row) for row in rows]


async def organizations_of(pool: Pool, invitee: str, org: str | None) -> Sequence[str]:
    """Return the organizations within reach that were told of an invitee; at most `MAX_ORGANIZATIONS`."""
    with translated():
        rows = await pool.fetch(_SQL["organizations_of_booking"], invitee, org, MAX_ORGANIZATIONS)
    return [row["org"] for row in rows]


async def timeline(pool: Pool, invitee: str, org: str | None, *, topic_prefix: str) -> Timeline | None:
    """Read one booking with its deliveries, events and chain; None when it is not within reach.

    Each of these is cut at `MAX_TIMELINE`.
    """
    limit = MAX_TIMELINE + 1
    async with borrowed(pool) as connection:
        found = await connection.fetchrow(_SQL["booking"], invitee, org)
        if found is None:
            return None
        booking = _booking(found)
        chain = await connection.fetch(_SQL["bookings_of_chain"], booking.chain_root, booking.organization, limit)
        events = await connection.fetch(_SQL["timeline_events"], invitee, booking.organization, limit)
        delivery_ids = {row["delivery_id"] for row in events} | {clear.delivery_id for clear in booking.clears}
        deliveries = await connection.fetch(
            _SQL["timeline_deliveries"],
            booking.organization,
            [row["event_id"] for row in events],
            list(delivery_ids - {None}),
            limit,
        )
    return Timeline(
        booking=booking,
        chain=tuple(_booking(row) for row in chain[:MAX_TIMELINE]),
        deliveries=tuple(delivery_item(row) for row in deliveries[:MAX_TIMELINE]),
        events=tuple(_event(row, topic_prefix) for row in events[:MAX_TIMELINE]),
        complete=max(len(chain), len(events), len(deliveries)) <= MAX_TIMELINE,
    )


def _booking(row: asyncpg.Record) -> BookingItem:
    known = booking_of(dict(row))
    return BookingItem(
        invitee=known.invitee,
        organization=known.org,
        state=known.state,
        provider_status=known.provider_status,
        revision=known.revision,
        no_show=known.no_show,
        start_time=known.start_time,
        end_time=known.end_time,
        hosts=known.hosts,
        location_type=known.location_type,
        booked_at=known.booked_at,
        scheduled_event=known.scheduled_event,
        old_invitees=known.old_invitees,
        new_invitees=known.new_invitees,
        chain_key=known.chain_key,
        chain_root=known.chain_root,
        marks=tuple(MarkItem(uri=m.uri, created_at=m.created_at, cleared_at=m.cleared_at) for m in known.marks),
        clears=tuple(ClearItem(at=c.at, delivery_id=UUID(int=c.delivery.int), alone=c.alone) for c in known.clears),
        waits_since=known.waits_since,
        changed_at=row["changed_at"],
    )


def _event(row: asyncpg.Record, topic_prefix: str) -> TimelineEvent:
    topic = _TOPICS.get(row["type"])
    parked = row["parked_reason"]
    return TimelineEvent(
        **event_fields(row),
        topic=None if topic is None else topic_prefix + topic,
        revision=row["revision"],
        progress="parked" if parked is not None else "published" if row["passed"] else "waiting",
        parked_reason=parked,
    )
