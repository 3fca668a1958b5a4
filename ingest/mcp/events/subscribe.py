"""`events/subscribe` and `events/unsubscribe`: one entry for each agent, user, url, name and arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import OutgoingRefused
from slotwire.ingest.foundation.outgoing.signing import webhook_secret
from slotwire.ingest.foundation.outgoing.target import read_target
from slotwire.ingest.foundation.postgres import Connection, Pool, borrowed
from slotwire.ingest.mcp.events.catalogue import canonical
from slotwire.ingest.mcp.events.challenge import Challenges
from slotwire.ingest.mcp.events.cursors import CursorScope
from slotwire.ingest.mcp.events.profiles import EventsProblem, EventsRefused, profile_of
from slotwire.ingest.mcp.events.published import QUERIES
from slotwire.ingest.mcp.events.requests import EventsRequest, EventsRequests, ReadStart
from slotwire.ingest.mcp.events.subscriptions import (
    ROTATION,
    WebhookSubscription,
    WebhookSubscriptions,
    slot_of,
    subscription_id,
)
from slotwire.ingest.mcp.principal import AgentPrincipal
from slotwire.schemas.codec import format_time

DEFAULT_TTL = timedelta(hours=1)
"""How long a subscription lasts where the request does not say."""
MIN_TTL = timedelta(minutes=1)
MAX_TTL = timedelta(days=1)
"""The longest, also for one that asks for no end: hosts forget subscriptions without a word, and this ends those."""
MAX_SUBSCRIPTIONS = 1_000
"""Subscriptions of one agent for one user."""


@dataclass(frozen=True)
class _Order:
    """A request, checked.

    Attributes:
        id: of the subscription that it makes or refreshes.
    """

    id: str
    asked: EventsRequest
    url: str
    secret: bytes
    expires_at: datetime
    not_before: datetime | None


class Subscribing:
    """Answers `events/subscribe` and `events/unsubscribe`."""

    def __init__(
        self,
        pool: Pool,
        requests: EventsRequests,
        subscriptions: WebhookSubscriptions,
        challenges: Challenges,
        clock: Clock,
        *,
        allow_local: bool,
        changed: Callable[[], None],
        most: int = MAX_SUBSCRIPTIONS,
    ) -> None:
        """Take what it needs; `changed` is told after a subscription was made or refreshed."""
        self._pool = pool
        self._requests = requests
        self._subscriptions = subscriptions
        self._challenges = challenges
        self._clock = clock
        self._allow_local = allow_local
        self._changed = changed
        self._most = most

    async def subscribe(self, principal: AgentPrincipal, params: dict[str, Any]) -> dict[str, Any]:
        """Make a subscription, or refresh it.

        Raises:
            EventsRefused: see `Requests` and `Challenges`; or the address or secret has another form, the agent has as
                many as it may, or acts for one chain of bookings only.
            DatabaseUnavailable: Postgres is away.
        """
        order = await self._ordered(principal, params)
        start = await self._requests.start(order.asked, params.get("cursor"))
        present = await self._subscriptions.find(order.id)
        if present is None:
            async with borrowed(self._pool) as connection:
                await self._require_room(connection, principal, order.id)
        await self._challenges.require(principal, order.url, order.secret, order.id)
        begin = await self._aged(order.asked, start, order.not_before)
        async with borrowed(self._pool) as connection, connection.transaction():
            await connection.execute(QUERIES["wait_for_subscription"], order.id)
            row = await connection.fetchrow(QUERIES["lock_subscription"], order.id)
            live = None if row is None else self._subscriptions.opened(row)
            if row is not None and row["expires_at"] <= self._clock.now():
                await connection.execute(QUERIES["remove_subscription"], order.id)
                live = None
            elif row is not None and live is None:  # its key is gone: it is made anew, where it was
                await connection.execute(QUERIES["remove_subscription"], order.id)
                begin = ReadStart(row["position"], row["seen_at"], truncated=row["gap_from"] is not None)
            if live is None:
                await connection.execute(QUERIES["wait_for_room"], str(principal.agent), principal.user)
                await self._require_room(connection, principal, order.id)
                begun = await self._add(connection, principal, order, begin)
            else:
                begun = await self._refresh(connection, order, live, start, has_cursor=params.get("cursor") is not None)
        self._changed()
        return {"id": order.id, "refreshBefore": format_time(order.expires_at), **begun}

    async def unsubscribe(self, principal: AgentPrincipal, params: dict[str, Any]) -> dict[str, Any]:
        """End a subscription, whatever its type and arguments are worth by now.

        Raises:
            EventsRefused: there is none, and the agent's host wants to be told; or the agent acts for one chain of
                bookings only.
            DatabaseUnavailable: Postgres is away.
        """
        _require_all(principal)
        scope = CursorScope(principal.identity, str(params.get("name")), canonical(params.get("arguments")))
        delivery = params.get("delivery")
        url = str(delivery.get("url")) if isinstance(delivery, dict) else ""
        was_there = await self._subscriptions.remove(subscription_id(scope, url))
        if not was_there and not profile_of(principal.profile).unknown_is_unsubscribed:
            raise EventsRefused(EventsProblem.NOT_FOUND, "there is no such subscription", kind="subscription")
        return {}

    async def _ordered(self, principal: AgentPrincipal, params: dict[str, Any]) -> _Order:
        asked = await self._requests.asked(principal, params.get("name"), params.get("arguments"))
        _require_all(principal)
        delivery = params.get("delivery")
        if not isinstance(delivery, dict):
            raise EventsRefused(EventsProblem.INVALID_PARAMS, "delivery must be an object")
        mode = delivery.get("mode")
        if mode != "webhook":
            raise EventsRefused(
                EventsProblem.UNSUPPORTED,
                "subscriptions are delivered to a webhook; other modes have methods of their own",
                feature="deliveryMode",
                value=str(mode)[:40],
            )
        url = delivery.get("url")
        try:
            read_target(url if isinstance(url, str) else "", local=self._allow_local)
        except OutgoingRefused as refused:
            raise EventsRefused(EventsProblem.INVALID_PARAMS, f"delivery.url: {refused.message}") from None
        try:
            given = delivery.get("secret")
            secret = webhook_secret(given if isinstance(given, str) else "")
        except ValueError as error:
            raise EventsRefused(EventsProblem.INVALID_PARAMS, f"delivery.secret {error}") from None
        return _Order(
            id=subscription_id(asked.scope, str(url)),
            asked=asked,
            url=str(url),
            secret=secret,
            expires_at=self._clock.now() + _life(params),
            not_before=self._requests.not_before(params.get("maxAgeMs")) if params.get("cursor") is not None else None,
        )

    async def _require_room(self, connection: Connection, principal: AgentPrincipal, subscription: str) -> None:
        """Refuse one more than may be; this one itself may be there, and not open any more."""
        asked = (principal.agent, principal.user, self._clock.now(), subscription)
        there = await connection.fetchval(QUERIES["count_subscriptions"], *asked)
        if there >= self._most:
            raise EventsRefused(
                EventsProblem.RESOURCE_EXHAUSTED,
                "too many subscriptions; end some",
                limit="subscriptions",
                max=self._most,
            )

    async def _add(
        self, connection: Connection, principal: AgentPrincipal, order: _Order, start: ReadStart
    ) -> dict[str, Any]:
        """Begin a subscription where a cursor stands, or now."""
        asked = order.asked
        await connection.execute(
            QUERIES["add_subscription"],
            order.id,
            slot_of(order.id),
            principal.agent,
            principal.user,
            asked.wanted.org,
            asked.shard,
            asked.wanted.name,
            asked.scope.arguments,
            order.url,
            asked.profile.name,
            self._subscriptions.sealed(order.id, order.secret),
            start.position,
            start.seen_at,
            version_of(self._clock.now()),
            self._clock.now(),
            order.expires_at,
        )
        return self._answer(asked, start.position, start.seen_at, truncated=start.truncated)

    async def _refresh(
        self, connection: Connection, order: _Order, live: WebhookSubscription, start: ReadStart, *, has_cursor: bool
    ) -> dict[str, Any]:
        """Let a subscription go on from where it is.

        What was given up is told until the client shows, by the cursor that it refreshes with, that it was told: only
        then do the cursors of its deliveries pass the gap.
        """
        gap, told, truncated = live.gap_from, live.gap_told, False
        if gap is not None:
            if told is not None and (not has_cursor or start.position >= told):
                gap = told = None
            else:
                told, truncated = live.position, True
        sealed = None
        if order.secret != live.secret:
            sealed = self._subscriptions.sealed(order.id, order.secret)
        now = self._clock.now()
        await connection.execute(
            QUERIES["refresh_subscription"],
            order.id,
            order.asked.profile.name,
            sealed,
            now + ROTATION,
            gap,
            told,
            now,
            order.expires_at,
        )
        status: dict[str, Any] = {
            "active": True,
            "lastDeliveryAt": None if live.last_delivery_at is None else format_time(live.last_delivery_at),
            "lastError": live.last_error,
        }
        if live.failed_since is not None:
            status["failedSince"] = format_time(live.failed_since)
        answer = self._answer(order.asked, live.position, live.seen_at, truncated=truncated)
        return {**answer, "deliveryStatus": status}

    def _answer(
        self, asked: EventsRequest, position: int, seen_at: datetime | None, *, truncated: bool
    ) -> dict[str, Any]:
        cursor = self._requests.cursor(asked.shard, asked.scope, position, seen_at)
        return {"cursor": cursor, "truncated": truncated}

    async def _aged(self, asked: EventsRequest, start: ReadStart, not_before: datetime | None) -> ReadStart:
        """Pass over what came in before a time."""
        head = (await self._requests.log.heads()).shards[asked.shard].position
        position, truncated = start.position, start.truncated
        while not_before is not None and position < head:
            page = await self._requests.log.of(asked.wanted, asked.shard, position, head)
            young = next((event for event in page.events if event.recorded_at >= not_before), None)
            passed = [event for event in page.events if young is None or event.position < young.position]
            truncated = truncated or any(map(asked.wanted.has, passed))
            if young is not None:
                return ReadStart(max(position, young.position - 1), None, truncated)
            position = page.reached
        return (
            start._replace(truncated=truncated) if position == start.position else ReadStart(position, None, truncated)
        )


def version_of(now: datetime) -> int:
    """Return the first version of a subscription: larger than any that an earlier one of the same id has had."""
    return int(now.timestamp())


def _life(params: dict[str, Any]) -> timedelta:
    """Say how long a subscription lasts: what is asked for, within limits."""
    if "ttlMs" not in params:
        return DEFAULT_TTL
    asked = params["ttlMs"]
    if asked is None:
        return MAX_TTL
    if type(asked) is not int or asked < 0:
        raise EventsRefused(EventsProblem.INVALID_PARAMS, "ttlMs must be a whole number of milliseconds, or null")
    return min(max(timedelta(milliseconds=min(asked, 2**40)), MIN_TTL), MAX_TTL)


def _require_all(principal: AgentPrincipal) -> None:
    """Refuse a token for one chain of bookings: subscriptions are of everything that the agent has."""
    if principal.chain is not None:
        raise EventsRefused(
            EventsProblem.FORBIDDEN, "a token for one booking ends with the run it was made for: use events/poll"
        )
