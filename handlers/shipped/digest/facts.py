"""What a digest says, before it has words: frozen data, as strangers typed it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class DigestPerson:
    """Somebody who booked, as they typed it.

    Attributes:
        name: as typed.
        email: as typed.
        no_show: whether they are marked as not having come.
    """

    name: str | None
    email: str | None
    no_show: bool = False


@dataclass(frozen=True, slots=True)
class DigestMeeting:
    """A meeting with everybody who booked it.

    Attributes:
        start: aware.
        end: aware; None where it is not known.
        title: what it is called.
        location_type: in Calendly's words.
        hosts: their names.
        people: who booked it.
    """

    start: datetime
    end: datetime | None
    title: str | None
    location_type: str | None
    hosts: tuple[str, ...]
    people: tuple[DigestPerson, ...]


class ChangeKind(StrEnum):
    """What happened to a booking."""

    NEW = "new"
    MOVED = "moved"
    CANCELED = "canceled"
    NO_SHOW = "no_show"
    NO_SHOW_CLEARED = "no_show_cleared"


@dataclass(frozen=True, slots=True)
class DigestChange:
    """Something that happened to a booking.

    Attributes:
        kind: what.
        person: whose booking it is.
        title: what the meeting is called.
        start: of the meeting.
        old_start: of a moved one, before.
        reason: of a cancellation, as typed.
        canceler: of a cancellation: `host` or `invitee`, in Calendly's words.
    """

    kind: ChangeKind
    person: DigestPerson
    title: str | None
    start: datetime | None
    old_start: datetime | None = None
    reason: str | None = None
    canceler: str | None = None


class AttentionKind(StrEnum):
    """What waits for a person."""

    SUBSCRIPTIONS = "subscriptions"
    CONNECTIONS = "connections"
    EXPIRING = "expiring"
    HOLES = "holes"
    QUARANTINE = "quarantine"
    DEAD_LETTERS = "dead_letters"
    RUNS = "runs"
    APPROVALS = "approvals"
    ACTIONS = "actions"


@dataclass(frozen=True, slots=True)
class DigestAttention:
    """Something that waits for a person.

    Attributes:
        kind: what.
        number: how many, at least 1.
        since: since when the oldest of them does.
    """

    kind: AttentionKind
    number: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class DigestFacts:
    """All that a digest says.

    Attributes:
        day: whose meetings it lists, in `zone`.
        zone: in which all times are shown.
        since: when the digest before was due; None for the first.
        host: whose digest it is; None for the whole organization.
        meetings: of the day, in order.
        more_meetings: whether there are more than could be read.
        changes: since the digest before, in order.
        more_changes: whether there are more than could be read.
        attention: what waits for a person.
    """

    day: date
    zone: ZoneInfo
    since: datetime | None = None
    host: str | None = None
    meetings: tuple[DigestMeeting, ...] = ()
    more_meetings: bool = False
    changes: tuple[DigestChange, ...] = ()
    more_changes: bool = False
    attention: tuple[DigestAttention, ...] = ()


@dataclass(frozen=True, slots=True)
class RenderedDigest:
    """A digest in words.

    Attributes:
        subject: one line of our own words and numbers; nothing that a stranger typed.
        text: for readers without HTML.
        html: a whole document.
    """

    subject: str
    text: str
    html: str
