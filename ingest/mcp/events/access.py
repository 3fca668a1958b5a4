"""What an agent may still be told for a user: asked before each send, and remembered for less than a second."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID

from slotwire.ingest.mcp.events.occurrences import WantedEvents
from slotwire.ingest.mcp.events.profiles import WireProfile, profile_of
from slotwire.ingest.mcp.events.published import PublishedLog
from slotwire.ingest.mcp.events.together import Together
from slotwire.ingest.mcp.principal import AgentPrincipal, Authority
from slotwire.schemas.ids import last_segment

FRESH_SECONDS = 0.4
"""How long an answer counts: what is revoked stops within a second, also where Postgres takes half of it."""
MAX_REMEMBERED = 20_000
"""Answers in memory."""


@dataclass(frozen=True)
class EventGrant:
    """What an agent may be told for a user.

    Attributes:
        event_types: the types of events.
        whole: of the whole organization; else of what the user hosts.
        profile: how its host is spoken to.
    """

    event_types: frozenset[str]
    whole: bool
    profile: WireProfile

    def covers(self, wanted: WantedEvents) -> bool:
        """Say whether it still has all of what somebody wants."""
        return wanted.name in self.event_types and (self.whole or wanted.user is not None)


class EventAccess:
    """Answers from memory what was asked a moment ago, and asks for many at once.

    Attributes:
        forgotten: how often somebody was said to have less than before.
    """

    def __init__(self, authority: Authority, log: PublishedLog) -> None:
        self._log = log
        self._principals: Together[tuple[UUID, str], AgentPrincipal | None] = Together(authority.now)
        self._known: dict[tuple[UUID, str], tuple[float, asyncio.Future[EventGrant | None]]] = {}
        self.forgotten = 0

    async def grant(self, agent: UUID, user: str) -> EventGrant | None:
        """Say what an agent may be told for a user; None: nothing any more.

        Raises:
            DatabaseUnavailable: Postgres is away; then nothing is sent.
        """
        while True:
            forgotten = self.forgotten
            found = await self._remembered((agent, user))
            if forgotten == self.forgotten:  # else it was asked before something was revoked
                return found

    async def _remembered(self, key: tuple[UUID, str]) -> EventGrant | None:
        now = asyncio.get_running_loop().time()
        known = self._known.get(key)
        if known is None or now - known[0] >= FRESH_SECONDS:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            known = self._known[key] = (now, asyncio.ensure_future(self._look(*key)))
        try:
            # Several may wait for one look: none of them that is cancelled takes it from the others.
            return await asyncio.shield(known[1])
        except BaseException:
            if known[1].done() and self._known.get(key) is known:
                del self._known[key]
            raise

    async def _look(self, agent: UUID, user: str) -> EventGrant | None:
        principal = await self._principals((agent, user))
        if principal is None:
            return None
        sight = await self._log.sight(last_segment(principal.organization), user)
        if sight is None:
            return None
        return EventGrant(principal.event_types, sight.whole, profile_of(principal.profile))

    def forget(self) -> None:
        """Ask anew from now on, and those who wait for an answer too: something was revoked."""
        self.forgotten += 1
        self._known.clear()
