"""What of a partition may be committed: everything up to the first record that is not settled. Pure.

A commit names the offset of the next record to be delivered. It is never counted on from a settled record:
markers of transactions and aborted records take offsets too, compaction leaves gaps. So it is the offset of the
first delivered record that is not settled, or, with nothing in flight, the position the client itself is at.
"""

from __future__ import annotations

from collections import deque

MAX_HELD = 10_000
"""Records of a partition that may be settled behind one that is not; they would be delivered again after a crash."""


class Ledger:
    """The records of one partition, in the order they were delivered.

    Attributes:
        position: where the client goes on reading, as told by the last `advance`; None until then.
    """

    def __init__(self) -> None:
        self.position: int | None = None
        self._order: deque[int] = deque()
        self._open: set[int] = set()

    def __len__(self) -> int:
        """Count the records that are in flight, or settled behind one that is."""
        return len(self._order)

    @property
    def unsettled(self) -> int:
        """Count the records in flight."""
        return len(self._open)

    def deliver(self, offset: int) -> None:
        """Note a record as delivered.

        Raises:
            ValueError: it does not come after the last one.
        """
        if self._order and offset <= self._order[-1]:
            raise ValueError(f"offset {offset} was delivered after {self._order[-1]}")
        self._order.append(offset)
        self._open.add(offset)

    def advance(self, position: int) -> None:
        """Note where the client goes on reading, after everything it gave so far was delivered."""
        self.position = position

    def settle(self, offset: int) -> None:
        """Note a delivered record as settled: done, skipped or dead-lettered.

        Raises:
            ValueError: it is not in flight.
        """
        if offset not in self._open:
            raise ValueError(f"offset {offset} is not in flight")
        self._open.remove(offset)
        while self._order and self._order[0] not in self._open:
            self._order.popleft()

    def committable(self) -> int | None:
        """Return the offset to commit, or None while nothing is known."""
        return self._order[0] if self._order else self.position
