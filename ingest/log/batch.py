"""One batch: facts folded over the rows they were joined with, ready to be appended. Pure.

Facts that touch a common row form a group; the log takes or gives back whole groups, so that a row that
changed meanwhile holds back nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from slotwire.ingest.errors import CannotNormalize
from slotwire.ingest.log.booking import Booking, Clear, Mark
from slotwire.ingest.log.join import JoinResult, NewEvent, join_invitee, join_overdue, join_resource, touched
from slotwire.ingest.log.normalize import Fact, FactSource, InviteeFact, QuarantineFact, ResourceFact, defect
from slotwire.ingest.log.outcome import DeliveryOutcome
from slotwire.ingest.receive.verify import VerifiedDelivery
from slotwire.schemas.codec import encode_data
from slotwire.schemas.ids import EventId

_DELIVERY_COLUMNS = 13
"""Arguments of `append_batch` that hold deliveries."""
_FIELDS = frozenset(Booking._fields)


@dataclass(frozen=True, slots=True)
class OverdueClear:
    """A clear that has waited long enough for its mark, as it was told when it came."""

    fact: InviteeFact

    @property
    def source(self) -> FactSource:
        """Where it comes from."""
        return self.fact.source


class Batch:
    """What goes into the log together.

    Attributes:
        facts: in order of arrival.
        outcomes: per fact what became of it, as far as the join can tell.
        quarantined: per fact why it was quarantined, or None.
        primaries: per fact the id of the event it stands for, or None.
    """

    def __init__(self, facts: Sequence[Fact | OverdueClear], known: Mapping[str, Booking]) -> None:
        """Fold facts in their order over the rows that were read for them, by invitee."""
        self.facts = facts
        self.outcomes: list[DeliveryOutcome] = []
        self.quarantined: list[QuarantineFact | None] = []
        self.primaries: list[EventId | None] = []
        self._events: list[tuple[int, NewEvent]] = []
        self._written: set[EventId] = set()
        self._read = {uri: row.revision for uri, row in known.items()}
        self._state = dict(known)
        self._changed: set[str] = set()
        self._roots: dict[str, tuple[int, str]] = {}
        self._parents = list(range(len(facts)))
        self._owner: dict[str, int] = {}
        self._line_owner: dict[str, int] = {}
        for position, fact in enumerate(facts):
            match fact:
                case InviteeFact():
                    self._add_invitee(position, fact)
                case ResourceFact():
                    self._add_resource(position, fact)
                case QuarantineFact():
                    self._quarantine(fact)
                case OverdueClear():
                    self._add_invitee(position, fact.fact, overdue=True)

    @property
    def events(self) -> list[NewEvent]:
        """The events to append, in their order."""
        return [event for _, event in self._events]

    def merged(self) -> dict[str, Booking]:
        """Return the rows as they are once the batch is appended, those that only follow a root included."""
        stale = {old: self._root(to) for old, (_, to) in self._roots.items()}
        return {
            uri: row._replace(chain_root=stale[row.chain_root], revision=row.revision + 1)
            if row.chain_root in stale
            else row
            for uri, row in self._state.items()
        }

    def group(self, position: int) -> int:
        """Return the group of the fact at a position."""
        while self._parents[position] != position:
            position = self._parents[position]
        return position

    def arguments(self, *, shard: int, now: datetime, kept: bool = False, fetched: bool = False) -> list[object]:
        """Write the batch as the arguments of `append_batch`, in their order.

        Args:
            shard: of the log.
            now: when it is written.
            kept: the deliveries are in the database already; only what they become is appended.
            fetched: no delivery told it: what it becomes is appended, and names none.
        """
        groups = [self.group(position) for position in range(len(self.facts))]
        owners = {uri: groups[position] for uri, position in self._owner.items()}
        sources = [fact.source for fact in self.facts]
        events = self._events
        by = [sources[position] for position, _ in events]
        arrived = [[] for _ in range(_DELIVERY_COLUMNS)] if kept or fetched else self._arrived(groups)
        return [
            shard,
            now,
            _json([{"grp": grp, "invitee": uri, "revision": self._read.get(uri, 0)} for uri, grp in owners.items()]),
            _json([_columns(self._state[uri], owners[uri]) for uri in self._changed]),
            _json([{"grp": groups[at], "from": old, "to": self._root(to)} for old, (at, to) in self._roots.items()]),
            *arrived,
            [groups[position] for position, _ in events],
            [event.id for _, event in events],
            [event.data.type for _, event in events],
            [each.tenant.org for each in by],
            [event.subject for _, event in events],
            [event.key for _, event in events],
            [event.time for _, event in events],
            [None if fetched else each.id for each in by],
            [event.inferred for _, event in events],
            [each.traceparent for each in by],
            [each.tenant.external_id for each in by],
            [encode_data(event.data) for _, event in events],
            [now if kept or fetched else each.received_at for each in by],
        ]

    def _arrived(self, groups: list[int]) -> list[list[Any]]:
        """Return the columns of the deliveries, which are rows of their own."""
        deliveries = [_delivered(fact.source) for fact in self.facts]
        return [
            groups,
            [each.id for each in deliveries],
            [each.tenant.org for each in deliveries],
            [each.tenant.subscription_id for each in deliveries],
            [each.received_at for each in deliveries],
            [each.signed_at for each in deliveries],
            self.outcomes,
            self.primaries,
            [event_name(fact) for fact in self.facts],
            [each.traceparent for each in deliveries],
            [each.reason if each else None for each in self.quarantined],
            [each.detail if each else None for each in self.quarantined],
            [each.body for each in deliveries],
        ]

    def _add_resource(self, position: int, fact: ResourceFact) -> None:
        try:
            joined = join_resource(fact)
        except Exception as problem:  # noqa: BLE001 - as below
            self._quarantine(defect(fact.source, problem))
            return
        self._add(position, joined)

    def _add_invitee(self, position: int, fact: InviteeFact, *, overdue: bool = False) -> None:
        rows = touched(fact, self._state)
        for uri in rows:
            owner = self._owner.setdefault(uri, position)
            if owner != position:
                self._unite(position, owner)
        known = {uri: self._followed(position, self._state[uri]) for uri in rows if uri in self._state}
        try:
            joined = join_overdue(fact, known) if overdue else join_invitee(fact, known)
        except CannotNormalize as problem:
            self._quarantine(QuarantineFact(fact.source, problem.reason, problem.detail))
            return
        except Exception as problem:  # noqa: BLE001 - a defect of ours must not end the commits of everybody
            self._quarantine(defect(fact.source, problem))
            return
        for stale, root in joined.roots:
            self._roots[stale] = (position, root)
            for line in (stale, root):
                self._unite(position, self._line_owner.setdefault(line, position))
        self._state.update(joined.bookings)
        self._changed.update(joined.bookings)
        self._add(position, joined)

    def _add(self, position: int, joined: JoinResult) -> None:
        is_new = joined.primary is None and self._is_first_told(position, joined)
        for event in joined.events:
            if event.id not in self._written:
                self._written.add(event.id)
                self._events.append((position, event))
                is_new = is_new or event.id == joined.primary
        # What a copy says in other words changes the booking's row, and it is a copy nonetheless.
        self.outcomes.append(DeliveryOutcome.STORED if is_new else DeliveryOutcome.DUPLICATE)
        self.quarantined.append(None)
        self.primaries.append(joined.primary)

    def _is_first_told(self, position: int, joined: JoinResult) -> bool:
        """Whether nobody before told of a clear that waits for its mark."""
        told_by = self.facts[position].source.id
        return any(clear.delivery == told_by for row in joined.bookings.values() for clear in row.clears)

    def _quarantine(self, fact: QuarantineFact) -> None:
        self.outcomes.append(DeliveryOutcome.QUARANTINED)
        self.quarantined.append(fact)
        self.primaries.append(None)

    def _unite(self, position: int, other: int) -> None:
        """Let two facts be taken together or not at all."""
        self._parents[self.group(position)] = self.group(other)

    def _followed(self, position: int, row: Booking) -> Booking:
        """Let a row know an older root that was found since in the batch: a line must not lead back to itself."""
        if row.chain_root not in self._roots:
            return row
        self._unite(position, self._line_owner[row.chain_root])
        return row._replace(chain_root=self._root(row.chain_root))

    def _root(self, root: str) -> str:
        """Follow roots that were themselves replaced within the batch."""
        while root in self._roots:
            root = self._roots[root][1]
        return root


@dataclass(frozen=True, slots=True)
class OwnEvent:
    """An event that comes from no delivery: about Slotwire itself.

    Attributes:
        event: what is appended.
        org: the last segment of the organization's URI.
        tenant: the organization's external id.
    """

    event: NewEvent
    org: str
    tenant: str | None


def own_arguments(events: Sequence[OwnEvent], *, shard: int, now: datetime) -> list[object]:
    """Write events of ours as the arguments of `append_batch`, in their order. They touch no booking.

    An id that is in the log already is left out there, so that to append twice is to append once.

    Args:
        events: of organizations of this shard.
        shard: of the log.
        now: when they are written.
    """
    many = len(events)
    return [
        *(shard, now, "[]", "[]", "[]"),
        *([] for _ in range(_DELIVERY_COLUMNS)),
        list(range(many)),
        [each.event.id for each in events],
        [each.event.data.type for each in events],
        [each.org for each in events],
        [each.event.subject for each in events],
        [each.event.key for each in events],
        [each.event.time for each in events],
        [None] * many,
        [each.event.inferred for each in events],
        [None] * many,
        [each.tenant for each in events],
        [encode_data(each.event.data) for each in events],
        [now] * many,
    ]


def event_name(fact: Fact | OverdueClear) -> str | None:
    """Return Calendly's name for what a fact tells; None for what was not understood."""
    match fact:
        case InviteeFact():
            return fact.event.value
        case OverdueClear():
            return fact.fact.event.value
        case ResourceFact():
            return fact.data.calendly_event
        case QuarantineFact():
            return None


