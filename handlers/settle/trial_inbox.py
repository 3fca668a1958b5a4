"""The inbox of a trial, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from slotwire.handlers.settle.inbox import AlreadyDone, NotCommitted

_LEFT = "its run had ended"


class MemoryInbox:
    """The inbox of a trial, in memory.

    Attributes:
        settled: the identifiers of settled events.
        data: the data of events whose records were published without it, by identifier.
    """

    def __init__(self, connection: Any = None) -> None:
        self.settled: set[UUID] = set()
        self.data: dict[UUID, bytes] = {}
        self._connection = connection
        self._loop: asyncio.AbstractEventLoop | None = None
        self._locks: dict[UUID, asyncio.Lock] = {}
        self._open: dict[UUID, object] = {}

    @property
    def is_here(self) -> bool:
        """Whether the running loop is the one that events are handled in."""
        return self._loop in (None, asyncio.get_running_loop())

    async def seen(self, event_id: UUID) -> bool:
        """Say whether the event was settled."""
        self._loop = asyncio.get_running_loop()
        return event_id in self.settled

    async def mark(self, event_id: UUID) -> None:
        """Mark the event as settled; marking it twice is no error."""
        self.settled.add(event_id)

    def undo(self, event_id: UUID, connection: Any) -> None:
        """End the transaction that a run has left behind: it marks nothing, and holds up no other run."""
        del connection
        self._open.pop(event_id, None)
        self._locks.pop(event_id, None)

    async def data_of(self, event_id: UUID) -> bytes | None:
        """Return the data of an event whose record was published without it."""
        return self.data.get(event_id)

    @asynccontextmanager
    async def transaction(self, event_id: UUID) -> AsyncGenerator[Any, None]:
        """Stand in for a transaction: a second run of the event waits, then skips. An exception undoes the mark."""
        if self._connection is None:
            raise RuntimeError("this handler opens a transaction: pass connection= to Trial")
        async with self._locks.setdefault(event_id, asyncio.Lock()):
            if event_id in self.settled:
                raise AlreadyDone
            this = self._open[event_id] = object()
            yield self._connection
            if self._open.pop(event_id, None) is not this:
                raise NotCommitted(_LEFT)
            self.settled.add(event_id)
