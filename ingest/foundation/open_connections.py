"""The open connections of a listener: how many there may be, and which one gives way to a newcomer.

A connection either waits for its client (for a request, for the rest of one, or for its answers to be read), or we are
at work for it. At the cap, a newcomer takes the place of the connection that has waited longest; one that we are at
work for is never closed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.throttle import Throttle

HEADER_SECONDS = 10.0
"""How long a request's header may take from its first octet, and that of a new connection from the start."""
KEEP_ALIVE_SECONDS = 75.0
"""How long a connection stays open without a request. Proxies keep theirs for 60 s, and must be the first to close."""
UNREAD_SECONDS = 10.0
"""How long a client may leave its answers unread once they fill the buffers."""
MAX_HEADER_BYTES = 8_192
"""Octets of a request's header, where no setting says otherwise."""


class ConnectionRefusal(StrEnum):
    """Why a listener closed a connection, or refused what could not be read."""

    NO_ROOM = "no_room"
    """As many are open as may be, and we are at work for all of them."""
    MADE_ROOM = "made_room"
    """It had waited longest when a newcomer came at the cap."""
    HEADER_TIME = "header_time"
    """Its header did not come in time."""
    HEADER_SIZE = "header_size"
    """Its header is too large."""
    FRAMING = "framing"
    """Its body comes in too many pieces."""
    UNREAD = "unread"
    """Its client does not read the answers."""
    UNREADABLE = "unreadable"
    """What it sent is not HTTP/1."""


class Waiting(Protocol):
    """A connection, as far as its place among the others goes."""

    def refuse(self, reason: ConnectionRefusal) -> None:
        """Close it at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """What one listener allows.

    Attributes:
        name: in metrics and logs: `hooks`, `admin`, `health`.
        max_connections: open connections.
        max_header_bytes: octets of one header.
        header_seconds: as `HEADER_SECONDS`; so are the others.
    """

    name: str
    max_connections: int
    max_header_bytes: int = MAX_HEADER_BYTES
    header_seconds: float = HEADER_SECONDS
    keep_alive_seconds: float = KEEP_ALIVE_SECONDS
    unread_seconds: float = UNREAD_SECONDS


class OpenConnections:
    """The open connections of one listener: how many, which of them wait for their client, and what runs.

    Attributes:
        limits: of the listener.
        draining: the listener is about to close.
        said: what was logged just now.
    """

    def __init__(self, limits: ListenerLimits) -> None:
        self.limits = limits
        self.draining = False
        self.said = Throttle()
        self._open: set[Waiting] = set()
        # The longest wait first. A connection that has brought something of worth is closed after all that have not.
        self._strangers: OrderedDict[Waiting, None] = OrderedDict()
        self._proven: OrderedDict[Waiting, None] = OrderedDict()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._gone = asyncio.Event()
        self._gone.set()

    def __len__(self) -> int:
        return len(self._open)

    def enter(self) -> None:
        """Count a request that begins."""
        self._running += 1
        self._idle.clear()

    def leave(self) -> None:
        """Count a request that has ended."""
        self._running -= 1
        if self._running == 0:
            self._idle.set()

    def admit(self, connection: Waiting) -> bool:
        """Take in a new connection, and make room for it if need be; return False if there is none."""
        if len(self._open) >= self.limits.max_connections and not self._make_room():
            return False
        self._open.add(connection)
        self._gone.clear()
        return True

    def waits(self, connection: Waiting, *, proven: bool) -> None:
        """Put a connection last among those that wait for their client."""
        if connection in self._open:
            (self._proven if proven else self._strangers)[connection] = None

    def works(self, connection: Waiting) -> None:
        """Take a connection out of those that wait: we are at work for it."""
        self._strangers.pop(connection, None)
        self._proven.pop(connection, None)

    def forget(self, connection: Waiting) -> None:
        """Count a connection's end."""
        self._open.discard(connection)
        self.works(connection)
        if not self._open:
            self._gone.set()

    def _make_room(self) -> bool:
        waiting = self._strangers or self._proven
        if not waiting:
            return False
        longest = next(iter(waiting))
        self.forget(longest)
        longest.refuse(ConnectionRefusal.MADE_ROOM)
        return True

    async def until_gone(self, seconds: float) -> None:
        """Wait until no connection is open, for at most `seconds`."""
        await wait_for(self._gone, seconds)

    async def until_idle(self) -> None:
        """Wait until no request runs."""
        await self._idle.wait()