def _delivered(source: FactSource) -> VerifiedDelivery:
    if not isinstance(source, VerifiedDelivery):
        raise TypeError("only what Calendly delivered and signed is written as a delivery")
    return source


def _json(rows: list[dict[str, object]]) -> str:
    return orjson.dumps(rows).decode()


def _columns(row: Booking, group: int) -> dict[str, object]:
    return {
        "grp": group,
        "invitee": row.invitee,
        "org": row.org,
        "revision": row.revision,
        "state": row.state,
        "provider_status": row.provider_status,
        "chain_key": row.chain_key,
        "chain_root": row.chain_root,
        "old_invitees": row.old_invitees,
        "new_invitees": row.new_invitees,
        "marks": row.marks,
        "clears": row.clears,
        "told_at": row.told_at,
        "booked_at": row.booked_at,
        "scheduled_event": row.scheduled_event,
        "event_told_at": row.event_told_at,
        "start_time": row.start_time,
        "end_time": row.end_time,
        "hosts": row.hosts,
        "location_type": row.location_type,
        "waits_since": row.waits_since,
    }


def read_row(record: Mapping[str, Any]) -> Booking:
    """Read a row of `slotwire.bookings`; columns it does not know are left out."""
    values = {name: item for name, item in record.items() if name in _FIELDS}
    for name in ("old_invitees", "new_invitees", "hosts"):
        values[name] = tuple(values[name])
    values["marks"] = tuple(
        Mark(each["uri"], datetime.fromisoformat(each["created_at"]), _time(each["cleared_at"]))
        for each in orjson.loads(values["marks"])
    )
    values["clears"] = tuple(
        Clear(datetime.fromisoformat(each["at"]), UUID(each["delivery"]), each["alone"])
        for each in orjson.loads(values["clears"])
    )
    return Booking(**values)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
