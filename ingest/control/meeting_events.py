"""The events of the moments of scheduled events, made of the bookings that are known. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from slotwire.ingest.receive.accept import OwnEvent
from slotwire.schemas.codec import format_time
from slotwire.schemas.events import MeetingEnded, MeetingStarted, MeetingStarting
from slotwire.schemas.ids import OrganizationUri, event_id

MeetingMoment = Literal["starting", "started", "ended"]

MOMENTS: tuple[MeetingMoment, ...] = ("starting", "started", "ended")
MAX_LATE = timedelta(days=6)
"""How late a moment is told at most: after a stop, or where its booking becomes known later."""
LATE_AFTER = timedelta(seconds=60)
MAX_INVITEES = 100
"""Invitees of a scheduled event that its events name."""
_CLASSES: Mapping[MeetingMoment, type[MeetingStarting | MeetingStarted | MeetingEnded]] = MappingProxyType(
    {"starting": MeetingStarting, "started": MeetingStarted, "ended": MeetingEnded}
)


@dataclass(frozen=True, slots=True)
class MeetingBooking:
    """An active booking of a scheduled event; see the columns of `slotwire.bookings`.

    Attributes:
        organization: the organization's URI.
        served_since: when the organization was added.
    """

    org: str
    organization: OrganizationUri
    served_since: datetime
    invitee: str
    scheduled_event: str
    start_time: datetime
    end_time: datetime
    booked_at: datetime | None
    hosts: list[str]
    location_type: str | None

    def at(self, moment: MeetingMoment, lead: timedelta) -> datetime:
        """Return when the moment is."""
        match moment:
            case "starting":
                return self.start_time - lead
            case "started":
                return self.start_time
            case "ended":
                return self.end_time


def comes(
    booking: MeetingBooking, moment: MeetingMoment, lead: timedelta, *, begun_at: datetime, now: datetime
) -> bool:
    """Say whether a moment that has come is told: nobody tells of a start that is over that it is near."""
    at = booking.at(moment, lead)
    known = at > begun_at and at >= booking.served_since and (booking.booked_at is None or booking.booked_at <= at)
    over = moment == "starting" and booking.start_time <= now and now - at > LATE_AFTER
    return known and not over and now - at <= MAX_LATE


def meeting_events(
    bookings: Iterable[MeetingBooking], moment: MeetingMoment, lead: timedelta
) -> list[tuple[str, OwnEvent]]:
    """Make the events of a moment, one for each scheduled event of an organization, with that organization.

    Args:
        bookings: those of one scheduled event stand together.
        moment: which one.
        lead: how long before its start one is starting.
    """
    meetings: dict[tuple[str, str], list[MeetingBooking]] = {}
    for each in bookings:
        meetings.setdefault((each.org, each.scheduled_event), []).append(each)
    return [(org, _event(found, moment, lead)) for (org, _), found in meetings.items()]


def _event(bookings: list[MeetingBooking], moment: MeetingMoment, lead: timedelta) -> OwnEvent:
    first = bookings[0]
    uri, start = first.scheduled_event, first.start_time
    data = _CLASSES[moment](
        uri=uri,
        organization=first.organization,
        start_time=start,
        end_time=first.end_time,
        hosts=first.hosts,
        location_type=first.location_type,
        invitees=[each.invitee for each in bookings[:MAX_INVITEES]],
    )
    made = event_id(first.organization, f"meeting.{moment}", uri, format_time(start))
    return OwnEvent(made, data, subject=uri, key=uri, time=first.at(moment, lead))
