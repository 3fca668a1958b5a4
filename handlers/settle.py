"""Which offset of a partition may be committed: that of the first record that is not settled. Pure.

A commit names the offset of the next record to be delivered. That offset is never computed by adding one to a settled
record's: markers of transactions and aborted records take offsets too, and compaction leaves gaps. It is the offset
of the first delivered record that is not settled, or, with nothing in flight, the client's own position.
"""

from __future__ import annotations

from collections import deque

MAX_TRACKED = 10_000
"""The most records of a partition from the first unsettled one on. After a crash they would all be delivered again."""


class OffsetLedger:
    """The offsets of one partition, in the order their records were delivered, and which of them are settled.

    Attributes:
        position: the offset at which the client continues to read, as of the last `advance`; None before it.
    """

    def __init__(self) -> None:
        self.position: int | None = None
        self._order: deque[int] = deque()
        self._open: set[int] = set()

    def __len__(self) -> int:
        """Count the records in flight, and the settled ones after the first of them."""
        return len(self._order)

    @property
    def unsettled(self) -> int:
        """Count the records in flight."""
        return len(self._open)

    def deliver(self, offset: int) -> None:
        """Note a record as delivered.

        Raises:
            ValueError: the offset is not greater than the last one.
        """
        if self._order and offset <= self._order[-1]:
            raise ValueError(f"offset {offset} was delivered after {self._order[-1]}")
        self._order.append(offset)
        self._open.add(offset)

    def advance(self, position: int) -> None:
        """Note the offset at which the client continues to read, after all it has read was delivered."""
        self.position = position

    def settle(self, offset: int) -> None:
        """Mark a delivered record as settled: done, skipped or dead-lettered.

        Raises:
            ValueError: the record is not in flight.
        """
        if offset not in self._open:
            raise ValueError(f"offset {offset} is not in flight")
        self._open.remove(offset)
        while self._order and self._order[0] not in self._open:
            self._order.popleft()

    def committable(self) -> int | None:
        """Return the offset to commit, or None before the first record or position is known."""
        return self._order[0] if self._order else self.position
