"""What a request asks for, checked against what its agent and user may see; and the cursors it is answered with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.mcp.events.catalogue import canonical, read_arguments
from slotwire.ingest.mcp.events.cursors import CursorScope, EventCursors, LogPlace
from slotwire.ingest.mcp.events.occurrences import LogEvent, WantedEvents
from slotwire.ingest.mcp.events.profiles import EventsProblem, EventsRefused, WireProfile, profile_of
from slotwire.ingest.mcp.events.published import PublishedLog
from slotwire.ingest.mcp.principal import AgentPrincipal
from slotwire.schemas.events import BY_TYPE
from slotwire.schemas.ids import last_segment

MAX_AGE_LIMIT_MS = 2**53
"""A longer `maxAgeMs` is refused; no log is that old."""


@dataclass(frozen=True)
class EventsRequest:
    """What is asked for.

    Attributes:
        wanted: what the agent may see of it.
        shard: of its organization.
        scope: what its cursors are bound to.
        profile: how it is answered.
    """

    wanted: WantedEvents
    shard: int
    scope: CursorScope
    profile: WireProfile


class ReadStart(NamedTuple):
    """Where an answer begins.

    Attributes:
        position: everything up to it is passed.
        seen_at: when nothing was published after it; None where that is not known.
        truncated: whether something after the cursor that was sent is passed over.
    """

    position: int
    seen_at: datetime | None
    truncated: bool


class EventsRequests:
    """Checks requests."""

    def __init__(self, log: PublishedLog, cursors: EventCursors, clock: Clock) -> None:
        self.log = log
        self._cursors = cursors
        self._clock = clock

    async def asked(self, principal: AgentPrincipal, name: object, arguments: object) -> EventsRequest:
        """Check what is asked for.

        Raises:
            EventsRefused: the type does not exist for this agent, the arguments do not fit it, or the user is not
                connected any more.
            DatabaseUnavailable: Postgres is away.
        """
        if not isinstance(name, str) or name not in BY_TYPE or name not in principal.event_types:
            raise EventsRefused(
                EventsProblem.NOT_FOUND,
                "there are no events of this name; events/list has those there are",
                kind="event",
            )
        text = canonical(arguments)
        read = read_arguments(name, arguments)
        org = last_segment(principal.organization)
        sight = await self.log.sight(org, principal.user)
        if sight is None:
            raise EventsRefused(EventsProblem.FORBIDDEN, "the user is not connected any more; connect them again")
        user = None if sight.whole else principal.user
        wanted = WantedEvents(org, name, user, principal.chain, MappingProxyType(dict(read)))
        return EventsRequest(
            wanted, sight.shard, CursorScope(principal.identity, name, text), profile_of(principal.profile)
        )

    async def start(self, asked: EventsRequest, cursor: object) -> ReadStart:
        """Find where to begin: where a cursor stands, now without one, or at the first event that is still kept.

        Raises:
            EventsRefused: the cursor is not one of this agent and user for these arguments.
            DatabaseUnavailable: Postgres is away.
        """
        if cursor is not None and not isinstance(cursor, str):
            raise EventsRefused(EventsProblem.INVALID_PARAMS, "cursor must be a text or null")
        place = None if cursor is None else self._cursors.read(cursor, asked.scope)
        heads = await self.log.heads()
        head = heads.shards[asked.shard]
        if place is None or place.log_id != heads.log_id or asked.shard not in place.positions:
            return ReadStart(head.position, head.seen_at, truncated=place is not None)
        position = place.positions[asked.shard]
        first = await self.log.first_kept(position, place.seen_at, head.position)
        return (
            ReadStart(position, place.seen_at, truncated=False)
            if first is None
            else ReadStart(first, None, truncated=True)
        )

    def cursor(self, shard: int, scope: CursorScope, position: int, seen_at: datetime | None) -> str:
        """Write a cursor for a position of the log, which somebody has begun to read."""
        return self._cursors.write(LogPlace(self.log.log_id, MappingProxyType({shard: position}), seen_at), scope)

    def not_before(self, max_age_ms: object) -> datetime | None:
        """Read `maxAgeMs`: the time before which events are passed over.

        Raises:
            EventsRefused: it is no whole number, or below 0.
        """
        if max_age_ms is None:
            return None
        if type(max_age_ms) is not int or not 0 <= max_age_ms <= MAX_AGE_LIMIT_MS:
            raise EventsRefused(EventsProblem.INVALID_PARAMS, "maxAgeMs must be a whole number of milliseconds")
        oldest = datetime.min.replace(tzinfo=self._clock.now().tzinfo)
        try:
            return self._clock.now() - timedelta(milliseconds=max_age_ms)
        except OverflowError:
            return oldest


def young_enough(events: Sequence[LogEvent], not_before: datetime | None) -> tuple[list[LogEvent], bool]:
    """Leave out what came in before a time; and say whether anything was left out."""
    kept = [event for event in events if not_before is None or event.recorded_at >= not_before]
    return kept, len(kept) < len(events)
