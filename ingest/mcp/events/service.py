"""Puts MCP Events together, for the process that serves them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from slotwire.ingest.foundation.clock import Clock, ordered_id
from slotwire.ingest.foundation.errors import DatabaseUnavailable
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.foundation.sealing import SealingKeys
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.mcp.events.access import EventAccess
from slotwire.ingest.mcp.events.challenge import Challenges
from slotwire.ingest.mcp.events.cursors import EventCursors
from slotwire.ingest.mcp.events.delivery import WebhookDeliveries
from slotwire.ingest.mcp.events.extension import EventsExtension
from slotwire.ingest.mcp.events.feed import Feed
from slotwire.ingest.mcp.events.poll import Poll
from slotwire.ingest.mcp.events.profiles import EventsProblem
from slotwire.ingest.mcp.events.published import PublishedLog
from slotwire.ingest.mcp.events.requests import EventsRequests
from slotwire.ingest.mcp.events.sender import WebhookSender
from slotwire.ingest.mcp.events.slots import DeliverySlots
from slotwire.ingest.mcp.events.stream import Streams
from slotwire.ingest.mcp.events.subscribe import Subscribing
from slotwire.ingest.mcp.events.subscriptions import WebhookSubscriptions
from slotwire.ingest.mcp.principal import AgentPrincipal, Authority
from slotwire.ingest.mcp.uses import Uses

AT_ONCE, PER_SECOND = 50, 1_000
"""Requests to one destination: all subscriptions of a host of agents go to one."""


def outgoing_settings(settings: OutgoingSettings) -> OutgoingSettings:
    """Return the limits of requests to webhooks: the guard's, with more for one destination."""
    return settings.model_copy(
        update={"at_once_per_destination": AT_ONCE, "per_second_per_destination": float(PER_SECOND)}
    )


class McpEvents:
    """The methods, and the delivery behind them.

    Attributes:
        extension: for the library's server.
        poll: answers `events/poll`.
        streams: answers `events/stream`.
        subscribing: answers `events/subscribe` and `events/unsubscribe`.
        deliveries: delivers to webhooks.
        access: what agents may still be told.
        log, feed, requests: what these stand on, for tools that read events.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        clock: Clock,
        authority: Authority,
        outgoing: Outgoing,
        keys: Mapping[str, bytes],
        *,
        source: str,
    ) -> None:
        """Put it together.

        Args:
            settings: of the process.
            pool: of its role.
            clock: the time.
            authority: says what an agent has now.
            outgoing: makes the requests to webhooks.
            keys: by name, 32 octets each: the first seals secrets and writes cursors, all open and read.
            source: the setting they are from, for messages.
        """
        self._clock, self._uses = clock, Uses(pool, clock)
        log, cursors = PublishedLog(pool, clock), EventCursors(keys.values())
        self.log, self.feed = log, Feed(log)
        self.access = EventAccess(authority, log)
        self.requests = requests = EventsRequests(log, cursors, clock)
        subscriptions = WebhookSubscriptions(pool, clock, SealingKeys(keys, source))
        self.poll = Poll(requests)
        self.streams = Streams(requests, self.feed, self.access, clock)
        self.deliveries = WebhookDeliveries(
            subscriptions,
            self.feed,
            self.access,
            WebhookSender(outgoing, cursors, log, clock),
            DeliverySlots(settings, self.heard),
            clock,
        )
        self.subscribing = Subscribing(
            pool,
            requests,
            subscriptions,
            Challenges(subscriptions, outgoing, clock),
            clock,
            allow_local=settings.outgoing.allow_local,
            changed=self.deliveries.ring,
        )
        self.extension = EventsExtension(self)

    async def note(self, who: AgentPrincipal, method: str, problem: EventsProblem | None = None) -> None:
        """Write a call into the audit. What was done stays done where Postgres is away, and is not told as undone."""
        result, code = ("done", None) if problem is None else ("refused", problem.value)
        with suppress(DatabaseUnavailable):
            await self._uses.note(
                *(ordered_id(self._clock.now()), who.agent, who.user, method.replace("/", ".")),
                result=result,
                code=code,
            )

    def heard(self, told: str) -> None:
        """Take a notice: see `slotwire.tell_mcp`. Where none comes, it is asked anyway, a bit later."""
        what, _, whom = told.partition(" ")
        if what == "published":
            self.feed.ring()
        elif what == "access":
            self.access.forget()
            self.deliveries.less_for(whom)
            self.streams.look()
        elif what == "ended":
            self.deliveries.ended(whom)

    @property
    def is_stopping(self) -> bool:
        """Whether nothing should wait any longer."""
        return self.streams.stopping.is_set()

    async def run(self, stop: asyncio.Event) -> None:
        """Read what is published and deliver it until `stop` is set; streams end then, too."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed.run(stop), name="mcp feed")
            group.create_task(self.deliveries.run(stop), name="mcp deliveries")
            await stop.wait()
            self.streams.stopping.set()
