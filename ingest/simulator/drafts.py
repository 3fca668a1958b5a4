"""New scheduled events and invitees, from given details; the rest is drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from slotwire.ingest.simulator import payloads
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.model import BookingAnswer, SimulatedEventType, SimulatedInvitee, SimulatedScheduledEvent
from slotwire.ingest.simulator.people import CAMPAIGNS, TIMEZONES, address, answers, full_name, phone

# A captured event was made 29 ms before its invitee (docs/reference/calendly.md, "Delivery").
EVENT_LEAD = timedelta(microseconds=29_474)
MAX_AHEAD_DAYS = 30


@dataclass(frozen=True, slots=True)
class BookingDetails:
    """The details of a booking; those that are None are drawn.

    `event` books into an existing group event; `location` names a type (`none` for null); `name_null` sends
    `name: null` (docs/reference/calendly.md, "Payloads"). With a `scheduling_method` nothing about the
    invitee is drawn.
    """

    organization: str | None = None
    event_type: str | None = None
    event: str | None = None
    email: str | None = None
    name: str | None = None
    name_null: bool = False
    start: datetime | None = None
    timezone: str | None = None
    location: str | None = None
    tracking: tuple[tuple[str, str], ...] = ()
    routing_form_submission: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    text_reminder_number: str | None = None
    answers: tuple[BookingAnswer, ...] = ()
    guests: tuple[str, ...] = ()
    scheduling_method: str | None = None


def new_event(
    offer: SimulatedEventType,
    start: datetime | None,
    location: str | None,
    draws: Draws,
    now: datetime,
    guests: tuple[str, ...] = (),
) -> SimulatedScheduledEvent:
    """Return a scheduled event of an event type; without `start`, on a day of the next month."""
    ident = draws.uuid()
    if start is None:
        ahead = timedelta(days=1 + draws.below(MAX_AHEAD_DAYS), hours=draws.below(8), minutes=15 * draws.below(4))
        start = now.replace(hour=9, minute=0, second=0, microsecond=0) + ahead
    return SimulatedScheduledEvent(
        id=ident,
        organization=offer.organization,
        host=offer.owner,
        event_type=offer.id,
        name=offer.name,
        start=start,
        end=start + timedelta(minutes=offer.minutes),
        location=payloads.location(location or offer.location, ident, draws, phone(draws)),
        limit=offer.limit,
        created_at=now - EVENT_LEAD,
        updated_at=now,
        guests=guests,
    )


def new_invitee(
    details: BookingDetails, event: SimulatedScheduledEvent, number: int, draws: Draws, now: datetime
) -> SimulatedInvitee:
    """Return an invitee with these details, the `number`th of this simulator."""
    if details.scheduling_method is not None:
        return SimulatedInvitee(
            id=draws.uuid(),
            event=event.id,
            email=details.email or address("invitee", number),
            name=details.name,
            first_name=details.first_name,
            last_name=details.last_name,
            timezone=details.timezone,
            created_at=now,
            updated_at=now,
            answers=details.answers,
            tracking=details.tracking,
            text_reminder_number=details.text_reminder_number,
            scheduling_method=details.scheduling_method,
        )
    given, family = full_name(draws)
    split = details.name is None and draws.chance(0.4)
    name = details.name or f"{given} {family}"
    return SimulatedInvitee(
        id=draws.legacy_id() if draws.chance(0.2) else draws.uuid(),
        event=event.id,
        email=details.email or address(name, number),
        name=None if details.name_null else name,
        first_name=given if split else None,
        last_name=family if split else None,
        timezone=details.timezone or draws.pick(TIMEZONES),
        created_at=now,
        updated_at=now,
        answers=answers(draws),
        tracking=details.tracking or ((("utm_campaign", draws.pick(CAMPAIGNS)),) if draws.chance(0.3) else ()),
        text_reminder_number=phone(draws) if draws.chance(0.2) else None,
        routing_form_submission=details.routing_form_submission,
    )
