"""A booking: what we know of one invitee, as a row of `slotwire.bookings`, and what follows from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal, NamedTuple
from uuid import UUID

import orjson

from slotwire.schemas.calendly import InviteePayload, ScheduledEvent

MAX_HOSTS = 100
"""Hosts that a row names; the events have them all."""
MAX_WORDS = 500
"""Characters of a text that goes into a row, so that rows stay small: they are read with each delivery about them. A
longer one is left out; the events have it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A no-show mark.

    Attributes:
        uri: Calendly's name for it.
        created_at: when it was set.
        cleared_at: the second of the clear that removed it; None while it is set.
    """

    uri: str
    created_at: datetime
    cleared_at: datetime | None = None

    @property
    def second(self) -> datetime:
        """The mark's time in whole seconds, to compare it with a clear's, which has no fraction."""
        return self.created_at.replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Clear:
    """A no-show mark was removed; Calendly does not say which one.

    Attributes:
        at: the second at which it was removed.
        delivery: the first delivery that reported it.
        position: that delivery's: its body is needed if the clear is published alone.
        alone: it was published under its own second, because no mark at or before it arrived in time.
        mark: the URI of the one mark it removed, where it is inferred: a mark that was known was not there any more
            when REST was asked. None for a clear that Calendly told.
    """

    at: datetime
    delivery: UUID
    position: int
    alone: bool = False
    mark: str | None = None


class Booking(NamedTuple):
    """What we know of one invitee.

    Attributes:
        revision: 0 for a row that is not stored yet.
        state: `named` when only a neighbour's payload has mentioned it.
        old_invitees: the invitees it replaced; more than one only if payloads contradict each other.
        new_invitees: the invitees that replaced it; as above.
        marks: ordered by time.
        clears: ordered by time, whether or not their marks are known.
        told_at: `updated_at` of the payload that gave `provider_status`.
        event_told_at: `updated_at` of the scheduled event that gave times, hosts and place.
        waits_since: when it began to wait for the mark of a clear, or, as the newer half of a reschedule, for the
            older half; None while it waits for nothing.
    """

    invitee: str
    org: str
    chain_key: str
    chain_root: str
    revision: int = 0
    state: Literal["named", "active", "canceled"] = "named"
    provider_status: str | None = None
    old_invitees: tuple[str, ...] = ()
    new_invitees: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    clears: tuple[Clear, ...] = ()
    told_at: datetime | None = None
    booked_at: datetime | None = None
    scheduled_event: str | None = None
    event_told_at: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    hosts: tuple[str, ...] = ()
    location_type: str | None = None
    waits_since: datetime | None = None

    @property
    def no_show(self) -> bool:
        """Whether a mark is set."""
        return any(mark.cleared_at is None for mark in self.marks)

    @property
    def waiting_clears(self) -> tuple[Clear, ...]:
        """The clears without an event: no mark at or before them is known."""
        first = self.marks[0].second if self.marks else None
        return tuple(clear for clear in self.clears if not clear.alone and (first is None or clear.at < first))

    def clear_of(self, mark: Mark) -> Clear | None:
        """Return the clear that removed a mark: the first one at or after the mark's time, or inferred of it."""
        fits = (clear for clear in self.clears if clear.at >= mark.second and clear.mark in {None, mark.uri})
        return next(fits, None)


class Settlement(Enum):
    """What the known clears change about a mark."""

    UNCHANGED = "unchanged"
    """Nothing."""
    RECORDED = "recorded"
    """The row gets the mark's clear; no event follows, because one was written already."""
    PUBLISHED = "published"
    """The row gets the mark's clear, and `invitee_no_show.deleted` is written under the mark's name."""


def settlement(row: Booking, mark: Mark) -> Settlement:
    """Decide what follows for a mark from the clears that are known.

    `before` is the clear that the row names as the mark's, `now` the first clear at or after the mark's time. A clear
    is `alone` when it was published under its own second, before its mark was known; otherwise it is `own`: published
    under the mark's name.

    | before | now   | what follows |
    |--------|-------|--------------|
    | none   | none  | unchanged    |
    | alone  | same  | unchanged    |
    | own    | same  | unchanged    |
    | none   | own   | published    |
    | none   | alone | published    |
    | alone  | own   | published    |
    | alone  | alone | recorded     |
    | own    | own   | recorded     |
    | own    | alone | recorded     |

    So a mark that was published as set is published as cleared once, whatever clears it; and the clear that an earlier
    one replaces counts as published unless it was alone.
    """
    clear = row.clear_of(mark)
    if clear is None or mark.cleared_at == clear.at:
        return Settlement.UNCHANGED
    if mark.cleared_at is None:
        return Settlement.PUBLISHED
    own = any(each.at == mark.cleared_at and not each.alone for each in row.clears)
    return Settlement.RECORDED if own or clear.alone else Settlement.PUBLISHED


