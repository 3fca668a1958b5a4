"""Looks whether a step of an action had its effect: in the log since its intent, and at Calendly.

The log has Calendly's own webhook about it, wherever the answer was lost. What a webhook or a read shows is judged by
`settlement`.
"""

from __future__ import annotations

from typing import Any

import orjson

from slotwire.ingest.control.actions.intents import moment, tagged
from slotwire.ingest.control.actions.records import SQL, ActionRecord
from slotwire.ingest.control.actions.settlement import (
    Effect,
    Expectation,
    Sighting,
    judge_booking,
    judge_cancellation,
    judge_mark,
    sighting,
)
from slotwire.ingest.control.calendly_client import invitee_no_shows, invitees, scheduled_events
from slotwire.ingest.control.calendly_client.scheduled_events import ScheduledEventQuery
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.postgres import Pool, translated
from slotwire.schemas.events import InviteeCanceled, InviteeCreated, InviteeNoShowCreated, InviteeNoShowDeleted
from slotwire.schemas.ids import person_digest

MAX_SEEN = 200
"""Events that one look reads."""
ADMINS = frozenset({"owner", "admin"})
"""Roles that list the meetings of others."""


def expectation(record: ActionRecord, *, forgotten: bool = False) -> Expectation:
    """Say how the booking of an action's step is known; `forgotten`: it may have been made before its intent."""
    booking = record.booking
    given = {} if booking.tracking is None else booking.tracking.model_dump()
    _, carried = tagged(given, record.booking_tag)
    return Expectation(
        record.booking_tag if carried else None,
        booking.event_type,
        booking.start_time,
        person_digest(booking.email),
        None if forgotten else record.step_at,
    )


async def seen_in_log(pool: Pool, record: ActionRecord) -> Effect | None:
    """Look in the log, from the head that was noted with the intent on. Booked by others does not count yet."""
    match record.step:
        case "book" | "restore":
            expected = expectation(record)
            start = moment(expected.start_time)[: len("2026-11-26T00:00")]
            rows = await _events(pool, record, (InviteeCreated.type,), expected.event_type, start)
            found = judge_booking(expected, _sightings(rows))
            return None if found is None or found.kind == "done_by_other" else found
        case "cancel":
            rows = await _events(pool, record, (InviteeCanceled.type,), record.meeting, '"cancellation"')
            for data in rows:
                told = {"status": "canceled", "cancellation": data.get("cancellation"), "uri": record.meeting}
                if (effect := judge_cancellation(told, record.step_at, "webhook")) is not None:
                    return effect
        case "mark":
            rows = await _events(pool, record, (InviteeNoShowCreated.type,), record.target, '"no_show"')
            for data in rows:
                if (effect := judge_mark(data, record.step_at, "webhook")) is not None:
                    return effect
        case "clear":
            rows = await _events(pool, record, (InviteeNoShowDeleted.type,), record.target, '"cleared_mark"')
            if any(data.get("cleared_mark") == record.target for data in rows):
                return Effect("done", "webhook", mark=record.target)
    return None


async def seen_at_calendly(
    calendly: CalendlyTransport, record: ActionRecord, connection: ConnectionRecord, *, forgotten: bool = False
) -> Effect | None:
    """Look at Calendly.

    Args:
        calendly: as whom.
        record: the action.
        connection: whose that is.
        forgotten: after a restore, its key may have been used before: a booking that fits then counts, too.

    Raises:
        CalendlyError: it could not be seen.
    """
    match record.step:
        case "book" | "restore":
            return judge_booking(expectation(record, forgotten=forgotten), await _booked(calendly, record, connection))
        case "cancel":
            meeting = await scheduled_events.get(calendly, record.meeting)
            return judge_cancellation(dict(meeting.raw), record.step_at, "read")
        case "mark":
            invitee = await invitees.get(calendly, record.target)
            return judge_mark(dict(invitee.raw), record.step_at, "read")
        case "clear":
            try:
                await invitee_no_shows.get(calendly, record.target)
            except CalendlyError as error:
                if error.problem is CalendlyProblem.NOT_FOUND:
                    return Effect("done", "read", mark=record.target)
                raise
    return None


async def _events(pool: Pool, record: ActionRecord, types: tuple[str, ...], *texts: str) -> list[dict[str, Any]]:
    with translated():
        rows = await pool.fetch(
            SQL["seen_in_log"], record.org, types, record.head, *(text.encode() for text in texts), MAX_SEEN
        )
    return [orjson.loads(row["data"]) for row in rows]


def _sightings(rows: list[dict[str, Any]]) -> list[Sighting]:
    found = (sighting(data, data.get("scheduled_event") or {}, "webhook") for data in rows)
    return [each for each in found if each is not None]


async def _booked(calendly: CalendlyTransport, record: ActionRecord, connection: ConnectionRecord) -> list[Sighting]:
    booking = record.booking
    wanted = ScheduledEventQuery(
        organization=record.organization,
        user=None if connection.role in ADMINS else connection.user_uri,
        start_from=booking.start_time,
        start_to=booking.start_time,
        invitee_email=booking.email,
    )
    found: list[Sighting] = []
    async for meeting in scheduled_events.every(calendly, wanted):
        if meeting.raw.get("event_type") == booking.event_type:
            async for invitee in invitees.every(calendly, meeting.uri, email=booking.email):
                seen = sighting(dict(invitee.raw), dict(meeting.raw), "read")
                found += [seen] if seen is not None else []
    return found
