"""From the writer to the publisher, in memory: what was just appended need not be read from the log again.

It is given to a publisher that has published everything before it. Where anything is missing (the publisher was away,
or so much waited that it was let go), the log is read instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from slotwire.ingest.log.batch import EventRow
from slotwire.ingest.log.writer import Appended

MAX_EVENTS = 2_000
"""Events held; past it all are let go, and the log has them."""
MAX_BYTES = 8_388_608
"""Bytes of data held; past it as above."""


class Handoff:
    """The events between the writer and the publisher of one shard.

    Attributes:
        end: the position of the last event of the log, as far as the writer knows.
        placed: set when the publisher has read its cursor, or could not.
        arrived: set when something was appended.
        closed: set when the writer appends nothing more.
    """

    def __init__(self) -> None:
        self.end = 0
        self.placed = asyncio.Event()
        self.arrived = asyncio.Event()
        self.closed = asyncio.Event()
        self._held: deque[tuple[int, int, EventRow]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        """Count the events held."""
        return len(self._held)

    def begin(self, end: int) -> None:
        """The writer took over; the log ends here."""
        self.clear()
        self.end = end
        self.arrived.set()

    def add(self, appended: Appended) -> None:
        """Take over what was appended."""
        after = appended.after
        if after != self.end:
            self.clear()
        for row, position in zip(appended.rows, appended.positions, strict=True):
            self._held.append((after, position, row))
            self._bytes += len(row.data)
            after = position
        self.end = after
        if len(self._held) > MAX_EVENTS or self._bytes > MAX_BYTES:
            self.clear()
        self.arrived.set()

    def after(self, position: int, limit: int) -> Sequence[tuple[int, EventRow]] | None:
        """Return the events after a position, with theirs; None where the log must be read.

        Args:
            position: everything up to here is published.
            limit: how many at the most.
        """
        while self._held and self._held[0][1] <= position:
            _, _, row = self._held.popleft()
            self._bytes -= len(row.data)
        if position >= self.end:
            return ()
        if not self._held or self._held[0][0] != position:
            return None
        return [(self._held[index][1], self._held[index][2]) for index in range(min(limit, len(self._held)))]

    def clear(self) -> None:
        """Let go of what is held."""
        self._held.clear()
        self._bytes = 0
