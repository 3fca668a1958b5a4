"""What an erasure leaves of facts that come in later about the same person. Pure.

`slotwire erase` takes a person's data out of what is stored. Late copies bring it again: a retry, a cancellation of a
booking that was made before, a backfill. Such a fact loses the data before it is joined, and is joined like any other:
bookings and chains go on by their URIs. A booking that the person makes after the erasure keeps its data. Of a guest of
somebody else's meeting only the address goes, unless they were added after the erasure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from slotwire.ingest.log.batch import OverdueClear
from slotwire.ingest.log.normalize import Fact, InviteeFact, ResourceFact
from slotwire.schemas.calendly import Cancellation, InviteePayload, Location, NoShow, ScheduledEvent
from slotwire.schemas.ids import ERASED, folded_address

LEFT = frozenset(
    {
        *("uri", "status", "event", "created_at", "updated_at", "rescheduled", "old_invitee", "new_invitee"),
        *("scheduling_method", "invitee_scheduled_by", "routing_form_submission"),
    }
)
"""Fields of an invitee that stay as they are: URIs, times and states. Those of `slotwire.without_person`."""
LEFT_OF_MEETING = frozenset(
    {
        *("uri", "status", "start_time", "end_time", "event_type", "created_at", "updated_at"),
        *("event_memberships", "invitees_counter"),
    }
)
"""Fields of a scheduled event that stay."""
LEFT_OF_RESOURCE = frozenset({"uri", "routing_form", "created_at", "updated_at", "deleted_at"})
"""Fields of a contact, a routing form submission or a meeting recap that stay."""
PERSONAL = ("contact.", "routing_form_submission.", "meeting_recap.")
"""How Calendly's names of events about resources begin that may tell of a person."""

AnyFact = Fact | OverdueClear


class About(NamedTuple):
    """Whose data a fact may be.

    Attributes:
        subject: what it is about, by URI; None of a guest.
        address: the person's e-mail address, folded; None where it tells none.
        made_at: when the booking or the resource was made, or the guest was added.
    """

    org: str
    subject: str | None
    address: str | None
    made_at: datetime


class Erasure(NamedTuple):
    """What was erased of what a fact is about.

    Attributes:
        erasure: its id.
        until: when the erasure was asked for: what was made later is not erased. None: all is.
    """

    erasure: UUID
    until: datetime | None


def about(fact: AnyFact) -> About | None:
    """Return whose data a fact may be; None where it tells of nobody."""
    match fact:
        case OverdueClear():
            return about(fact.fact)
        case InviteeFact(payload=payload):
            return _about(fact, payload.uri, payload.email, payload.created_at)
        case ResourceFact(data=data) if (data.calendly_event or "").startswith(PERSONAL):
            return _about(fact, data.uri, data.extra.get("email"), getattr(data, "created_at", None))
        case _:
            return None


def guests_of(fact: AnyFact) -> list[About]:
    """Return the guests that a fact tells of."""
    match fact:
        case OverdueClear():
            return guests_of(fact.fact)
        case InviteeFact(payload=InviteePayload(scheduled_event=ScheduledEvent() as meeting)):
            guests = [each for each in meeting.event_guests if each.email]
            return [_about(fact, None, each.email, each.created_at or meeting.created_at) for each in guests]
        case _:
            return []


def _about(fact: InviteeFact | ResourceFact, uri: str | None, email: object, made_at: datetime | None) -> About:
    # Postgres has no text with a null character, and no address has one.
    address = folded_address(email) if isinstance(email, str) and "\0" not in email else None
    return About(fact.delivery.tenant.org, uri, address, made_at or fact.told_at)


