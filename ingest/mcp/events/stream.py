"""`events/stream`: a request whose answer goes on until one side ends it, as notifications and a last frame."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import DatabaseUnavailable
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.mcp_events_metrics import MCP_EVENT_STREAMS
from slotwire.ingest.mcp.events.access import EventAccess
from slotwire.ingest.mcp.events.feed import Feed, Follower
from slotwire.ingest.mcp.events.occurrences import LogEvent
from slotwire.ingest.mcp.events.profiles import EventsProblem, EventsRefused
from slotwire.ingest.mcp.events.requests import EventsRequest, EventsRequests, young_enough
from slotwire.ingest.mcp.principal import AgentPrincipal

HEARTBEAT_SECONDS = 20.0
"""How often a stream tells how far it has come; SEP-3415 asks for 30 s at the most."""
CHECK_SECONDS = 0.5
"""How often a stream with nothing to send asks whether it may go on."""
MAX_STREAMS = 64
"""Streams of one agent for one user in a process."""
PREFIX = "notifications/events/"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"

Send = Callable[[str, dict[str, Any]], Awaitable[None]]
"""Sends a notification, method and params, to the client of one request."""


class Streams:
    """Answers `events/stream`.

    Attributes:
        stopping: ends all streams.
    """

    def __init__(
        self,
        requests: EventsRequests,
        feed: Feed,
        access: EventAccess,
        clock: Clock,
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.stopping = asyncio.Event()
        self._requests = requests
        self._feed = feed
        self._access = access
        self._clock = clock
        self._heartbeat = heartbeat
        self._open: dict[tuple[str, str], int] = {}
        self._followers: set[Follower] = set()

    def look(self) -> None:
        """Have every stream ask now whether it may go on."""
        for follower in self._followers:
            follower.ring()

    async def __call__(
        self, principal: AgentPrincipal, params: dict[str, Any], request_id: str | int, send: Send
    ) -> dict[str, Any]:
        """Answer a request: returns the last frame.

        Raises:
            EventsRefused: see `Requests`; or the agent has as many streams open as it may.
            DatabaseUnavailable: Postgres is away.
        """
        asked = await self._requests.asked(principal, params.get("name"), params.get("arguments"))
        if "push" not in asked.profile.modes:
            raise EventsRefused(
                EventsProblem.UNSUPPORTED, "this agent's host has no streams", feature="deliveryMode", value="push"
            )
        has_cursor = params.get("cursor") is not None
        not_before = self._requests.not_before(params.get("maxAgeMs")) if has_cursor else None
        start = await self._requests.start(asked, params.get("cursor"))
        identity = principal.identity
        if self._open.get(identity, 0) >= MAX_STREAMS:
            raise EventsRefused(
                EventsProblem.RESOURCE_EXHAUSTED,
                "too many streams are open; close some",
                limit="streams",
                max=MAX_STREAMS,
            )
        self._open[identity] = self._open.get(identity, 0) + 1
        MCP_EVENT_STREAMS.inc()
        follower = Follower(self._feed, asked.wanted, asked.shard, start.position, start.seen_at)
        self._followers.add(follower)
        meta = {SUBSCRIPTION: request_id}

        async def tell(what: str, **told: Any) -> None:
            await send(f"{PREFIX}{what}", {**told, "_meta": {**told.get("_meta", {}), **meta}})

        try:
            await self._run(principal, asked, follower, tell, truncated=start.truncated, not_before=not_before)
        finally:
            follower.leave()
            self._followers.discard(follower)
            MCP_EVENT_STREAMS.dec()
            self._open[identity] -= 1
            if not self._open[identity]:
                del self._open[identity]
        return {"_meta": meta}

    async def _run(
        self,
        principal: AgentPrincipal,
        asked: EventsRequest,
        follower: Follower,
        tell: Callable[..., Awaitable[None]],
        *,
        truncated: bool,
        not_before: datetime | None,
    ) -> None:
        """Send what is published until the token ends, access is revoked, or the process stops."""
        loop = asyncio.get_running_loop()
        await tell("active", cursor=self._cursor(asked, follower), truncated=truncated)
        beat = loop.time() + self._heartbeat
        while self._goes_on(principal):
            if not await self._may(principal, asked):
                problem = EventsProblem.FORBIDDEN
                await tell(
                    "terminated", error={"code": asked.profile.errors[problem], "message": f"{problem}: revoked"}
                )
                return
            events: Sequence[LogEvent] = ()
            try:
                events = await follower.read()
            except DatabaseUnavailable:
                await wait_for(self.stopping, CHECK_SECONDS)
            events, aged = young_enough(events, not_before)
            if aged:
                place = events[0].position - 1 if events else follower.position
                cursor = self._requests.cursor(asked.shard, asked.scope, place, None)
                await tell("active", cursor=cursor, truncated=True)
            for event in events:
                if not self._goes_on(principal) or not await self._may(principal, asked):
                    break
                cursor = self._requests.cursor(asked.shard, asked.scope, event.position, None)
                await tell("event", **event.occurrence, cursor=cursor)
            if loop.time() >= beat:
                await tell("heartbeat", cursor=self._cursor(asked, follower))
                beat = loop.time() + self._heartbeat
            if not events and not follower.is_behind:
                await self._pause(follower, principal, beat)

    def _cursor(self, asked: EventsRequest, follower: Follower) -> str:
        return self._requests.cursor(asked.shard, asked.scope, follower.position, follower.seen_at)

    def _goes_on(self, principal: AgentPrincipal) -> bool:
        return not self.stopping.is_set() and self._clock.now() < principal.expires_at

    async def _may(self, principal: AgentPrincipal, asked: EventsRequest) -> bool:
        """Say whether the agent may still be told; Postgres being away is a no for now, and no end."""
        while self._goes_on(principal):
            try:
                grant = await self._access.grant(principal.agent, principal.user)
            except DatabaseUnavailable:
                await wait_for(self.stopping, CHECK_SECONDS)
                continue
            return grant is not None and grant.covers(asked.wanted)
        return True

    async def _pause(self, follower: Follower, principal: AgentPrincipal, beat: float) -> None:
        left = (principal.expires_at - self._clock.now()).total_seconds()
        seconds = min(CHECK_SECONDS, max(left, 0), max(beat - asyncio.get_running_loop().time(), 0))
        await wait_for(follower.bell, seconds)
