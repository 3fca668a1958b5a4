"""The log as `slotwire.append` writes it, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from slotwire.ingest.log.batch import Batch, BookingKey, EventRow, OverdueClear, Result
from slotwire.ingest.log.booking import Booking
from slotwire.ingest.log.normalize import Fact, InviteeFact
from tests.support.booking_histories import START, TENANT

_ROW = TypeAdapter(Booking)


@dataclass(frozen=True)
class Written:
    """An event as it stands in the log."""

    id: UUID
    type: str
    subject: str
    state: dict[str, Any]


class Model:
    """Events once, bookings by organization and invitee at the revision they were read at, roots; results as told.

    Attributes:
        bookings: every organization's.
        events: by id, in the order in which they were written.
        log: the same as rows.
        results: of every delivery, in their order.
    """

    def __init__(self) -> None:
        self.bookings: dict[BookingKey, Booking] = {}
        self.events: dict[UUID, Written] = {}
        self.log: list[EventRow] = []
        self.results: list[Result] = []

    @property
    def rows(self) -> dict[str, Booking]:
        """The bookings of the organization that the histories are about, by invitee."""
        return self.of(TENANT.org)

    def of(self, org: str) -> dict[str, Booking]:
        """Return an organization's bookings, by invitee."""
        return {uri: row for (owner, uri), row in self.bookings.items() if owner == org}

    def read(self, facts: Sequence[Fact]) -> dict[BookingKey, Booking]:
        """Read as the writer does: whom the facts name, and their neighbours, each within its organization."""
        named: set[BookingKey] = set()
        for each in facts:
            if isinstance(each, InviteeFact):
                links = (each.payload.uri, each.payload.old_invitee, each.payload.new_invitee)
                named |= {(each.delivery.tenant.org, uri) for uri in links if uri is not None}
        for key in [key for key in named if key in self.bookings]:
            row = self.bookings[key]
            named |= {(row.org, uri) for uri in (*row.old_invitees, *row.new_invitees)}
        return {key: self.bookings[key] for key in named if key in self.bookings}

    def append(self, batch: Batch) -> None:
        """Write a batch."""
        for event in batch.event_rows(START):
            if event.id not in self.events:
                state = orjson.loads(event.data).get("booking", {})
                self.events[event.id] = Written(event.id, event.type, event.subject, state)
                self.log.append(event)
        for row in orjson.loads(batch.booking_rows()):
            key = (row["org"], row["invitee"])
            known = self.bookings.get(key)
            assert row.pop("was") == (0 if known is None else known.revision)
            assert known is None or known.chain_key == row["chain_key"]
            self.bookings[key] = _ROW.validate_json(orjson.dumps(row))
        moved = {(each["org"], each["from"]): each["to"] for each in orjson.loads(batch.root_rows())}
        for (org, uri), each in self.bookings.items():
            if (org, each.chain_root) in moved:
                root = moved[org, each.chain_root]
                self.bookings[org, uri] = each._replace(chain_root=root, revision=each.revision + 1)
        self.results += batch.results

    def tell(self, facts: Sequence[Fact]) -> Batch:
        """Append facts as one batch."""
        batch = Batch(facts, self.read(facts))
        self.append(batch)
        return batch

    def publish_overdue(self, facts: Sequence[Fact]) -> None:
        """Publish every clear that waits, as if its time were over."""
        for key, row in list(self.bookings.items()):
            for clear in row.waiting_clears:
                [told] = [each for each in facts if each.delivery.id == clear.delivery][:1]
                assert isinstance(told, InviteeFact)
                self.append(Batch([OverdueClear(told)], self.read([told])))
                assert clear not in self.bookings[key].waiting_clears
