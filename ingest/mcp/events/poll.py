"""`events/poll`: one bounded look at the log. Nothing is kept of it, so every replica answers alike."""

from __future__ import annotations

from typing import Any

from slotwire.ingest.mcp.events.occurrences import MAX_BODY_BYTES, LogEvent
from slotwire.ingest.mcp.events.profiles import EventsProblem, EventsRefused
from slotwire.ingest.mcp.events.requests import EventsRequests, young_enough
from slotwire.ingest.mcp.principal import AgentPrincipal

MAX_EVENTS = 200
"""Events of one answer, whatever is asked for."""
DEFAULT_EVENTS = 100
"""Events of one answer where the request does not say."""
MAX_ANSWER_BYTES = 4 * MAX_BODY_BYTES
"""Their bytes, about."""
NEXT_POLL_MS = 5_000
"""When a client that has everything is to ask again."""


class Poll:
    """Answers `events/poll`."""

    def __init__(self, requests: EventsRequests) -> None:
        self._requests = requests

    async def __call__(self, principal: AgentPrincipal, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a request.

        Raises:
            EventsRefused: see `Requests`; or `maxEvents` is none.
            DatabaseUnavailable: Postgres is away.
        """
        asked = await self._requests.asked(principal, params.get("name"), params.get("arguments"))
        limit = _limit(params.get("maxEvents"))
        not_before = self._requests.not_before(params.get("maxAgeMs"))
        start = await self._requests.start(asked, params.get("cursor"))
        head = (await self._requests.log.heads()).shards[asked.shard]
        page = await self._requests.log.of(asked.wanted, asked.shard, start.position, head.position)
        found = [event for event in page.events if asked.wanted.has(event)]
        found, aged = young_enough(found, not_before if params.get("cursor") is not None else None)
        taken = _within(found, limit)
        reached = taken[-1].position if len(taken) < len(found) else max(start.position, page.reached)
        has_more = reached < head.position
        seen_at = head.seen_at if reached == head.position else start.seen_at if reached == start.position else None
        return {
            "events": [event.occurrence for event in taken],
            "cursor": self._requests.cursor(asked.shard, asked.scope, reached, seen_at),
            "truncated": start.truncated or aged,
            "hasMore": has_more,
            "nextPollMs": NEXT_POLL_MS,
        }


def _limit(most: object) -> int:
    if most is None:
        return DEFAULT_EVENTS
    if type(most) is not int or most < 1:
        raise EventsRefused(EventsProblem.INVALID_PARAMS, "maxEvents must be a whole number from 1 on")
    return min(most, MAX_EVENTS)


def _within(events: list[LogEvent], limit: int) -> list[LogEvent]:
    """Take events from the beginning, at least one, up to a number and a size."""
    taken: list[LogEvent] = []
    size = 0
    for event in events[:limit]:
        size += len(event.raw)
        if taken and size > MAX_ANSWER_BYTES:
            break
        taken.append(event)
    return taken