def new_booking(invitee: str, org: str, key: str, payload: InviteePayload) -> Booking:
    """Make the row of an invitee that no payload has mentioned yet: `updated` of an empty row, in one step."""
    event, status = payload.scheduled_event, _kept(payload.status)
    told_at, start_time, end_time, hosts, place = _meeting(event, payload) if event else (None, None, None, (), None)
    return Booking(
        invitee=invitee,
        org=org,
        chain_key=key,
        chain_root=invitee,
        provider_status=status,
        told_at=None if status is None else payload.updated_at,
        booked_at=payload.created_at,
        scheduled_event=_scheduled_event(payload),
        event_told_at=told_at,
        start_time=start_time,
        end_time=end_time,
        hosts=hosts,
        location_type=place,
    )


def moved(older: Booking, newer: Booking) -> bool:
    """Whether both halves of the reschedule from `older` to `newer` are known."""
    return newer.invitee in older.new_invitees and older.state == "canceled" and newer.state != "named"


def half_moved(older: Booking, newer: Booking) -> bool:
    """Whether exactly one half of the reschedule from `older` to `newer` is known."""
    return newer.invitee in older.new_invitees and (older.state == "canceled") != (newer.state != "named")


def by_time(marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
    """Sort marks by time, and those of one time by name."""
    return tuple(sorted(marks, key=lambda each: (each.created_at, each.uri)))


def updated(row: Booking, payload: InviteePayload) -> Booking:
    """Take the status from the newest payload, and times, hosts and place from the newest scheduled event.

    A field that the payload leaves out changes nothing. Of two values of one time the greater wins, and `canceled` over
    all, so that the order of arrival does not matter.
    """
    event, status = payload.scheduled_event, _kept(payload.status)
    changes: dict[str, Any] = {
        "booked_at": _greater(row.booked_at, payload.created_at),
        "scheduled_event": _greater(row.scheduled_event, _scheduled_event(payload)),
    }
    if status is not None and _newer(
        (payload.updated_at, status == "canceled", status),
        (row.told_at, row.provider_status == "canceled", row.provider_status),
    ):
        changes |= {"told_at": payload.updated_at, "provider_status": status}
    if event is not None:
        words = _meeting(event, payload)
        if _newer(words, (row.event_told_at, row.start_time, row.end_time, row.hosts, row.location_type)):
            changes |= zip(_MEETING, words, strict=True)
    return row._replace(**changes)


_MEETING = ("event_told_at", "start_time", "end_time", "hosts", "location_type")


def _meeting(event: ScheduledEvent, payload: InviteePayload) -> tuple[Any, ...]:
    """Read times, hosts and place of a scheduled event, in the order of `_MEETING`."""
    hosts = tuple([host.user for host in event.event_memberships if host.user and _kept(host.user)])
    place = _kept(event.location.type) if event.location else None
    return event.updated_at or payload.updated_at, event.start_time, event.end_time, hosts[:MAX_HOSTS], place


def _scheduled_event(payload: InviteePayload) -> str | None:
    return _kept(payload.event) or (_kept(payload.scheduled_event.uri) if payload.scheduled_event else None)


def _kept(text: str | None) -> str | None:
    """Return a text that a row can keep, else None: Postgres has no text with a null character."""
    return text if text is None or (len(text) <= MAX_WORDS and "\0" not in text) else None


def _greater(known: Any, sent: Any) -> Any:
    """Choose between two values of a field that never changes: if they contradict each other, the greater one."""
    return sent if known is None or (sent is not None and sent > known) else known


def _newer(sent: tuple[Any, ...], known: tuple[Any, ...]) -> bool:
    """Compare values item by item, the time first; a missing one comes before all others."""
    return sent != known and [(item is not None, item) for item in sent] > [(item is not None, item) for item in known]


def booking_of(record: Mapping[str, Any]) -> Booking:
    """Read a row of `slotwire.bookings`; columns that are not its own are left out."""
    values = {name: item for name, item in record.items() if name in _FIELDS}
    for name in ("old_invitees", "new_invitees", "hosts"):
        values[name] = tuple(values[name])
    values["marks"] = tuple(
        Mark(each["uri"], datetime.fromisoformat(each["created_at"]), _time(each["cleared_at"]))
        for each in orjson.loads(values["marks"])
    )
    values["clears"] = tuple(
        Clear(
            datetime.fromisoformat(each["at"]),
            UUID(each["delivery"]),
            each["position"],
            each["alone"],
            each.get("mark"),  # earlier versions had none
        )
        for each in orjson.loads(values["clears"])
    )
    return Booking(**values)


_FIELDS = frozenset(Booking._fields)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
