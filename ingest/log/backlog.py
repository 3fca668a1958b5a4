"""What is accepted and not settled, and what of it comes next: a share a tenant, each tenant's in order.

Nearly always the next deliveries are all there is. In a flood their places are scanned to the end, without their
bodies, so that a tenant behind a hundred thousand deliveries of another one is served beside it in the next append.
The head is the place below which everything is settled; what is settled above it has its result in `slotwire.results`,
written with its events, so a new leader that starts from the head knows what was passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from slotwire.ingest.foundation.postgres import Connection, translated
from slotwire.ingest.log.delivery import Delivery, Origin, Tenant
from slotwire.ingest.log.parts import MAX_PARTS, STEP_PARTS, count_parts

if TYPE_CHECKING:
    import asyncpg

MAX_ROWS = 100
"""Deliveries of one append: a tenant that comes into another one's flood waits for one append at the most."""
MAX_BYTES = 1_048_576
"""Bytes of bodies of one append beside the oldest one, which comes whatever its size."""
SCAN_ROWS = 10_000
"""Places scanned by one statement while there is a flood."""
MAX_SEEN = 200_000
"""Places known beyond the head, settled or not. What is farther away waits until the head has come nearer."""


class Place(NamedTuple):
    """Where a delivery stands, and the bytes of the shard up to and with it."""

    position: int
    total: int


@dataclass(slots=True)
class _Entry:
    place: Place
    org: str
    size: int
    delivery: Delivery | None


class Backlog:
    """The deliveries of one shard that are not settled, as far as they were seen."""

    def __init__(self, shard: int, statements: Mapping[str, str], head: Place, settled: Iterable[int]) -> None:
        """Begin at a head.

        Args:
            shard: of the log.
            statements: of `ingest/sql/log.sql`.
            head: everything up to here is settled.
            settled: positions beyond it that are settled too.
        """
        self._shard = shard
        self._sql = statements
        self._head = head
        self._scanned = head.position
        self._settled = set(settled)
        self._order: deque[Place] = deque()
        # Whoever was served last comes last, so that two tenants of large bodies do not hold back a third.
        self._tenants: dict[str, deque[_Entry]] = {}
        self._farther = False

    @property
    def behind(self) -> bool:
        """Whether more is known to wait."""
        return self._farther or bool(self._tenants)

    def head_after(self, positions: Iterable[int]) -> Place:
        """Return the head once some positions are settled too."""
        also, head = set(positions), self._head
        for place in self._order:
            if place.position not in self._settled and place.position not in also:
                break
            head = place
        return head

    def settle(self, positions: Iterable[int]) -> None:
        """Note positions as settled."""
        self._settled.update(positions)
        while self._order and self._order[0].position in self._settled:
            self._head = self._order.popleft()
            self._settled.discard(self._head.position)

    async def next(self, connection: Connection, *, in_turn: bool = False) -> list[Delivery]:
        """Read what comes next, bounded in rows, bytes and parts: the oldest, and of every tenant its share.

        Args:
            connection: to read with.
            in_turn: in the tenants' turn, for what is written one by one; else in the order of their positions.

        Raises:
            DatabaseUnavailable: Postgres does not answer.
        """
        await self._look(connection)
        chosen = self._choose()
        missing = [entry.place.position for entry in chosen if entry.delivery is None]
        found: dict[int, Delivery] = {}
        if missing:
            with translated():
                rows = await connection.fetch(self._sql["read_chosen"], self._shard, missing)
            found = {row["position"]: delivery_of(row) for row in rows}
        for entry in chosen:
            entry.delivery = entry.delivery or found[entry.place.position]
        served = _fitting(chosen)
        self._take(served)
        deliveries = [entry.delivery for entry in served if entry.delivery is not None]
        return deliveries if in_turn else sorted(deliveries, key=lambda each: each.position)

    async def _look(self, connection: Connection) -> None:
        """See what is new: with its bodies where nothing waits, by its places only in a flood."""
        if not self._tenants:
            with translated():
                rows = await connection.fetch(
                    self._sql["read_deliveries"], self._shard, self._scanned, MAX_ROWS, MAX_BYTES
                )
            read = [delivery_of(row) for row in rows]
            self._note(_Entry(Place(each.position, each.total), each.tenant.org, len(each.body), each) for each in read)
            self._farther = len(rows) == MAX_ROWS or sum(len(each.body) for each in read) >= MAX_BYTES
            if not self._farther:
                return
        while self._has_room:
            with translated():
                rows = await connection.fetch(self._sql["scan_deliveries"], self._shard, self._scanned, SCAN_ROWS)
            self._note(_Entry(Place(row["position"], row["total"]), row["org"], row["size"], None) for row in rows)
            self._farther = len(rows) == SCAN_ROWS
            if not self._farther:
                return

    @property
    def _has_room(self) -> bool:
        return len(self._order) < MAX_SEEN

    def _note(self, entries: Iterable[_Entry]) -> None:
        for entry in entries:
            self._scanned = entry.place.position
            self._order.append(entry.place)
            if entry.place.position not in self._settled:
                self._tenants.setdefault(entry.org, deque()).append(entry)
        self.settle(())

    def _choose(self) -> list[_Entry]:
        """Choose in turn among the tenants, beginning with the oldest delivery of all, so that the head moves."""
        if not self._tenants:
            return []
        oldest = min(self._tenants.values(), key=lambda queue: queue[0].place.position)
        turns = [oldest, *(queue for queue in self._tenants.values() if queue is not oldest)]
        chosen: list[_Entry] = []
        room, depth = MAX_BYTES, 0
        while turns:
            served, turns = turns[: MAX_ROWS - len(chosen)], []
            for queue in served:
                entry = queue[depth]
                if chosen:
                    if entry.size > room:
                        continue  # it waits for the next append, and so does what comes after it
                    room -= entry.size
                chosen.append(entry)
                if len(queue) > depth + 1:
                    turns.append(queue)
            depth += 1
        return chosen

    def _take(self, chosen: Sequence[_Entry]) -> None:
        """Take what is chosen out of the queues; whoever is served comes last the next time."""
        for entry in chosen:
            queue = self._tenants.pop(entry.org)
            queue.popleft()
            if queue:
                self._tenants[entry.org] = queue


def _fitting(chosen: Sequence[_Entry]) -> list[_Entry]:
    """Leave to the next append what has too many parts for this one, and what comes after it of the same tenant.

    A body that is quarantined for its parts costs next to nothing, so it counts for none.
    """
    room, served, waiting = STEP_PARTS, list[_Entry](), set[str]()
    for entry in chosen:
        if entry.delivery is None or entry.org in waiting:
            continue
        parts = count_parts(entry.delivery.body)
        parts = parts if parts <= MAX_PARTS else 0
        if served and parts > room:
            waiting.add(entry.org)
            continue
        room -= parts if served else 0
        served.append(entry)
    return served


def delivery_of(row: Mapping[str, Any] | asyncpg.Record) -> Delivery:
    """Read a row of `read_deliveries`."""
    return Delivery(
        position=row["position"],
        total=row["total"],
        id=UUID(int=row["id"].int),  # a plain one: what asyncpg gives is a subclass that JSON writers refuse
        tenant=Tenant(row["uri"], row["org"], row["external_id"]),
        origin=Origin(row["origin"]),
        form=Origin(row["form"]),
        stale=row["stale"],
        content_encoding=row["content_encoding"],
        received_at=row["received_at"],
        signed_at=row["signed_at"],
        traceparent=row["traceparent"],
        body=row["body"],
    )
