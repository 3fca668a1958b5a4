"""One batch: the facts of some deliveries, folded over the rows they are joined with. Pure.

In come facts in the order their deliveries were accepted, and the bookings that were read for them; out come a result
for each delivery, the events to append, and the bookings as they become. Every row belongs to one organization, and
a fact is joined with rows of its own organization only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import orjson

from slotwire.ingest.errors import CannotNormalize
from slotwire.ingest.log.booking import Booking
from slotwire.ingest.log.delivery import Delivery, Origin
from slotwire.ingest.log.join import join_invitee, join_overdue, join_own, join_resource, touched
from slotwire.ingest.log.joined import JoinResult, NewEvent
from slotwire.ingest.log.move import MoveFact
from slotwire.ingest.log.normalize import Fact, InviteeFact, OwnFact, QuarantineFact, ResourceFact, defect
from slotwire.ingest.log.outcome import DeliveryOutcome
from slotwire.schemas.codec import encode_data
from slotwire.schemas.ids import EventId

MAX_FACT_BYTES = 8_388_608
"""Bytes of data in the events that one fact makes; past it the delivery is quarantined as `too_large`. The largest body
makes some 5 MB. Only the end of many no-show marks at once, each told with a large payload, makes more."""
MAX_APPEND_BYTES = 16_777_216
"""Bytes of data in the events of one append; past it the writer halves the deliveries."""

BookingKey = tuple[str, str]
"""Which booking: the last segment of the organization's URI, and the invitee's URI."""


@dataclass(frozen=True, slots=True)
class OverdueClear:
    """A clear that has waited long enough for its mark, as it was reported. Its delivery is settled already."""

    fact: InviteeFact

    @property
    def delivery(self) -> Delivery:
        """The delivery that reported it."""
        return self.fact.delivery


@dataclass(slots=True)
class Result:
    """What became of one delivery, as far as the join can tell: the log knows of older copies too.

    Attributes:
        event_id: the event it stands for; None while it waits for something, or where it was not understood.
        reason: why it is quarantined; None otherwise.
        drifted: the fields of it that could not be read, which are under `extra`.
    """

    delivery: Delivery
    outcome: DeliveryOutcome
    event_id: EventId | None = None
    event_name: str | None = None
    subject: str | None = None
    reason: str | None = None
    detail: str | None = None
    drifted: tuple[str, ...] = ()


class Appending(NamedTuple):
    """An event with the delivery that made it, and its data as it is written."""

    event: NewEvent
    delivery: Delivery
    data: bytes


class AppendTooLarge(Exception):
    """The events of some deliveries together are more than one append takes."""


class EventRow(NamedTuple):
    """`slotwire.new_event`, field by field."""

    id: UUID
    type: str
    org: str
    subject: str
    key: str
    time: datetime
    recorded_at: datetime
    delivery_id: UUID | None
    origin: str
    inferred: bool
    traceparent: str | None
    tenant: str | None
    data: bytes


class ResultRow(NamedTuple):
    """`slotwire.new_result`, field by field."""

    position: int
    org: str
    delivery_id: UUID
    outcome: str
    event_id: UUID | None
    event_name: str | None
    subject: str | None
    original: bool
    reason: str | None
    detail: str | None


@dataclass(slots=True)
class _Tenancy:
    """The rows of one organization, while facts are folded over them."""

    known: dict[str, Booking] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    roots: dict[str, str] = field(default_factory=dict)

    def root(self, root: str) -> str:
        """Follow roots that were themselves replaced within the batch."""
        while root in self.roots:
            root = self.roots[root]
        return root

    def followed(self, row: Booking) -> Booking:
        """Let a row know an older root that was found since in the batch: a line must not lead back to itself."""
        return row._replace(chain_root=self.root(row.chain_root)) if row.chain_root in self.roots else row


class Batch:
    """What goes into the log together.

    Attributes:
        results: per delivery what became of it, in their order; none for a clear that was settled before.
        appending: the events to append, in their order, each with its delivery.
        unpublished: overdue clears that could not be joined; they go on waiting.
    """

    def __init__(self, facts: Sequence[Fact | OverdueClear], known: Mapping[BookingKey, Booking] | None = None) -> None:
        """Fold facts in their order over the rows that were read for them.

        Args:
            facts: in the order their deliveries were accepted; those of one delivery stand together.
            known: the rows of the invitees they name and of their neighbours, within their organizations.

        Raises:
            AppendTooLarge: their events are more than `MAX_APPEND_BYTES`.
        """
        self.results: list[Result] = []
        self.appending: list[Appending] = []
        self.unpublished: list[Delivery] = []
        self._bytes = 0
        self._written: set[EventId] = set()
        self._read = {key: row.revision for key, row in (known or {}).items()}
        self._tenants: dict[str, _Tenancy] = {}
        for (org, uri), row in (known or {}).items():
            self._tenancy(org).known[uri] = row
        for fact in facts:
            self._fold(fact)
            if self._bytes > MAX_APPEND_BYTES:
                raise AppendTooLarge

    @property
    def events(self) -> list[NewEvent]:
        """The events to append, in their order."""
        return [each.event for each in self.appending]

    def merged(self) -> dict[BookingKey, Booking]:
        """Return the rows as they are once the batch is appended, those that only follow a root included."""
        merged: dict[BookingKey, Booking] = {}
        for org, tenancy in self._tenants.items():
            for uri, row in tenancy.known.items():
                follows = row.chain_root in tenancy.roots
                merged[org, uri] = (
                    row._replace(chain_root=tenancy.root(row.chain_root), revision=row.revision + 1) if follows else row
                )
        return merged

    def event_rows(self, now: datetime) -> list[EventRow]:
        """Write the events as rows.

        Args:
            now: when they are written; an event of a delivery counts as recorded when that arrived.
        """
        return [
            EventRow(
                id=event.id,
                type=event.data.type,
                org=delivery.tenant.org,
                subject=event.subject,
                key=event.key,
                time=event.time,
                recorded_at=delivery.received_at if delivery.origin is Origin.WEBHOOK and not event.late else now,
                delivery_id=delivery.id,
                origin=delivery.origin.value,
                inferred=event.inferred,
                traceparent=delivery.traceparent,
                tenant=delivery.tenant.external_id,
                data=data,
            )
            for event, delivery, data in self.appending
        ]

    def result_rows(self) -> list[ResultRow]:
        """Write the results as rows."""
        return [
            ResultRow(
                position=each.delivery.position,
                org=each.delivery.tenant.org,
                delivery_id=each.delivery.id,
                outcome=each.outcome.value,
                event_id=each.event_id,
                event_name=each.event_name,
                subject=each.subject,
                original=each.delivery.origin is Origin.RETRY,
                reason=each.reason,
                detail=each.detail,
            )
            for each in self.results
        ]

    def booking_rows(self) -> str:
        """Write the changed bookings as JSON, each with the revision it was read at."""
        rows = []
        for org, tenancy in self._tenants.items():
            for uri in sorted(tenancy.changed):
                row = tenancy.known[uri]
                rows.append({**row._asdict(), "was": self._read.get((org, uri), 0)})
        return orjson.dumps(rows).decode()

    def root_rows(self) -> str:
        """Write the chain roots that are no longer the oldest as JSON, with the ones that are."""
        rows = [
            {"org": org, "from": stale, "to": tenancy.root(stale)}
            for org, tenancy in self._tenants.items()
            for stale in tenancy.roots
        ]
        return orjson.dumps(rows).decode()

    def _tenancy(self, org: str) -> _Tenancy:
        found = self._tenants.get(org)
        if found is None:
            found = self._tenants[org] = _Tenancy()
        return found

    def _fold(self, fact: Fact | OverdueClear) -> None:
        try:
            match fact:
                case InviteeFact():
                    self._add(fact, *self._join_invitee(fact), fact.event.value, fact.payload.uri)
                case ResourceFact():
                    self._add(fact, *self._encoded(join_resource(fact)), fact.data.calendly_event, fact.data.uri)
                case MoveFact():
                    self.results.append(Result(fact.delivery, DeliveryOutcome.STORED, subject=fact.move.old_invitee))
                case OwnFact():
                    self._add(fact, *self._encoded(join_own(fact)), None, fact.subject)
                case OverdueClear():
                    self._append(fact.delivery, *self._join_invitee(fact.fact, overdue=True), late=True)
                case QuarantineFact():
                    self._quarantine(fact)
        except Exception as problem:  # noqa: BLE001 - a defect of ours costs this delivery, and no other
            if isinstance(fact, OverdueClear):
                self.unpublished.append(fact.delivery)
            elif isinstance(problem, CannotNormalize):
                self._quarantine(QuarantineFact(fact.delivery, problem.reason, problem.detail))
            else:
                self._quarantine(defect(fact.delivery, problem))

    def _encoded(self, joined: JoinResult) -> tuple[JoinResult, list[bytes]]:
        """Write the data of a fact's events; of those that the batch has already, nothing.

        Raises:
            CannotNormalize: `too_large` past `MAX_FACT_BYTES`.
        """
        written, room = list[bytes](), MAX_FACT_BYTES
        for event in joined.events:
            data = b"" if event.id in self._written else encode_data(event.data)
            written.append(data)
            room -= len(data)
            if room < 0:
                raise CannotNormalize("too_large", "the events of it")
        return joined, written

    def _join_invitee(self, fact: InviteeFact, *, overdue: bool = False) -> tuple[JoinResult, list[bytes]]:
        tenancy = self._tenancy(fact.delivery.tenant.org)
        rows = {uri: tenancy.known.get(uri) for uri in touched(fact, tenancy.known)}
        known = {uri: tenancy.followed(row) for uri, row in rows.items() if row is not None}
        joined, written = self._encoded(join_overdue(fact, known) if overdue else join_invitee(fact, known))
        for stale, root in joined.roots:
            tenancy.roots[stale] = root
        tenancy.known.update(joined.bookings)
        tenancy.changed.update(joined.bookings)
        return joined, written

    def _append(self, delivery: Delivery, joined: JoinResult, written: list[bytes], *, late: bool = False) -> bool:
        """Take over the events that are not in the batch yet; return whether the fact's own is among them."""
        is_new = False
        for event, data in zip(joined.events, written, strict=True):
            if event.id not in self._written:
                self._written.add(event.id)
                self._bytes += len(data)
                self.appending.append(Appending(event._replace(late=late), delivery, data))
                is_new = is_new or event.id == joined.primary
        return is_new

    def _add(
        self,
        fact: InviteeFact | ResourceFact | OwnFact,
        joined: JoinResult,
        written: list[bytes],
        name: str | None,
        subject: str,
    ) -> None:
        is_new = self._append(fact.delivery, joined, written)
        if joined.primary is None:  # a clear that waits for its mark
            told_by = fact.delivery.id
            is_new = any(clear.delivery == told_by for row in joined.bookings.values() for clear in row.clears)
        # A copy may tell more and so change the booking's row; it is a copy all the same.
        outcome = DeliveryOutcome.STORED if is_new else DeliveryOutcome.DUPLICATE
        last = self.results[-1] if self.results else None
        if last is not None and last.delivery.position == fact.delivery.position:  # of what was fetched: several facts
            if outcome is DeliveryOutcome.STORED and last.outcome is DeliveryOutcome.DUPLICATE:
                last.outcome, last.event_id, last.event_name = outcome, joined.primary, name
            return
        drifted = () if isinstance(fact, OwnFact) else fact.drifted
        self.results.append(Result(fact.delivery, outcome, joined.primary, name, subject, drifted=drifted))

    def _quarantine(self, fact: QuarantineFact) -> None:
        last = self.results[-1] if self.results else None
        if last is not None and last.delivery.position == fact.delivery.position:  # one of several facts
            last.outcome, last.event_id, last.reason, last.detail = (
                DeliveryOutcome.QUARANTINED,
                None,
                fact.reason,
                fact.detail,
            )
        else:
            self.results.append(
                Result(fact.delivery, DeliveryOutcome.QUARANTINED, reason=fact.reason, detail=fact.detail)
            )
