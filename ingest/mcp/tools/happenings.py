"""Events as tools, for hosts that know no MCP Events, or wake an agent without an event's data."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.mcp.events.feed import Follower
from slotwire.ingest.mcp.events.occurrences import LogEvent
from slotwire.ingest.mcp.events.profiles import EventsRefused
from slotwire.ingest.mcp.events.published import RANGE, READ_EVENTS
from slotwire.ingest.mcp.events.requests import EventsRequest
from slotwire.ingest.mcp.principal import AgentPrincipal
from slotwire.ingest.mcp.tools.results import ToolAnswer
from slotwire.ingest.mcp.tools.table import (
    DEFAULT_ITEMS,
    LIMIT,
    LIST_OUTPUT,
    OPERATE,
    PAGE,
    READ,
    SCHEDULE,
    Tool,
    argument,
)
from slotwire.ingest.mcp.tools.toolbox import Call

if TYPE_CHECKING:
    from slotwire.ingest.mcp.events.service import McpEvents

MAX_PAGES = 10
"""Pages of the log that one call reads for each type, from yesterday on; where there are more it looks back instead."""
MAX_LOOKS = 20
"""Pages that one call reads for each type looking back from the newest event."""
WIDER = 8
"""By how much it looks further back each time: the last look of them goes over a whole day's positions."""
WAIT_SECONDS = 25
"""How long one call waits at the most: clients give up after 30 s or more."""
_ALL = frozenset({READ, SCHEDULE, OPERATE})
_TYPE = argument(
    "type", maxLength=200, description="The type of the events, for example com.calendly.invitee.created.v1."
)

HAPPENINGS: Mapping[str, Tool] = MappingProxyType(
    {
        each.name: each
        for each in (
            Tool(
                name="get_recent_events",
                description="Read what has happened since yesterday: the newest last. Or one event by its id. With a"
                " type, `next_page` goes on from there at any later time.",
                properties={
                    "type": _TYPE,
                    "event_id": argument("event_id", format="uuid", description="Only this event."),
                    "limit": LIMIT,
                    "page": PAGE,
                },
                output=LIST_OUTPUT,
                presets=_ALL,
                of_chains=True,
            ),
            Tool(
                name="wait_for_event",
                description="Wait until something of a type happens, or the time is over. `next_page` goes on from"
                " there, so that nothing between two calls is missed.",
                properties={
                    "type": _TYPE,
                    "seconds": argument(
                        "seconds", type="integer", minimum=1, maximum=WAIT_SECONDS, default=WAIT_SECONDS
                    ),
                    "page": PAGE,
                },
                required=("type",),
                output=LIST_OUTPUT,
                presets=_ALL,
                of_chains=True,
            ),
        )
    }
)
"""The tools, by name."""


@dataclass(frozen=True, slots=True)
class HappeningsBench:
    """The tools that read what is published: the same events, ids and cursors as by MCP Events."""

    events: McpEvents

    @property
    def tools(self) -> Mapping[str, Tool]:
        """All of them."""
        return HAPPENINGS

    async def run(self, call: Call) -> ToolAnswer:
        """Run one of them."""
        try:
            if call.tool.name == "wait_for_event":
                return await self._wait(call.who, call.arguments)
            if call.arguments.get("page") is not None:
                return await self._page(call.who, call.arguments)
            return await self._recent(call.who, call.arguments)
        except EventsRefused as refused:
            raise RequestRefused(refused.message, code="request_refused") from None

    async def _page(self, who: AgentPrincipal, arguments: Mapping[str, Any]) -> ToolAnswer:
        limit = arguments.get("limit", DEFAULT_ITEMS)
        asked = {"name": arguments.get("type"), "cursor": arguments["page"], "maxEvents": limit}
        found = await self.events.poll(who, asked)
        return ToolAnswer(items=found["events"], next_page=found["cursor"], target=who.organization)

    async def _recent(self, who: AgentPrincipal, arguments: Mapping[str, Any]) -> ToolAnswer:
        chosen, wanted_id = arguments.get("type"), arguments.get("event_id")
        limit = arguments.get("limit", DEFAULT_ITEMS) if wanted_id is None else 1
        newest: list[LogEvent] = []
        cursor = None
        for name in sorted(who.event_types) if chosen is None else [chosen]:
            asked = await self.events.requests.asked(who, name, None)
            head = (await self.events.log.heads()).shards[asked.shard]
            start = position = max(head.position // RANGE - 1, 0) * RANGE
            kept: deque[LogEvent] = deque(maxlen=limit)
            for _ in range(MAX_PAGES):
                page = await self.events.log.of(asked.wanted, asked.shard, position, head.position)
                kept.extend(each for each in page.events if asked.wanted.has(each) and _is(each, wanted_id))
                position = page.reached
                if position >= head.position:
                    break
            if position < head.position and not (wanted_id and kept):
                kept = await self._looking_back(asked, start, head.position, limit, wanted_id)
            newest += kept
            cursor = self.events.requests.cursor(asked.shard, asked.scope, max(position, head.position), None)
        newest.sort(key=lambda event: event.position)
        items = [event.occurrence for event in newest[-limit:]]
        return ToolAnswer(items=items, next_page=None if chosen is None else cursor, target=who.organization)

    async def _looking_back(
        self, asked: EventsRequest, start: int, head: int, limit: int, wanted_id: str | None
    ) -> deque[LogEvent]:
        """Read the newest of very many: in windows that grow, and shrink where one has more than a page of events."""
        kept: deque[LogEvent] = deque(maxlen=limit)
        upto, width = head, READ_EVENTS
        for _ in range(MAX_LOOKS):
            after = max(upto - width, start)
            page = await self.events.log.of(asked.wanted, asked.shard, after, upto)
            if page.reached < upto:
                width = max(width // WIDER, 1)
                continue
            # Whoever shares the reading may have asked for more than this window.
            events = [each for each in page.events if each.position <= upto]
            found = [each for each in events if asked.wanted.has(each) and _is(each, wanted_id)]
            kept = deque([*found, *kept], maxlen=limit)
            if len(kept) == limit or after == start:
                break
            upto, width = after, width * WIDER
        return kept

    async def _wait(self, who: AgentPrincipal, arguments: Mapping[str, Any]) -> ToolAnswer:
        asked = await self.events.requests.asked(who, arguments["type"], None)
        start = await self.events.requests.start(asked, arguments.get("page"))
        follower = Follower(self.events.feed, asked.wanted, asked.shard, start.position, start.seen_at)
        loop = asyncio.get_running_loop()
        until = loop.time() + arguments.get("seconds", WAIT_SECONDS)
        try:
            while not (found := await follower.read()) and loop.time() < until and not self.events.is_stopping:
                if not follower.is_behind:
                    await wait_for(follower.bell, min(1.0, max(0.0, until - loop.time())))
        finally:
            follower.leave()
        grant = await self.events.access.grant(who.agent, who.user)
        if grant is None or not grant.covers(asked.wanted):
            raise RequestRefused("what this agent had was taken from it", code="access_revoked")
        cursor = self.events.requests.cursor(asked.shard, asked.scope, follower.position, follower.seen_at)
        return ToolAnswer(items=[each.occurrence for each in found], next_page=cursor, target=who.organization)


def _is(event: LogEvent, wanted: str | None) -> bool:
    return wanted is None or str(event.id) == wanted.lower()
