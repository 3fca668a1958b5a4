"""What refusals cost: one address that sends bad keys, and one key whose changes are refused again and again.

An address gets its first refusals at once; more of them come late, so that guessing and flooding are slow. Its good
keys are not slowed: every key is looked up first.

A key's first refused changes have a row of the audit each. More of them are counted, and the counts become rows of
their own (`times`), so that nobody can fill a table from which nothing is removed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.operate.roles import Principal

TOO_MANY = "too_many_refusals"
"""The code of a request that is refused because its caller was refused too often."""
MAX_ADDRESSES = 10_000
"""Addresses whose refusals are counted; those that were refused longest ago are forgotten first."""
WINDOW_SECONDS = 60.0
"""The time in which an address's refusals are counted."""
ROWS = 30
"""Refused changes of one key that get a row each before they are counted."""
ROW_SECONDS = 10.0
"""After this time a key gets one more row of its own."""
MAX_COUNTS = 10_000
"""Different refusals that are counted until their rows are written; another one gets its own row."""


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


class Refusal(NamedTuple):
    """What refused changes are counted by."""

    key_id: UUID
    role: str
    org: str | None
    action: str
    code: str


@dataclass(slots=True)
class RefusedChanges:
    """Gives each key's refused changes rows of the audit, a few at once and then one now and then, and counts the rest.

    Attributes:
        rows: how many at once.
        now: the monotonic time in seconds.
    """

    rows: int = ROWS
    now: Callable[[], float] = time.monotonic
    _left: dict[UUID, tuple[float, float]] = field(default_factory=dict)
    _counts: dict[Refusal, int] = field(default_factory=dict)

    def has_room(self, who: Principal) -> bool:
        """Return whether a refusal of this caller would have a row of its own. Callers without a key always have."""
        return who.key_id is None or self._room(who.key_id) >= 1

    def take(self, who: Principal) -> None:
        """Note that a refusal of this caller got a row of its own."""
        if who.key_id is not None:
            self._left[who.key_id] = (self._room(who.key_id) - 1, self.now())

    def count(self, who: Principal, org: str | None, action: str, code: str) -> bool:
        """Count a refusal that gets no row of its own; return False if there is no room to count it."""
        if who.key_id is None:
            return False
        refusal = Refusal(who.key_id, who.role, org, action, code)
        if refusal not in self._counts and len(self._counts) >= MAX_COUNTS:
            return False
        self._counts[refusal] = self._counts.get(refusal, 0) + 1
        return True

    def take_counts(self) -> Mapping[Refusal, int]:
        """Return what was counted, and begin again."""
        counted, self._counts = self._counts, {}
        return counted

    def put_back(self, counted: Mapping[Refusal, int]) -> None:
        """Add counts again whose rows could not be written."""
        for refusal, times in counted.items():
            self._counts[refusal] = self._counts.get(refusal, 0) + times

    def _room(self, key_id: UUID) -> float:
        left, at = self._left.get(key_id, (float(self.rows), 0.0))
        room = min(float(self.rows), left + (self.now() - at) / ROW_SECONDS)
        if room >= self.rows:
            self._left.pop(key_id, None)
        return room


def too_many() -> RequestRefused:
    """Return the refusal of a caller that was refused too often."""
    return RequestRefused(
        "too many requests of this caller were refused",
        code=TOO_MANY,
        remedy="Correct what they were refused for, and wait a moment.",
    )
