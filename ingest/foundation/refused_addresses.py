"""What refusals cost one address that sends bad keys: the first are answered at once, more of them late.

So guessing and flooding are slow. An address's good keys are not slowed: every key is looked up first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from slotwire.ingest.foundation.errors import RequestRefused

TOO_MANY = "too_many_refusals"
"""The code of a request that is refused because its caller was refused too often."""
MAX_ADDRESSES = 10_000
"""Addresses whose refusals are counted; those that were refused longest ago are forgotten first."""
WINDOW_SECONDS = 60.0
"""The time in which an address's refusals are counted."""


@dataclass(slots=True)
class RefusedAddresses:
    """Counts bad keys by the address of the sender, and lets those past the limit wait.

    Attributes:
        free: refusals of an address in a minute that are answered at once.
        seconds: how long another one waits for its answer.
        waiting: how many wait at once; another one is answered 429 at once.
        now: the monotonic time in seconds.
        pause: waits so many seconds.
    """

    free: int
    seconds: float
    waiting: int
    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    _seen: dict[str, tuple[float, int]] = field(default_factory=dict)
    _held: int = 0

    async def refuse(self, address: str | None) -> None:
        """Count a refusal, and wait if the address had too many.

        Raises:
            RequestRefused: too many wait already (`too_many_refusals`).
        """
        if not self.is_past_limit(_network(address)):
            return
        if self._held >= self.waiting:
            raise too_many()
        self._held += 1
        try:
            await self.pause(self.seconds)
        finally:
            self._held -= 1

    def is_past_limit(self, network: str) -> bool:
        """Count a refusal of a network, and return whether it had more than the free ones in its window."""
        now = self.now()
        since, count = self._seen.pop(network, (now, 0))
        if now - since >= WINDOW_SECONDS:
            since, count = now, 0
        self._seen[network] = (since, count + 1)
        if len(self._seen) > MAX_ADDRESSES:
            del self._seen[next(iter(self._seen))]
        return count + 1 > self.free


def _network(address: str | None) -> str:
    """Return who counts as one sender: an IPv4 address, or the /64 that an IPv6 address is of."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))


def too_many() -> RequestRefused:
    """Return the refusal of a caller that was refused too often."""
    return RequestRefused(
        "too many requests of this caller were refused",
        code=TOO_MANY,
        remedy="Correct what they were refused for, and wait a moment.",
    )
