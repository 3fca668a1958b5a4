"""What is accepted and not settled, and what of it comes next: a share a tenant, each tenant's in order.

Nearly always the next deliveries are all there is. In a flood their places are scanned without their bodies, so that a
tenant behind a hundred thousand deliveries of another one is seen, and served beside it. The head is the place below
which everything is settled; what is settled above it has its result in `slotwire.results`, written with its events, so
a new leader that starts from the head knows what was passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from slotwire.ingest.foundation.postgres import Connection, translated
from slotwire.ingest.log.delivery import Delivery, Origin, Tenant

if TYPE_CHECKING:
    import asyncpg

MAX_ROWS = 100
"""Deliveries of one append: a tenant that comes into another one's flood waits for one append at the most."""
MAX_BYTES = 1_048_576
"""Bytes of bodies of one append, but for a single larger one."""
SCAN_ROWS = 10_000
"""Places scanned at a time while there is a flood."""
MAX_SEEN = 200_000
"""Places known and not settled. Beyond it nobody is passed over: what comes first is served first."""


class Place(NamedTuple):
    """Where a delivery stands, and the bytes of the shard up to and with it."""

    position: int
    total: int


@dataclass(slots=True)
class _Entry:
    place: Place
    org: str
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
        self._tenants: dict[str, deque[_Entry]] = {}
        self._seen = 0
        self._flood = False

    @property
    def behind(self) -> bool:
        """Whether more is known to wait."""
        return self._flood or self._seen > 0

    def head_after(self, positions: Iterable[int]) -> Place:
        """Return the head once some positions are settled too."""
        settled, head = self._settled.union(positions), self._head
        for place in self._order:
            if place.position not in settled:
                break
            head = place
        return head

    def settle(self, positions: Iterable[int]) -> None:
        """Note positions as settled."""
        self._settled.update(positions)
        while self._order and self._order[0].position in self._settled:
            self._head = self._order.popleft()
            self._settled.discard(self._head.position)

    async def next(self, connection: Connection) -> list[Delivery]:
        """Read what comes next, bounded in rows and bytes: the oldest, and of every tenant its share.

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
        deliveries = [entry.delivery or found[entry.place.position] for entry in chosen]
        return self._cut(chosen, sorted(deliveries, key=lambda each: each.position))

    async def _look(self, connection: Connection) -> None:
        """See what is new: with its bodies where nothing waits, by its places only in a flood."""
        if not self._seen:
            with translated():
                rows = await connection.fetch(
                    self._sql["read_deliveries"], self._shard, self._scanned, MAX_ROWS, MAX_BYTES
                )
            self._note([(Place(row["position"], row["total"]), row["org"], delivery_of(row)) for row in rows])
            self._flood = len(rows) == MAX_ROWS or sum(len(row["body"]) for row in rows) >= MAX_BYTES
        if self._flood and self._seen < MAX_SEEN:
            with translated():
                rows = await connection.fetch(self._sql["scan_deliveries"], self._shard, self._scanned, SCAN_ROWS)
            self._note([(Place(row["position"], row["total"]), row["org"], None) for row in rows])
            self._flood = len(rows) == SCAN_ROWS or self._seen > MAX_ROWS

    def _note(self, rows: Sequence[tuple[Place, str, Delivery | None]]) -> None:
        for place, org, delivery in rows:
            self._scanned = place.position
            self._order.append(place)
            if place.position not in self._settled:
                self._tenants.setdefault(org, deque()).append(_Entry(place, org, delivery))
                self._seen += 1
        self.settle(())

    def _choose(self) -> list[_Entry]:
        """Choose in turn among the tenants, beginning with the one whose oldest delivery is the oldest of all."""
        chosen: list[_Entry] = []
        waiting = sorted(self._tenants.values(), key=lambda queue: queue[0].place.position)
        depth = 0
        while waiting and len(chosen) < MAX_ROWS:
            waiting = [queue for queue in waiting if len(queue) > depth]
            chosen.extend(queue[depth] for queue in waiting[: MAX_ROWS - len(chosen)])
            depth += 1
        return chosen

    def _cut(self, chosen: Sequence[_Entry], deliveries: list[Delivery]) -> list[Delivery]:
        """Leave what is too many bytes for the next time, and take the rest out of the queues."""
        size = 0
        taken: list[Delivery] = []
        for delivery in deliveries:
            size += len(delivery.body)
            if taken and size > MAX_BYTES:
                break
            taken.append(delivery)
        positions = {each.position for each in taken}
        for org in {entry.org for entry in chosen}:
            queue = self._tenants[org]
            while queue and queue[0].place.position in positions:
                queue.popleft()
                self._seen -= 1
            if not queue:
                del self._tenants[org]
        return taken


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
