"""Which offset of a partition may be committed: that of the first record that is not settled. Pure.

A commit names the offset of the next record to be delivered. That offset is never computed by adding one to a settled
record's: markers of transactions and aborted records take offsets too, and compaction leaves gaps. It is the offset
of the first delivered record that is not settled, or, with nothing in flight, the client's own position.

The records settled behind that one are remembered with the commit, as a bitmap from its offset on, so that they are not
handled again after a crash.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Set as AbstractSet

MAX_TRACKED = 10_000
"""The most records of a partition from the first unsettled one on. After a crash they would all be delivered again."""


MAX_REMEMBERED = 16_384
"""How far behind a committed offset settled records are remembered, in offsets: 2,732 of the 4,096 characters that a
broker takes with a commit (its `offset.metadata.max.bytes`)."""
_FORM = "settled:"


class OffsetLedger:
    """The offsets of one partition, in the order their records were delivered, and which of them are settled.

    Attributes:
        position: the offset at which the client continues to read, as of the last `advance`; None before it.
    """

    def __init__(self) -> None:
        self.position: int | None = None
        self._remembered: set[int] = set()
        self._order: deque[int] = deque()
        self._open: set[int] = set()

    def __len__(self) -> int:
        """Count the records in flight, and the settled ones after the first of them."""
        return len(self._order)

    @property
    def unsettled(self) -> int:
        """Count the records in flight."""
        return len(self._open)

    def remember(self, offsets: AbstractSet[int]) -> None:
        """Take over what an earlier member had settled, before the first record is delivered."""
        self._remembered = set(offsets)

    def deliver(self, offset: int) -> bool:
        """Note a record as delivered.

        Returns:
            Whether it is in flight now; False for one that an earlier member had settled.

        Raises:
            ValueError: the offset is not greater than the last one.
        """
        if self._order and offset <= self._order[-1]:
            raise ValueError(f"offset {offset} was delivered after {self._order[-1]}")
        if offset in self._remembered:
            self._remembered.remove(offset)
            if self._order:
                self._order.append(offset)
            return False
        self._order.append(offset)
        self._open.add(offset)
        return True

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

    def settled_behind(self) -> str:
        """Write the offsets that are settled behind the one to commit, as text; empty for none."""
        first = self.committable()
        if first is None or not (self._remembered or len(self._order) > len(self._open)):
            return ""
        settled = [offset for offset in self._order if offset not in self._open]
        return write_settled(first, {*settled, *self._remembered})


def write_settled(first: int, offsets: AbstractSet[int]) -> str:
    """Write offsets behind a committed one as text; those that are too far behind it are left out."""
    bits = 0
    for offset in offsets:
        if first < offset <= first + MAX_REMEMBERED:
            bits |= 1 << (offset - first - 1)
    if not bits:
        return ""
    return _FORM + base64.b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode()


def read_settled(first: int, text: str) -> frozenset[int]:
    """Read what `write_settled` wrote for this offset; anything else is nothing."""
    if not text.startswith(_FORM):
        return frozenset()
    try:
        found = base64.b64decode(text.removeprefix(_FORM), validate=True)
    except binascii.Error:
        return frozenset()
    return frozenset(
        first + 1 + 8 * place + bit for place, byte in enumerate(found) for bit in range(8) if byte >> bit & 1
    )
