"""Join: a fact and what is known become new state and the events to write. Pure; no database, no clock.

State is a join, not a log: whatever the order of arrival, the same facts give the same bookings and the same
event ids. Rules, in the order they are applied to a fact about an invitee:

1. The neighbours it names (`old_invitee`, `new_invitee`) are linked; one we have not heard of gets a row in
   state `named`, so that the chain's key is given once.
2. The first we hear of an invitee writes its `invitee.created`, inferred from the same payload if need be.
3. Canceled is final. A no-show mark is set once; it is cleared by any clear at or after its time.
4. When both halves of a reschedule are known, one `invitee.rescheduled` is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from ingest.errors import CannotNormalize
from ingest.normalize import InviteeEvent, InviteeFact, ResourceFact
from schemas.calendly import InviteePayload
from schemas.codec import format_time
from schemas.events import (
    BookingState,
    EventData,
    InviteeCanceled,
    InviteeCreated,
    InviteeNoShowCreated,
    InviteeNoShowDeleted,
    InviteeRescheduled,
)
from schemas.ids import EventId, chain_key, event_id

RESCHEDULED = "invitee.rescheduled"


@dataclass(frozen=True, slots=True)
class Mark:
    """A no-show mark; `cleared_at` is the second of the clear that took it away."""

    uri: str
    created_at: datetime
    cleared_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Booking:
    """What we know of one invitee. See `slotwire.bookings`.

    Attributes:
        revision: 0 for one that is not stored yet.
        state: `named` is known from a neighbour only.
        clears: seconds at which a mark was cleared, whether or not the mark is known.
        told_at: `updated_at` of the payload that told the fields below it.
    """

    invitee: str
    org: str
    chain_key: str
    chain_root: str
    revision: int = 0
    state: Literal["named", "active", "canceled"] = "named"
    provider_status: str | None = None
    old_invitee: str | None = None
    new_invitee: str | None = None
    marks: tuple[Mark, ...] = ()
    clears: tuple[datetime, ...] = ()
    told_at: datetime | None = None
    booked_at: datetime | None = None
    scheduled_event: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    hosts: tuple[str, ...] = ()
    location_type: str | None = None

    @property
    def no_show(self) -> bool:
        """Whether a mark is set."""
        return any(mark.cleared_at is None for mark in self.marks)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append to the log."""

    id: EventId
    data: EventData
    subject: str
    key: str
    time: datetime
    inferred: bool = False


@dataclass(slots=True)
class Joined:
    """What a fact makes of what is known.

    Attributes:
        primary: the id of the event the fact itself stands for; None while a clear waits for its mark.
        bookings: the rows as they shall be, changed ones only.
        events: in the order they shall be written.
        roots: chain roots that are no longer the oldest, with the ones that are.
    """

    primary: EventId | None
    bookings: dict[str, Booking] = field(default_factory=dict)
    events: list[NewEvent] = field(default_factory=list)
    roots: list[tuple[str, str]] = field(default_factory=list)


def touched(fact: InviteeFact, known: Mapping[str, Booking]) -> list[str]:
    """Return the invitees whose rows a fact is joined with: its own, and the neighbours told or known."""
    payload = fact.payload
    own = known.get(payload.uri)
    named = (payload.uri, payload.old_invitee, payload.new_invitee)
    linked = (own.old_invitee, own.new_invitee) if own else ()
    return list(dict.fromkeys(uri for uri in (*named, *linked) if uri is not None))


def join_resource(fact: ResourceFact) -> Joined:
    """Make the one event of a resource's fact; its identity needs no state."""
    data = fact.data
    organization = fact.delivery.tenant.organization
    discriminator = "" if data.identity is None else format_time(getattr(data, data.identity) or fact.told_at)
    identity = event_id(organization, str(data.calendly_event), data.uri, discriminator)
    time = getattr(data, data.happened) or fact.told_at
    return Joined(identity, events=[NewEvent(identity, data, data.uri, data.uri, time)])


def join_invitee(fact: InviteeFact, known: Mapping[str, Booking]) -> Joined:
    """Join a fact about an invitee with the rows of the invitees it touches.

    Args:
        fact: what Calendly told.
        known: the rows of `touched(fact, …)` that exist.

    Raises:
        CannotNormalize: `cross_tenant` when a row belongs to another organization.
    """
    if any(row.org != fact.delivery.tenant.org for row in known.values()):
        raise CannotNormalize("cross_tenant")
    return _InviteeJoin(fact, known).run()


