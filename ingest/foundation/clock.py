"""Time, as an argument: no other module reads the machine's clock.

Wall-clock time enters SQL as a parameter, never as `now()`, so that a test or a simulated clock can set
it. Timeouts and leases use the monotonic clock of the event loop instead.
"""

from __future__ import annotations

import mmap
import os
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from slotwire.ingest.foundation.errors import ConfigurationError

if TYPE_CHECKING:
    from slotwire.ingest.foundation.settings import Settings

_SECONDS_AHEAD = struct.Struct("<d")


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


class FollowingClock:
    """The machine's clock, moved ahead as far as the simulator's is: it says so in a file, which is read each time."""

    def __init__(self, file: Path) -> None:
        """Open the file that `show_ahead` wrote.

        Raises:
            ConfigurationError: there is none.
        """
        try:
            with file.open("rb") as opened:
                self._shown = mmap.mmap(opened.fileno(), _SECONDS_AHEAD.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"SLOTWIRE_LOCAL__CLOCK_FILE cannot be read: {getattr(error, 'strerror', None) or error}",
                remedy="Start the simulator first: slotwire simulate serve --clock-file FILE",
            ) from error

    def now(self) -> datetime:
        """Return the simulator's time in UTC."""
        (ahead,) = _SECONDS_AHEAD.unpack_from(self._shown)
        return datetime.now(UTC) + timedelta(seconds=ahead)


def show_ahead(file: Path, by: timedelta) -> None:
    """Say in a file how far a clock is ahead of the machine's, for every `FollowingClock` of it.

    It is written in place, in one piece: those who have it open go on reading it.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, _SECONDS_AHEAD.pack(by.total_seconds()), 0)
    finally:
        os.close(descriptor)


def clock_of(settings: Settings) -> Clock:
    """Return the clock of a process: the machine's, or on the local stack the simulator's.

    Raises:
        ConfigurationError: the simulator has not written the file of the settings.
    """
    file = settings.local.clock_file
    return SystemClock() if file is None else FollowingClock(file)


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


def first_id(at: datetime) -> UUID:
    """Return the least id that `ordered_id` may have made at a time, to the millisecond."""
    return UUID(int=max(int(at.timestamp() * 1000), 0) << 80 & _FREE_BITS | _VERSION_7)
