"""Makes the facts of a digest from what was read of bookings. Pure.

A move is told by three events: the new booking, the end of the old one, and the move itself, once both are known. It is
one change here, told by the last of them: a half that came alone is told when the other one has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from zoneinfo import ZoneInfo

from slotwire.handlers.reach.bookings import MAX_BOOKINGS, BookingChange, OrganizationBooking, WaitingForPerson
from slotwire.handlers.shipped.digest.facts import (
    AttentionKind,
    ChangeKind,
    DigestAttention,
    DigestChange,
    DigestFacts,
    DigestMeeting,
    DigestPerson,
)
from slotwire.ingest.foundation.mail_message import address_of
from slotwire.schemas.calendly import EventMembership, InviteePayload
from slotwire.schemas.events import (
    EventData,
    InviteeCanceled,
    InviteeCreated,
    InviteeNoShowCreated,
    InviteeNoShowDeleted,
    InviteeRescheduled,
)

_KINDS = {
    InviteeCreated.type: ChangeKind.NEW,
    InviteeCanceled.type: ChangeKind.CANCELED,
    InviteeNoShowCreated.type: ChangeKind.NO_SHOW,
    InviteeNoShowDeleted.type: ChangeKind.NO_SHOW_CLEARED,
    InviteeRescheduled.type: ChangeKind.MOVED,
}
_TOLD = (InviteeCreated, InviteeCanceled, InviteeNoShowCreated, InviteeNoShowDeleted)
_NOBODY = DigestPerson(None, None)


@dataclass(frozen=True, slots=True)
class DigestWindow:
    """What a digest is about.

    Attributes:
        day: whose meetings it lists.
        zone: what a day is, and in which times are shown.
        after: the place in the log of the last change that the digest before told; None for the first.
        until: the place of the last change that this one tells.
        since: when the digest before was due, or how far back the first one goes.
        host: whose digest it is, by URI; None for the whole organization.
    """

    day: date
    zone: ZoneInfo
    after: int | None
    until: int
    since: datetime
    host: str | None = None


def facts_of(
    window: DigestWindow,
    bookings: Sequence[OrganizationBooking],
    changes: Sequence[BookingChange],
    waiting: Sequence[WaitingForPerson],
) -> DigestFacts:
    """Make a digest of what was read: one more than `MAX_BOOKINGS` of a kind says that there are more."""
    found = [DigestAttention(AttentionKind(each.kind), each.number, each.since) for each in waiting]
    return DigestFacts(
        day=window.day,
        zone=window.zone,
        since=None if window.after is None else window.since,
        host=None if window.host is None else _host_name(window.host, bookings) or "one host",
        meetings=tuple(_meetings(bookings[:MAX_BOOKINGS])),
        more_meetings=len(bookings) > MAX_BOOKINGS,
        changes=tuple(_changes(changes[:MAX_BOOKINGS])),
        more_changes=len(changes) > MAX_BOOKINGS,
        attention=tuple(sorted(found, key=lambda each: list(AttentionKind).index(each.kind))),
    )


def hosts_of(bookings: Iterable[OrganizationBooking]) -> dict[str, str]:
    """Return the mail address of each host of bookings, by URI, as the first booking that has one says."""
    found: dict[str, str] = {}
    for booking in bookings:
        for member in _members(booking.created):
            if member.user is not None and member.user in booking.hosts and _is_address(member.user_email):
                found.setdefault(member.user, member.user_email or "")
    return found


def _is_address(text: str | None) -> bool:
    try:
        address_of(text or "")
    except ValueError:
        return False
    return True


def _host_name(host: str, bookings: Iterable[OrganizationBooking]) -> str | None:
    """Return a host's name, as the first booking that has it says."""
    members = (member for booking in bookings for member in _members(booking.created))
    return next((member.user_name for member in members if member.user == host and member.user_name), None)


def _meetings(bookings: Sequence[OrganizationBooking]) -> Iterator[DigestMeeting]:
    """Put the bookings of one meeting together; they follow each other."""
    for _, together in groupby(bookings, key=lambda each: (each.start_time, each.scheduled_event or each.invitee)):
        people = list(together)
        first = people[0]
        told = next((each.created for each in people if each.created is not None), None)
        yield DigestMeeting(
            start=first.start_time,
            end=first.end_time,
            title=_title(told),
            location_type=first.location_type,
            hosts=tuple(member.user_name or "" for member in _members(told)),
            people=tuple(_person(each.created, no_show=each.no_show) for each in people),
        )


def _changes(changes: Sequence[BookingChange]) -> Iterator[DigestChange]:
    moves = [change.data for change in changes if isinstance(change.data, InviteeRescheduled)]
    halves = {(InviteeCreated.type, move.uri) for move in moves}
    halves |= {(InviteeCanceled.type, move.old_invitee) for move in moves}
    for change in changes:
        if (change.type, change.invitee) not in halves and not _is_half(change.data):
            yield _change(_KINDS[change.type], change)


def _is_half(data: EventData | None) -> bool:
    """Say whether an event says itself that it is half of a move."""
    if isinstance(data, InviteeCreated):
        return data.old_invitee is not None
    return isinstance(data, InviteeCanceled) and (bool(data.rescheduled) or data.part_of_action is not None)


def _change(kind: ChangeKind, change: BookingChange) -> DigestChange:
    data = change.data
    if isinstance(data, InviteeRescheduled):
        told = change.created
        return DigestChange(
            kind,
            _person(told),
            _title(told),
            data.start_time or change.start_time,
            old_start=data.old_start_time,
        )
    if not isinstance(data, _TOLD):  # too long to be read
        return DigestChange(kind, _NOBODY, None, change.start_time)
    meeting = data.scheduled_event
    ended = data.cancellation if kind is ChangeKind.CANCELED else None
    return DigestChange(
        kind,
        _person(data),
        _title(data),
        (None if meeting is None else meeting.start_time) or change.start_time,
        reason=None if ended is None else ended.reason,
        canceler=None if ended is None else ended.canceler_type,
    )


def _person(told: InviteePayload | None, *, no_show: bool = False) -> DigestPerson:
    if told is None:
        return DigestPerson(None, None, no_show)
    name = told.name or " ".join(filter(None, (told.first_name, told.last_name)))
    return DigestPerson(name, told.email, no_show)


def _title(told: InviteePayload | None) -> str | None:
    return None if told is None or told.scheduled_event is None else told.scheduled_event.name


def _members(told: InviteePayload | None) -> Sequence[EventMembership]:
    return () if told is None or told.scheduled_event is None else told.scheduled_event.event_memberships
