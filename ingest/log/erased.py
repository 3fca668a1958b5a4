"""What an erasure leaves of facts that come in later about the same person. Pure.

`slotwire erase` takes a person's data out of what is stored. Late copies bring it again: a retry, a cancellation of a
booking that was made before, a backfill. Such a fact loses the data before it is joined, and is joined like any other:
bookings and chains go on by their URIs. A booking that the person makes after the erasure keeps its data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from slotwire.ingest.log.batch import OverdueClear
from slotwire.ingest.log.normalize import Fact, InviteeFact, ResourceFact
from slotwire.schemas.calendly import Cancellation, InviteePayload, Location, NoShow, ScheduledEvent
from slotwire.schemas.ids import folded_address

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
        subject: what it is about, by URI.
        address: the person's e-mail address, folded; None where it tells none.
        made_at: when the booking or the resource was made.
    """

    org: str
    subject: str
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


def _about(fact: InviteeFact | ResourceFact, uri: str, email: object, made_at: datetime | None) -> About:
    address = folded_address(email) if isinstance(email, str) else None
    return About(fact.delivery.tenant.org, uri, address, made_at or fact.told_at)


class Erased:
    """What was erased, applied to facts.

    Attributes:
        positions: of the deliveries whose facts lost data.
    """

    def __init__(self, found: Mapping[About, Erasure] | None = None) -> None:
        self._found = found or {}
        self._subjects: dict[tuple[str, str], UUID] = {}
        self.positions: list[int] = []

    def without(self, facts: Iterable[AnyFact]) -> list[AnyFact]:
        """Return facts, those about somebody who was erased without their data."""
        return [self._without(fact) for fact in facts] if self._found else list(facts)

    def subjects(self) -> str:
        """Write what these facts are about as JSON, with the erasures."""
        return orjson.dumps(
            [{"org": org, "subject": subject, "erasure": str(each)} for (org, subject), each in self._subjects.items()]
        ).decode()

    def _concerns(self, whose: About) -> bool:
        if (whose.org, whose.subject) in self._subjects:  # by a fact before, which told the address
            return True
        found = self._found.get(whose)
        if found is None or (found.until is not None and whose.made_at > found.until):
            return False
        self._subjects[whose.org, whose.subject] = found.erasure
        return True

    def _without(self, fact: AnyFact) -> AnyFact:
        whose = about(fact)
        if whose is None or not self._concerns(whose):
            return fact
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
