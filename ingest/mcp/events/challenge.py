"""Before an address is sent anything, it has to show that it wants it: by giving back what it is sent."""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import urlsplit

import orjson

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import OutgoingFailed, OutgoingRefused
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing.signing import standard_webhook_headers
from slotwire.ingest.mcp.events.profiles import EventsProblem, EventsRefused
from slotwire.ingest.mcp.events.subscriptions import (
    MAX_CHALLENGES,
    MAX_CHALLENGES_OF_HOST,
    WebhookSubscriptions,
    message_id,
)
from slotwire.ingest.mcp.principal import AgentPrincipal

SUBSCRIPTION_HEADER = "X-MCP-Subscription-Id"
_REASONS = {"timeout": "timeout", "tls_error": "tls_error"}
"""Why no answer came, in the profile's words; anything else is `connection_refused`."""


def failure_word(reason: str) -> str:
    """Say why no answer came, in the words of MCP Events."""
    return _REASONS.get(reason, "connection_refused")


def status_word(status: int) -> str:
    """Say how an endpoint refused, in the words of MCP Events."""
    return "http_5xx" if status >= 500 else "http_4xx"


class Challenges:
    """Challenges addresses, and remembers for a day which have answered."""

    def __init__(self, subscriptions: WebhookSubscriptions, outgoing: Outgoing, clock: Clock) -> None:
        self._subscriptions = subscriptions
        self._outgoing = outgoing
        self._clock = clock

    async def require(self, principal: AgentPrincipal, url: str, secret: bytes, subscription: str) -> None:
        """Challenge an address, unless it has answered for this agent and user lately.

        Raises:
            EventsRefused: it gives back something else, cannot be reached, or may not be; or there were too many
                challenges within a minute.
            DatabaseUnavailable: Postgres is away.
        """
        if await self._subscriptions.is_verified(principal.agent, principal.user, url):
            return
        host = (urlsplit(url).hostname or "").lower()
        if not await self._subscriptions.may_challenge(principal.agent, principal.user, host):
            raise EventsRefused(
                EventsProblem.RESOURCE_EXHAUSTED,
                f"more than {MAX_CHALLENGES} new addresses in a minute, or {MAX_CHALLENGES_OF_HOST} at one host; wait a"
                " minute",
                limit="challenges",
                max=MAX_CHALLENGES,
            )
        nonce = secrets.token_urlsafe(32)
        body = orjson.dumps({"type": "verification", "challenge": nonce})
        headers = standard_webhook_headers(secret, message_id("verification"), self._clock.now(), body)
        headers |= {"Content-Type": "application/json", SUBSCRIPTION_HEADER: subscription}
        try:
            answer = await self._outgoing.post(url, body, headers)
        except OutgoingRefused as refused:
            raise EventsRefused(EventsProblem.INVALID_PARAMS, f"delivery.url: {refused.message}") from None
        except OutgoingFailed as failed:
            raise _failed(failure_word(failed.reason)) from None
        if not answer.is_success:
            raise _failed(status_word(answer.status))
        if not _gives_back(answer.body, nonce):
            raise _failed("challenge_failed")
        await self._subscriptions.verify(principal.agent, principal.user, url)


def _gives_back(body: bytes, nonce: str) -> bool:
    try:
        answered = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    given = answered.get("challenge") if isinstance(answered, dict) else None
    return isinstance(given, str) and hmac.compare_digest(given.encode(), nonce.encode())


def _failed(reason: str) -> EventsRefused:
    return EventsRefused(
        EventsProblem.CALLBACK_ENDPOINT_ERROR,
        f'the address did not give back the challenge ({reason}); it has to answer 2xx with {{"challenge": …}}',
        reason=reason,
    )
