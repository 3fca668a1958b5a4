"""Join: a fact and what is known become new state and the events to write. Pure; no database, no clock.

State is a join, not a log: whatever the order of arrival, the same facts give the same bookings and the same
event ids. Knowledge only grows, and an event is written when enough is known for it, whichever fact came last.
Rules, in the order in which they are applied to a fact about an invitee:

1. The neighbours it names (`old_invitee`, `new_invitee`) are linked, or the one that it replaces by an action
   (`replacing`). A neighbour that is not known yet gets a row in
   state `named`, so that the chain gets its key once.
2. The first fact about an invitee writes its `invitee.created`, inferred from the same payload if need be.
3. Canceled is final. A no-show mark is set once. The first clear at or after its time removes it, which is published
   once: under the mark's name, or under the clear's own second if the clear had to be published before its mark was
   known (`join_overdue`). The table is in `booking.settlement`. A clear that is inferred, because REST does not show a
   known mark any more, removes that mark only.
4. When both halves of a reschedule are known, one `invitee.rescheduled` is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from slotwire.ingest.errors import CannotNormalize
from slotwire.ingest.log.booking import (
    Booking,
    Clear,
    Mark,
    Settlement,
    by_time,
    half_moved,
    moved,
    new_booking,
    settlement,
    updated,
)
from slotwire.ingest.log.joined import JoinResult, NewEvent
from slotwire.ingest.log.normalize import InviteeEvent, InviteeFact, OwnFact, ResourceFact
from slotwire.schemas.calendly import InviteePayload
from slotwire.schemas.codec import format_time
from slotwire.schemas.events import (
    BookingState,
    EventData,
    InviteeCanceled,
    InviteeCreated,
    InviteeNoShowCreated,
    InviteeNoShowDeleted,
    InviteeRescheduled,
)
from slotwire.schemas.ids import EventId, chain_key, event_id

CLEARED = "invitee_no_show.deleted"
RESCHEDULED = "invitee.rescheduled"
MAX_LINKS = 8
"""Invitees that one invitee can replace, or be replaced by. Calendly means one; more are a contradiction."""
MAX_TOGGLES = 200
"""No-show marks of one booking, and clears. All are stored, so that copies and late ones find their place."""


def named(payload: InviteePayload) -> list[str]:
    """Return the invitees that a payload names: its own, and its neighbours in the chain."""
    return [uri for uri in (payload.uri, payload.old_invitee, payload.new_invitee) if uri is not None]


def touched(fact: InviteeFact, known: Mapping[str, Booking]) -> list[str]:
    """Return the invitees whose rows a fact is joined with: its own, and all neighbours named or known."""
    payload = fact.payload
    found = named(payload)
    if fact.replaces is not None:
        found.append(fact.replaces)
    own = known.get(payload.uri)
    if own is not None:
        found += own.old_invitees
        found += own.new_invitees
    return found if len(found) == 1 else list(dict.fromkeys(found))


def join_resource(fact: ResourceFact) -> JoinResult:
    """Make the one event of a resource's fact; its identity needs no state."""
    data = fact.data
    organization = fact.delivery.tenant.organization
    identity = event_id(organization, str(data.calendly_event), data.uri, fact.discriminator)
    time = getattr(data, data.happened) or fact.told_at
    return JoinResult(identity, events=[NewEvent(identity, data, data.uri, data.uri, time, fact.inferred)])


def join_own(fact: OwnFact) -> JoinResult:
    """Make the one event we wrote ourselves."""
    return JoinResult(fact.id, events=[NewEvent(fact.id, fact.data, fact.subject, fact.key, fact.time)])


def join_invitee(fact: InviteeFact, known: Mapping[str, Booking]) -> JoinResult:
    """Join a fact about an invitee with the rows of the invitees it touches.

    Args:
        fact: what Calendly reported.
        known: the rows of `touched(fact, …)` that exist, of the fact's organization only.

    Raises:
        CannotNormalize: `contradictory` past `MAX_LINKS`, `too_many_toggles` past `MAX_TOGGLES`.
    """
    return _InviteeJoin(fact, known).run()


