"""Time, as an argument: no other module reads the machine's clock.

Wall-clock time enters SQL as a parameter, never as `now()`, so that a test or a simulated clock can set
it. Timeouts and leases use the monotonic clock of the event loop instead.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID


class Clock(Protocol):
    """A source of the current time."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's time in UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that only moves when told to, for tests."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """Return the time it was last set to."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move the clock forward."""
        self._now += by


_FREE_BITS = ~(0xF << 76) & ~(0x3 << 62)
_VERSION_7 = (0x7 << 76) | (0x2 << 62)


def ordered_id(now: datetime) -> UUID:
    """Make an id that sorts by time, to the millisecond (UUID version 7), so that its index grows at one end."""
    milliseconds = int(now.timestamp() * 1000)
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    return UUID(int=value & _FREE_BITS | _VERSION_7)