class _InviteeJoin:
    """One fact's way through the rules; holds the rows while they change."""

    def __init__(self, fact: InviteeFact, known: Mapping[str, Booking]) -> None:
        self._fact = fact
        self._payload = fact.payload
        self._organization = fact.delivery.tenant.organization
        self._known = known
        self._rows: dict[str, Booking] = {}
        self._joined = Joined(None)

    def run(self) -> Joined:
        uri = self._payload.uri
        self._open(uri)
        self._link()
        self._tell(uri)
        created = self._identity("invitee.created", uri)
        if self._row(uri).state == "named":
            self._write_created(uri, created)
        match self._fact.event:
            case InviteeEvent.CREATED:
                self._joined.primary = created
            case InviteeEvent.CANCELED:
                self._cancel(uri)
            case InviteeEvent.NO_SHOW_CREATED:
                self._mark(uri)
            case InviteeEvent.NO_SHOW_DELETED:
                self._clear(uri)
        self._reschedule(self._row(uri).old_invitee, uri)
        self._reschedule(uri, self._row(uri).new_invitee)
        before = self._known
        self._joined.bookings = {
            name: replace(row, revision=row.revision + 1) if row.revision == _revision(before, name) else row
            for name, row in self._rows.items()
            if row != before.get(name)
        }
        return self._joined

    def _row(self, uri: str) -> Booking:
        return self._rows.get(uri) or self._known[uri]

    def _identity(self, name: str, uri: str, discriminator: str = "") -> EventId:
        return event_id(self._organization, name, uri, discriminator)

    def _open(self, uri: str) -> None:
        """Give an invitee that is new to us its row, its key inherited from a known neighbour."""
        if uri in self._known:
            return
        for neighbour in (self._payload.old_invitee, self._payload.new_invitee):
            if neighbour is not None and neighbour in self._known:
                key = self._known[neighbour].chain_key
                break
        else:
            key = chain_key(uri)
        self._rows[uri] = Booking(uri, self._fact.delivery.tenant.org, key, uri)

    def _link(self) -> None:
        uri, old, new = self._payload.uri, self._payload.old_invitee, self._payload.new_invitee
        for neighbour in (old, new):
            if neighbour is not None and neighbour not in self._known:
                row = self._row(uri)
                self._rows[neighbour] = Booking(neighbour, row.org, row.chain_key, neighbour)
        if old is not None and old != uri:
            self._chain(old, uri)
        if new is not None and new != uri:
            self._chain(uri, new)

    def _chain(self, older: str, newer: str) -> None:
        """Record that `newer` replaced `older`, and let the newer one's line follow the older one's root."""
        before, after = self._row(older), self._row(newer)
        if before.new_invitee is None:
            before = self._rows[older] = replace(before, new_invitee=newer)
        if after.old_invitee is None:
            after = self._rows[newer] = replace(after, old_invitee=older)
        stale, root = after.chain_root, before.chain_root
        if stale == root:
            return
        self._joined.roots.append((stale, root))
        for name in {*self._known, *self._rows}:
            if self._row(name).chain_root == stale:
                self._rows[name] = replace(self._row(name), chain_root=root)

    def _tell(self, uri: str) -> None:
        """Keep what the newest payload says of host, time, place and status."""
        row, payload = self._row(uri), self._payload
        if row.told_at is not None and (payload.updated_at is None or payload.updated_at < row.told_at):
            return
        if row.told_at is not None and payload.updated_at == row.told_at and payload.status != "canceled":
            return
        event = payload.scheduled_event
        self._rows[uri] = replace(
            row,
            provider_status=payload.status,
            told_at=payload.updated_at or row.told_at,
            booked_at=payload.created_at or row.booked_at,
            scheduled_event=payload.event or (event.uri if event else None) or row.scheduled_event,
            start_time=(event.start_time if event else None) or row.start_time,
            end_time=(event.end_time if event else None) or row.end_time,
            hosts=tuple(host.user for host in event.event_memberships if host.user) if event else row.hosts,
            location_type=event.location.type if event and event.location else row.location_type,
        )

    def _step(self, uri: str, **changes: object) -> Booking:
        """Change a row and count the change: the event written next carries this revision."""
        row = self._row(uri)
        row = self._rows[uri] = replace(row, revision=row.revision + 1, **changes)  # type: ignore[arg-type]  # names are fields
        return row

    def _write(self, identity: EventId, data: EventData, row: Booking, time: datetime, *, inferred: bool) -> None:
        self._joined.events.append(NewEvent(identity, data, row.invitee, row.chain_key, time, inferred))

    def _write_created(self, uri: str, identity: EventId) -> None:
        row = self._step(uri, state="active")
        data = InviteeCreated.model_construct(booking=_state(row), **_fields(self._payload))
        inferred = self._fact.event is not InviteeEvent.CREATED
        time = self._payload.created_at or self._fact.told_at
        self._write(identity, data, row, time, inferred=inferred)

    def _cancel(self, uri: str) -> None:
        identity = self._joined.primary = self._identity("invitee.canceled", uri)
        if self._row(uri).state == "canceled":
            return
        row = self._step(uri, state="canceled")
        data = InviteeCanceled.model_construct(booking=_state(row), **_fields(self._payload))
        cancellation = self._payload.cancellation
        time = (cancellation.created_at if cancellation else None) or self._payload.updated_at or self._fact.told_at
        self._write(identity, data, row, time, inferred=False)

    def _mark(self, uri: str) -> None:
        told = self._payload.no_show
        if told is None:  # normalize lets none through
            return
        identity = self._joined.primary = self._identity("invitee_no_show.created", uri, told.uri)
        row = self._row(uri)
        if any(mark.uri == told.uri for mark in row.marks):
            return
        mark = Mark(told.uri, told.created_at or self._fact.told_at)
        row = self._step(uri, marks=tuple(sorted((*row.marks, mark), key=lambda each: (each.created_at, each.uri))))
        data = InviteeNoShowCreated.model_construct(booking=_state(row), **_fields(self._payload))
        self._write(identity, data, row, mark.created_at, inferred=False)
        self._settle_marks(uri)

    def _clear(self, uri: str) -> None:
        second = self._fact.told_at.replace(microsecond=0)
        row = self._row(uri)
        if second not in row.clears:
            self._rows[uri] = replace(row, clears=tuple(sorted((*row.clears, second))))
            self._settle_marks(uri)
        cleared = [mark for mark in self._row(uri).marks if mark.created_at.replace(microsecond=0) <= second]
        if cleared:
            self._joined.primary = self._identity("invitee_no_show.deleted", uri, cleared[-1].uri)

    def _settle_marks(self, uri: str) -> None:
        """Clear each mark that has a clear at or after its time; the clear has whole seconds only."""
        for position, mark in enumerate(self._row(uri).marks):
            row = self._row(uri)
            later = [each for each in row.clears if each >= mark.created_at.replace(microsecond=0)]
            if not later or mark.cleared_at == later[0]:
                continue
            settled = replace(mark, cleared_at=later[0])
            marks = (*row.marks[:position], settled, *row.marks[position + 1 :])
            if mark.cleared_at is not None:
                self._rows[uri] = replace(row, marks=marks)
                continue
            row = self._step(uri, marks=marks)
            fields = _fields(self._payload)
            data = InviteeNoShowDeleted.model_construct(
                booking=_state(row), cleared_mark=mark.uri, cleared_at=later[0], **fields
            )
            identity = self._identity("invitee_no_show.deleted", uri, mark.uri)
            self._write(identity, data, row, later[0], inferred=False)

    def _reschedule(self, older: str | None, newer: str | None) -> None:
        """Write `invitee.rescheduled` in the transaction of whichever half came second."""
        if older is None or newer is None or not self._loaded(older) or not self._loaded(newer):
            return
        if not _both_halves(self._row(older), self._row(newer)):
            return
        was_old, was_new = self._known.get(older), self._known.get(newer)
        if was_old is not None and was_new is not None and _both_halves(was_old, was_new):
            return
        before, row = self._row(older), self._step(newer)
        data = InviteeRescheduled(
            uri=newer,
            old_invitee=older,
            scheduled_event=row.scheduled_event,
            old_scheduled_event=before.scheduled_event,
            start_time=row.start_time,
            end_time=row.end_time,
            old_start_time=before.start_time,
            old_end_time=before.end_time,
            booking=_state(row),
        )
        identity = self._identity(RESCHEDULED, newer, older)
        self._write(identity, data, row, row.booked_at or self._fact.told_at, inferred=False)

    def _loaded(self, uri: str) -> bool:
        return uri in self._rows or uri in self._known


def _both_halves(older: Booking, newer: Booking) -> bool:
    linked = older.new_invitee == newer.invitee and newer.old_invitee == older.invitee
    return linked and older.state == "canceled" and newer.state != "named"


def _revision(known: Mapping[str, Booking], uri: str) -> int:
    return known[uri].revision if uri in known else 0


def _state(row: Booking) -> BookingState:
    return BookingState.model_construct(
        state="canceled" if row.state == "canceled" else "active",
        revision=row.revision,
        no_show=row.no_show,
        chain_root=row.chain_root,
    )


def _fields(payload: InviteePayload) -> dict[str, Any]:
    return payload.__dict__
