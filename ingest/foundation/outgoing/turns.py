"""How many requests at once, and in a second, one process makes to one destination."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

from slotwire.ingest.foundation.errors import OutgoingFailed

WAIT_SECONDS = 5.0
"""The longest wait for a turn; then the request fails, and whoever made it tries again later."""
MAX_IDLE_DESTINATIONS = 1_000
"""Of so many destinations it is remembered when they were last asked."""


@dataclass(slots=True)
class _Destination:
    """One destination.

    Attributes:
        slots: one for each request at once.
        free_at: the monotonic time from which its next second is free.
        users: requests that wait or run.
    """

    slots: asyncio.Semaphore
    free_at: float = 0.0
    users: int = field(default=0)


class Turns:
    """Gives turns, first come, first served at each destination."""

    def __init__(
        self,
        *,
        at_once: int,
        per_second: float,
        timer: Callable[[], float] = monotonic,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Take the limits.

        Args:
            at_once: the most requests at once.
            per_second: the most in a second; as many as fit into one second may come together.
            timer: the monotonic time.
            pause: waits.
        """
        self._at_once = at_once
        self._between = 1 / per_second
        self._together = max(1.0, per_second) * self._between
        self._timer = timer
        self._pause = pause
        self._known: dict[str, _Destination] = {}

    @asynccontextmanager
    async def taken(self, destination: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it while the block runs.

        Raises:
            OutgoingFailed: `limited`: none was free in time.
        """
        known = self._find(destination)
        known.users += 1
        try:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await known.slots.acquire()
            except TimeoutError:
                raise _limited() from None
            try:
                await self._within_rate(known)
                yield
            finally:
                known.slots.release()
        finally:
            known.users -= 1

    async def _within_rate(self, known: _Destination) -> None:
        now = self._timer()
        free_at = max(known.free_at, now)
        wait = free_at + self._between - self._together - now
        if wait > WAIT_SECONDS:
            raise _limited()
        known.free_at = free_at + self._between
        if wait > 0:
            await self._pause(wait)

    def _find(self, destination: str) -> _Destination:
        known = self._known.pop(destination, None) or _Destination(asyncio.Semaphore(self._at_once))
        self._known[destination] = known  # the latest is last
        if len(self._known) > MAX_IDLE_DESTINATIONS:
            idle = next((name for name, each in self._known.items() if not each.users), destination)
            if idle != destination:
                del self._known[idle]
        return known


def _limited() -> OutgoingFailed:
    return OutgoingFailed(
        f"too many requests wait for the receiver: none of their turns came within {WAIT_SECONDS:g} s",
        reason="limited",
        remedy="It is tried again later. See SLOTWIRE_OUTGOING__PER_SECOND_PER_DESTINATION.",
    )
