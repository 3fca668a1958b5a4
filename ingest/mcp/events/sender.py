"""One try: makes a message, signs it anew, sends it, and says what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import OutgoingFailed, OutgoingRefused
from slotwire.ingest.foundation.mcp_events_metrics import MCP_EVENT_TRIES
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing.retries import FINAL
from slotwire.ingest.foundation.outgoing.signing import standard_webhook_headers
from slotwire.ingest.mcp.events.challenge import SUBSCRIPTION_HEADER, failure_word, status_word
from slotwire.ingest.mcp.events.cursors import EventCursors, LogPlace
from slotwire.ingest.mcp.events.occurrences import LogEvent
from slotwire.ingest.mcp.events.profiles import EventsProblem
from slotwire.ingest.mcp.events.published import PublishedLog
from slotwire.ingest.mcp.events.subscriptions import WebhookSubscription

First = Callable[[], Awaitable[None]]
"""Asked once a request's turn has come; what it raises leaves the request unsent."""


@dataclass(frozen=True)
class TryOutcome:
    """What came of a try.

    Attributes:
        error: why it failed, in the words of MCP Events; None: it was acknowledged.
        final: whether another try of the same message cannot succeed.
    """

    error: str | None = None
    final: bool = False


class WebhookSender:
    """Sends to subscribers."""

    def __init__(self, outgoing: Outgoing, cursors: EventCursors, log: PublishedLog, clock: Clock) -> None:
        self._outgoing = outgoing
        self._cursors = cursors
        self._log = log
        self._clock = clock

    async def event(self, to: WebhookSubscription, event: LogEvent, position: int, first: First) -> TryOutcome:
        """Send an event, with the cursor of a position that all before is settled at."""
        name = str(event.id)
        if to.profile.own_message_ids:
            name = f"msg_event_{hashlib.sha256(f'{to.id} {event.id}'.encode()).hexdigest()[:24]}"
        return await self._post(to, name, {**event.occurrence, "cursor": self._cursor(to, position)}, first)

    async def gap(self, to: WebhookSubscription, name: str, first: First) -> TryOutcome:
        """Tell that something before the subscription's position was given up."""
        return await self._post(to, name, {"type": "gap", "cursor": self._cursor(to, to.position)}, first)

    async def terminated(self, to: WebhookSubscription, name: str, problem: EventsProblem, why: str) -> TryOutcome:
        """Tell that the subscription has ended."""
        error = {"code": to.profile.errors[problem], "message": f"{problem}: {why}"}
        return await self._post(to, name, {"type": "terminated", "error": error})

    def _cursor(self, to: WebhookSubscription, position: int) -> str:
        place = LogPlace(self._log.log_id, MappingProxyType({to.shard: position}))
        return self._cursors.write(place, to.scope)

    async def _post(
        self, to: WebhookSubscription, name: str, message: dict[str, Any], first: First | None = None
    ) -> TryOutcome:
        now, body = self._clock.now(), orjson.dumps(message)
        old = to.old_secret if to.old_secret_until is not None and now < to.old_secret_until else None
        headers = standard_webhook_headers(to.secret, name, now, body, also=() if old is None else (old,))
        headers |= {"Content-Type": "application/json", SUBSCRIPTION_HEADER: to.id}
        outcome = await self._tried(to, body, headers, first)
        result = "acknowledged" if outcome.error is None else "final" if outcome.final else "failed"
        MCP_EVENT_TRIES.labels(message.get("type", "event"), result).inc()
        return outcome

    async def _tried(
        self, to: WebhookSubscription, body: bytes, headers: dict[str, str], first: First | None
    ) -> TryOutcome:
        try:
            answer = await self._outgoing.post(to.url, body, headers, first=first)
        except OutgoingRefused:
            return TryOutcome("connection_refused")
        except OutgoingFailed as failed:
            return TryOutcome(failure_word(failed.reason))
        return TryOutcome() if answer.is_success else TryOutcome(status_word(answer.status), answer.status in FINAL)
