"""The simulator's clock: real time plus an offset that can be moved forward.

Code that waits for a time registers an `asyncio.Event`. Moving the clock sets it, so a day of retries can pass in a
moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slotwire.ingest.foundation.clock import show_ahead

MAX_ADVANCE = timedelta(days=3660)


class DrivenClock:
    """Real time plus `offset`. Satisfies `slotwire.ingest.foundation.clock.Clock`."""

    def __init__(self, offset: timedelta = timedelta(), real: Callable[[], float] = time.time) -> None:
        self._offset = offset
        self._real = real
        self._waiters: list[asyncio.Event] = []
        self._file: Path | None = None

    @property
    def followed(self) -> bool:
        """Whether other processes can go by this clock."""
        return self._file is not None

    def show_in(self, file: Path) -> None:
        """Show in a file how far it is ahead, from now on (`slotwire.ingest.foundation.clock.FollowingClock`)."""
        show_ahead(file, self._offset)
        self._file = file

    @property
    def offset(self) -> timedelta:
        """How far the clock is ahead of real time."""
        return self._offset

    def now(self) -> datetime:
        """Return the simulated time in UTC, with microseconds."""
        return datetime.fromtimestamp(self._real(), UTC) + self._offset

    def advance(self, by: timedelta) -> None:
        """Move forward and set the registered events.

        Raises:
            ValueError: backward, or more than ten years at once.
        """
        if not timedelta() <= by <= MAX_ADVANCE:
            raise ValueError(f"the clock moves forward by 0 to {int(MAX_ADVANCE.total_seconds())} seconds")
        self._offset += by
        if self._file is not None:  # before anything happens at the new time
            show_ahead(self._file, self._offset)
        for event in self._waiters:
            event.set()

    def wakes(self, event: asyncio.Event) -> None:
        """Set `event` whenever the clock is moved."""
        self._waiters.append(event)


def stamp(moment: datetime) -> str:
    """Return a time as Calendly writes it: UTC, microseconds, `Z`."""
    # isoformat is nine times as fast as strftime, and a delivery carries a dozen times.
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