class Erased:
    """What was erased, applied to facts.

    Attributes:
        positions: of the deliveries whose facts lost data.
    """

    def __init__(self, found: Mapping[About, Erasure] | None = None) -> None:
        self._found = found or {}
        self._subjects: dict[tuple[str, str | None], UUID] = {}
        self._guests: dict[tuple[int, str], None] = {}
        self.positions: list[int] = []

    @property
    def any(self) -> bool:
        """Whether a fact lost something."""
        return bool(self.positions or self._guests)

    def without(self, facts: Iterable[AnyFact]) -> list[AnyFact]:
        """Return facts, those about somebody who was erased without their data."""
        return [self._without(fact) for fact in facts] if self._found else list(facts)

    def subjects(self) -> str:
        """Write what these facts are about as JSON, with the erasures."""
        return orjson.dumps(
            [{"org": org, "subject": subject, "erasure": str(each)} for (org, subject), each in self._subjects.items()]
        ).decode()

    def guests(self) -> str:
        """Write which addresses of guests the bodies of deliveries lose as JSON, with the deliveries' positions."""
        return orjson.dumps([{"position": position, "address": each} for position, each in self._guests]).decode()

    def _erasure(self, whose: About) -> UUID | None:
        found = self._found.get(whose)
        return None if found is None or (found.until is not None and whose.made_at > found.until) else found.erasure

    def _concerns(self, whose: About) -> bool:
        if (whose.org, whose.subject) in self._subjects:  # by a fact before, which told the address
            return True
        if (erasure := self._erasure(whose)) is None:
            return False
        self._subjects[whose.org, whose.subject] = erasure
        return True

    def _without(self, fact: AnyFact) -> AnyFact:
        whose = about(fact)
        if whose is None:
            return fact
        if not self._concerns(whose):
            return self._without_guests(fact)
        if not self.positions or self.positions[-1] != fact.delivery.position:
            self.positions.append(fact.delivery.position)
        match fact:
            case OverdueClear(fact=clear):
                return OverdueClear(clear._replace(payload=without_person(clear.payload)))
            case InviteeFact():
                return fact._replace(payload=without_person(fact.payload), drifted=())
            case ResourceFact(data=data):
                left = {name: getattr(data, name) for name in LEFT_OF_RESOURCE if name in type(data).model_fields}
                return replace(fact, data=type(data)(**left), drifted=())
            case _:
                raise AssertionError("it tells of nobody")

    def _without_guests(self, fact: AnyFact) -> AnyFact:
        """Return a fact about somebody else without the addresses of guests who were erased."""
        found = {each.address for each in guests_of(fact) if each.address and self._erasure(each) is not None}
        if not found:
            return fact
        self._guests.update(dict.fromkeys((fact.delivery.position, each) for each in found))
        match fact:
            case OverdueClear(fact=clear):
                return OverdueClear(clear._replace(payload=_without_guests(clear.payload, found)))
            case InviteeFact():
                return fact._replace(payload=_without_guests(fact.payload, found))
            case _:
                raise AssertionError("it has no guests")


def erasures_among(asked: Sequence[About], rows: Iterable[Mapping[str, Any]]) -> Erased:
    """Read which of some subjects and addresses were erased, as `erased_among` answers.

    Args:
        asked: what was asked for, in that order.
        rows: `number` counts from 1.
    """
    return Erased({asked[row["number"] - 1]: Erasure(row["erasure"], row["until"]) for row in rows})


def without_person(payload: InviteePayload) -> InviteePayload:
    """Return what is left of a payload about an invitee."""
    mark, meeting = payload.no_show, payload.scheduled_event
    return InviteePayload(
        **{name: getattr(payload, name) for name in LEFT},
        no_show=None if mark is None else NoShow(uri=mark.uri, created_at=mark.created_at),
        cancellation=_cancellation(payload.cancellation),
        scheduled_event=None if meeting is None else _meeting(meeting),
    )


def _without_guests(payload: InviteePayload, addresses: Collection[str]) -> InviteePayload:
    meeting = payload.scheduled_event
    if meeting is None:
        return payload
    guests = [
        each.model_copy(update={"email": ERASED}) if folded_address(each.email or "") in addresses else each
        for each in meeting.event_guests
    ]
    return payload.model_copy(update={"scheduled_event": meeting.model_copy(update={"event_guests": guests})})


def _meeting(meeting: ScheduledEvent) -> ScheduledEvent:
    location = meeting.location
    return ScheduledEvent(
        **{name: getattr(meeting, name) for name in LEFT_OF_MEETING},
        location=None if location is None else Location(type=location.type),
        cancellation=_cancellation(meeting.cancellation),
    )


def _cancellation(cancellation: Cancellation | None) -> Cancellation | None:
    if cancellation is None:
        return None
    return Cancellation(canceler_type=cancellation.canceler_type, created_at=cancellation.created_at)
