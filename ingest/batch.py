"""One batch: facts folded over the rows they were joined with, ready to be appended. Pure.

Facts that touch a common row form a group; the log takes or gives back whole groups, so that a row that
changed meanwhile holds back nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import orjson

from ingest.errors import CannotNormalize
from ingest.join import Booking, Joined, Mark, NewEvent, join_invitee, join_resource, touched
from ingest.normalize import Fact, InviteeFact, Quarantined, ResourceFact
from schemas.codec import encode_data
from schemas.ids import EventId


class Batch:
    """What goes into the log together.

    Attributes:
        facts: in order of arrival.
        outcomes: per fact `stored`, `duplicate` or `quarantined`, as far as the join can tell.
        quarantined: per fact why it was quarantined, or None.
    """

    def __init__(self, facts: Sequence[Fact], known: Mapping[str, Booking]) -> None:
        """Fold facts in their order over the rows that were read for them, by invitee."""
        self.facts = facts
        self.outcomes: list[str] = []
        self.quarantined: list[Quarantined | None] = []
        self._primaries: list[EventId | None] = []
        self._events: list[tuple[int, NewEvent]] = []
        self._read = {uri: row.revision for uri, row in known.items()}
        self._state = dict(known)
        self._changed: set[str] = set()
        self._roots: dict[str, tuple[int, str]] = {}
        self._parents = list(range(len(facts)))
        self._owner: dict[str, int] = {}
        for position, fact in enumerate(facts):
            match fact:
                case Quarantined():
                    self._quarantine(fact)
                case ResourceFact():
                    self._add(position, join_resource(fact))
                case InviteeFact():
                    self._add_invitee(position, fact)

    @property
    def events(self) -> list[NewEvent]:
        """The events to append, in their order."""
        return [event for _, event in self._events]

    def merged(self) -> dict[str, Booking]:
        """Return the rows as they are once the batch is appended, those that only follow a root included."""
        stale = {old: self._root(to) for old, (_, to) in self._roots.items()}
        return {
            uri: replace(row, chain_root=stale[row.chain_root], revision=row.revision + 1)
            if row.chain_root in stale
            else row
            for uri, row in self._state.items()
        }

    def group(self, position: int) -> int:
        """Return the group of the fact at a position."""
        while self._parents[position] != position:
            position = self._parents[position]
        return position

    def arguments(self, *, shard: int, now: datetime) -> list[object]:
        """Write the batch as the arguments of `append_batch`, in their order."""
        groups = [self.group(position) for position in range(len(self.facts))]
        owners = {uri: groups[position] for uri, position in self._owner.items()}
        deliveries = [fact.delivery for fact in self.facts]
        events = self._events
        by = [deliveries[position] for position, _ in events]
        return [
            shard,
            now,
            _json([{"grp": grp, "invitee": uri, "revision": self._read.get(uri, 0)} for uri, grp in owners.items()]),
            _json([_columns(self._state[uri], owners[uri]) for uri in self._changed]),
            _json([{"grp": groups[at], "from": old, "to": self._root(to)} for old, (at, to) in self._roots.items()]),
            groups,
            [each.id for each in deliveries],
            [each.tenant.org for each in deliveries],
            [each.tenant.subscription_id for each in deliveries],
            [each.received_at for each in deliveries],
            [each.signed_at for each in deliveries],
            self.outcomes,
            self._primaries,
            [_event_name(fact) for fact in self.facts],
            [each.traceparent for each in deliveries],
            [each.reason if each else None for each in self.quarantined],
            [each.detail if each else None for each in self.quarantined],
            [each.body for each in deliveries],
            [groups[position] for position, _ in events],
            [event.id for _, event in events],
            [event.data.type for _, event in events],
            [each.tenant.org for each in by],
            [event.subject for _, event in events],
            [event.key for _, event in events],
            [event.time for _, event in events],
            [each.id for each in by],
            [event.inferred for _, event in events],
            [each.traceparent for each in by],
            [each.tenant.external_id for each in by],
            [encode_data(event.data) for _, event in events],
            [each.received_at for each in by],
        ]

    def _add_invitee(self, position: int, fact: InviteeFact) -> None:
        rows = touched(fact, self._state)
        for uri in rows:
            owner = self._owner.setdefault(uri, position)
            self._parents[self.group(position)] = self.group(owner)
        try:
            joined = join_invitee(fact, {uri: self._state[uri] for uri in rows if uri in self._state})
        except CannotNormalize as problem:
            self._quarantine(Quarantined(fact.delivery, problem.reason, problem.detail))
            return
        self._roots.update({stale: (position, root) for stale, root in joined.roots})
        self._state.update(joined.bookings)
        self._changed.update(joined.bookings)
        self._add(position, joined)

    def _add(self, position: int, joined: Joined) -> None:
        self.outcomes.append("stored" if joined.events or joined.bookings else "duplicate")
        self.quarantined.append(None)
        self._primaries.append(joined.primary)
        self._events.extend((position, event) for event in joined.events)

    def _quarantine(self, fact: Quarantined) -> None:
        self.outcomes.append("quarantined")
        self.quarantined.append(fact)
        self._primaries.append(None)

    def _root(self, root: str) -> str:
        """Follow roots that were themselves replaced within the batch."""
        while root in self._roots:
            root = self._roots[root][1]
        return root


def _event_name(fact: Fact) -> str | None:
    match fact:
        case InviteeFact():
            return fact.event.value
        case ResourceFact():
            return fact.data.calendly_event
        case Quarantined():
            return None


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
        "old_invitee": row.old_invitee,
        "new_invitee": row.new_invitee,
        "marks": [
            {"uri": mark.uri, "created_at": mark.created_at, "cleared_at": mark.cleared_at} for mark in row.marks
        ],
        "clears": row.clears,
        "told_at": row.told_at,
        "booked_at": row.booked_at,
        "scheduled_event": row.scheduled_event,
        "start_time": row.start_time,
        "end_time": row.end_time,
        "hosts": row.hosts,
        "location_type": row.location_type,
    }


def read_row(record: Mapping[str, object]) -> Booking:
    """Read a row of `slotwire.bookings`."""
    values = {name: item for name, item in record.items() if name != "changed_at"}
    marks = orjson.loads(str(values["marks"]))
    values["marks"] = tuple(
        Mark(
            mark["uri"],
            datetime.fromisoformat(mark["created_at"]),
            datetime.fromisoformat(mark["cleared_at"]) if mark["cleared_at"] else None,
        )
        for mark in marks
    )
    values["clears"] = tuple(values["clears"])  # type: ignore[arg-type]  # an array column
    values["hosts"] = tuple(values["hosts"])  # type: ignore[arg-type]  # an array column
    return Booking(**values)  # type: ignore[arg-type]  # columns are named as the fields