def join_overdue(fact: InviteeFact, known: Mapping[str, Booking]) -> JoinResult:
    """Publish a clear that has waited long enough, under its own second. If its mark has come, do nothing.

    Args:
        fact: the clear, as it was reported.
        known: the rows of `touched(fact, …)` that exist.
    """
    return _InviteeJoin(fact, known).run_overdue()


class _InviteeJoin:
    """One fact's way through the rules; holds the rows while they change."""

    def __init__(self, fact: InviteeFact, known: Mapping[str, Booking]) -> None:
        self._fact = fact
        self._payload = fact.payload
        self._old = fact.payload.old_invitee or fact.replaces
        self._organization = fact.delivery.tenant.organization
        self._known = known
        self._rows: dict[str, Booking] = {}
        self._joined = JoinResult(None)

    def run(self) -> JoinResult:
        uri = self._payload.uri
        before = self._known.get(uri)
        self._rows[uri] = self._opened(uri) if before is None else updated(before, self._payload)
        self._link()
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
            case InviteeEvent.NO_SHOW_DELETED if self._fact.cleared:
                self._infer_clears(uri)
            case InviteeEvent.NO_SHOW_DELETED:
                self._clear(uri)
        for older in self._row(uri).old_invitees:
            self._reschedule(older, uri)
        for newer in self._row(uri).new_invitees:
            self._reschedule(uri, newer)
        return self._finish(uri)

    def run_overdue(self) -> JoinResult:
        uri = self._payload.uri
        second = self._fact.told_at.replace(microsecond=0)
        before = self._known.get(uri)
        if before is None or not any(clear.at == second for clear in before.waiting_clears):
            return self._joined
        clears = tuple(replace(clear, alone=clear.alone or clear.at == second) for clear in before.clears)
        row = self._step(uri, clears=clears)
        data = InviteeNoShowDeleted.made(
            self._payload.__dict__, booking=_state(row), cleared_mark=None, cleared_at=second
        )
        identity = self._joined.primary = self._identity(CLEARED, uri, format_time(second))
        self._write(identity, data, row, second, inferred=False)
        return self._finish(uri)

    def _finish(self, uri: str) -> JoinResult:
        """Collect the changed rows, and give each a revision of its own."""
        for name in (uri, *self._row(uri).new_invitees):
            self._watch(name)
        known = self._known
        for name, row in self._rows.items():
            before = known.get(name)
            if before is None or row.revision > before.revision:
                self._joined.bookings[name] = row if row.revision else row._replace(revision=1)
            elif row != before:
                self._joined.bookings[name] = row._replace(revision=row.revision + 1)
        return self._joined

    def _row(self, uri: str) -> Booking:
        return self._rows.get(uri) or self._known[uri]

    def _identity(self, name: str, uri: str, discriminator: str = "") -> EventId:
        return event_id(self._organization, name, uri, discriminator)

    def _opened(self, uri: str) -> Booking:
        """Make the row of an invitee that is new to us. It inherits the key of a known neighbour."""
        for neighbour in (self._old, self._payload.new_invitee):
            if neighbour is not None and neighbour in self._known:
                key = self._known[neighbour].chain_key
                break
        else:
            key = chain_key(self._organization, uri)
        return new_booking(uri, self._fact.delivery.tenant.org, key, self._payload)

    def _link(self) -> None:
        uri, old, new = self._payload.uri, self._old, self._payload.new_invitee
        for neighbour in (old, new):
            if neighbour is not None and not self._loaded(neighbour):
                row = self._row(uri)
                self._rows[neighbour] = Booking(neighbour, row.org, row.chain_key, neighbour)
        if old is not None and old != uri:
            self._chain(old, uri)
        if new is not None and new != uri:
            self._chain(uri, new)

    def _chain(self, older: str, newer: str) -> None:
        """Record that `newer` replaced `older`, and give the newer one's chain the older one's root.

        Links are only added. Payloads that contradict each other leave several links, each with an
        `invitee.rescheduled` of its own: choosing one would let the order of arrival decide.
        """
        before, after = self._row(older), self._row(newer)
        if newer not in before.new_invitees:
            self._rows[older] = before = before._replace(new_invitees=_added(before.new_invitees, newer))
        if older not in after.old_invitees:
            self._rows[newer] = after = after._replace(old_invitees=_added(after.old_invitees, older))
        stale, root = after.chain_root, before.chain_root
        if stale == root:
            return
        if newer != stale:  # it has an older neighbour already: a contradiction, in which neither chain is older
            stale, root = max(stale, root), min(stale, root)
        self._joined.roots.append((stale, root))
        for name in {*self._known, *self._rows}:
            if self._row(name).chain_root == stale:
                self._rows[name] = self._row(name)._replace(chain_root=root)

    def _step(self, uri: str, **changes: object) -> Booking:
        """Change a row and count the change: the event written next carries this revision."""
        row = self._row(uri)
        row = self._rows[uri] = row._replace(revision=row.revision + 1, **changes)  # type: ignore[arg-type]  # names are fields
        return row

    def _write(self, identity: EventId, data: EventData, row: Booking, time: datetime, *, inferred: bool) -> None:
        self._joined.events.append(NewEvent(identity, data, row.invitee, row.chain_key, time, inferred))

    def _write_created(self, uri: str, identity: EventId) -> None:
        row = self._step(uri, state="active")
        data = InviteeCreated.made(self._payload.__dict__, booking=_state(row))
        inferred = self._fact.event is not InviteeEvent.CREATED
        time = self._payload.created_at or self._fact.told_at
        self._write(identity, data, row, time, inferred=inferred)

    def _cancel(self, uri: str) -> None:
        identity = self._joined.primary = self._identity("invitee.canceled", uri)
        if self._row(uri).state == "canceled":
            return
        row = self._step(uri, state="canceled")
        part = self._fact.part_of_action
        data = InviteeCanceled.made(self._payload.__dict__, booking=_state(row), part_of_action=part)
        cancellation = self._payload.cancellation
        time = (cancellation.created_at if cancellation else None) or self._payload.updated_at or self._fact.told_at
        self._write(identity, data, row, time, inferred=False)

    def _mark(self, uri: str) -> None:
        no_show = self._payload.no_show
        if no_show is None:  # normalize quarantines a mark without `no_show`
            return
        identity = self._joined.primary = self._identity("invitee_no_show.created", uri, no_show.uri)
        row = self._row(uri)
        mark = Mark(no_show.uri, no_show.created_at or self._fact.told_at)
        known = next((each for each in row.marks if each.uri == mark.uri), None)
        if known is None:
            if len(row.marks) >= MAX_TOGGLES:
                raise CannotNormalize("too_many_toggles", "no_show")
            clear = row.clear_of(mark)
            if clear is not None and clear.alone:  # published already: no event will follow
                mark = replace(mark, cleared_at=clear.at)
            row = self._step(uri, marks=by_time((*row.marks, mark)))
            data = InviteeNoShowCreated.made(self._payload.__dict__, booking=_state(row))
            self._write(identity, data, row, mark.created_at, inferred=False)
        elif mark.created_at < known.created_at:  # a copy without the mark's own time came first
            others = (each for each in row.marks if each.uri != mark.uri)
            mark = replace(known, created_at=mark.created_at)
            self._rows[uri] = row._replace(marks=by_time((*others, mark)))
        self._settle_marks(uri)

    def _clear(self, uri: str) -> None:
        second = self._fact.told_at.replace(microsecond=0)
        row = self._row(uri)
        known = next((clear for clear in row.clears if clear.at == second and clear.mark is None), None)
        if known is None:
            if len(row.clears) >= MAX_TOGGLES:
                raise CannotNormalize("too_many_toggles", "created_at")
            clear = Clear(second, self._fact.delivery.id, self._fact.delivery.position)
            row = self._rows[uri] = row._replace(clears=_in_time((*row.clears, clear)))
            self._settle_marks(uri)
        earlier = [mark for mark in row.marks if mark.second <= second]
        if known is not None and known.alone:
            self._joined.primary = self._identity(CLEARED, uri, format_time(second))
        elif earlier:
            self._joined.primary = self._identity(CLEARED, uri, earlier[-1].uri)

    def _infer_clears(self, uri: str) -> None:
        """Clear the marks that were known before REST was asked and were not there any more when it answered.

        Each is cleared by its own name, so that a mark that was set meanwhile stays set. The time is that of the
        answer; should Calendly's own clear come later, it has the same event.
        """
        second = self._fact.told_at.replace(microsecond=0)
        for name in self._fact.cleared:
            row = self._row(uri)
            mark = next((each for each in row.marks if each.uri == name and each.cleared_at is None), None)
            if mark is None:
                continue
            if len(row.clears) >= MAX_TOGGLES:
                raise CannotNormalize("too_many_toggles", "no_show")
            told_by = self._fact.delivery
            clear = Clear(max(second, mark.second), told_by.id, told_by.position, mark=name)  # clocks may differ
            self._rows[uri] = row._replace(clears=_in_time((*row.clears, clear)))
        self._settle_marks(uri)
        self._joined.primary = self._identity(CLEARED, uri, self._fact.cleared[0])

    def _settle_marks(self, uri: str) -> None:
        """Give each mark the clear that removed it, and write the event of those that `settlement` says to publish."""
        for position, mark in enumerate(self._row(uri).marks):
            row = self._row(uri)
            clear, follows = row.clear_of(mark), settlement(row, mark)
            if clear is None or follows is Settlement.UNCHANGED:
                continue
            settled = replace(mark, cleared_at=clear.at)
            marks = (*row.marks[:position], settled, *row.marks[position + 1 :])
            if follows is Settlement.RECORDED:
                self._rows[uri] = row._replace(marks=marks)
                continue
            row = self._step(uri, marks=marks)
            data = InviteeNoShowDeleted.made(
                self._payload.__dict__, booking=_state(row), cleared_mark=mark.uri, cleared_at=clear.at
            )
            inferred = clear.mark is not None
            self._write(self._identity(CLEARED, uri, mark.uri), data, row, clear.at, inferred=inferred)

    def _reschedule(self, older: str, newer: str) -> None:
        """Write `invitee.rescheduled` together with the half that came second."""
        if not self._loaded(older) or not self._loaded(newer) or not moved(self._row(older), self._row(newer)):
            return
        was_old, was_new = self._known.get(older), self._known.get(newer)
        if was_old is not None and was_new is not None and moved(was_old, was_new):
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

    def _watch(self, uri: str) -> None:
        """Record when a row began to wait for something, or that it waits no longer."""
        if not self._loaded(uri):
            return
        row = self._row(uri)
        if not row.old_invitees and not row.clears:
            return
        waits = bool(row.waiting_clears)
        for older in row.old_invitees:
            # A row that was not read cannot have changed: what waited for it still waits.
            half = half_moved(self._row(older), row) if self._loaded(older) else row.waits_since is not None
            waits = waits or half
        if waits != (row.waits_since is not None):
            self._rows[uri] = row._replace(waits_since=self._fact.delivery.received_at if waits else None)

    def _loaded(self, uri: str) -> bool:
        return uri in self._rows or uri in self._known


def _added(links: tuple[str, ...], link: str) -> tuple[str, ...]:
    if len(links) >= MAX_LINKS:
        raise CannotNormalize("contradictory", "old_invitee, new_invitee")
    return tuple(sorted((*links, link)))


def _in_time(clears: tuple[Clear, ...]) -> tuple[Clear, ...]:
    return tuple(sorted(clears, key=lambda each: (each.at, each.mark or "")))


def _state(row: Booking) -> BookingState:
    return BookingState.made(
        {},
        state="canceled" if row.state == "canceled" else "active",
        revision=row.revision,
        no_show=row.no_show,
        chain_root=row.chain_root,
    )
