"""Webhook subscriptions as they are stored, shared by all replicas."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from sys import intern
from typing import Literal
from uuid import UUID

import asyncpg
import orjson

from slotwire.ingest.foundation.clock import Clock, ordered_id
from slotwire.ingest.foundation.errors import SecretUnreadable
from slotwire.ingest.foundation.postgres import Pool, borrowed
from slotwire.ingest.foundation.sealing import SealingKeys
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.foundation.throttle import Throttle
from slotwire.ingest.mcp.events.cursors import CursorScope
from slotwire.ingest.mcp.events.profiles import WireProfile, profile_of
from slotwire.ingest.mcp.events.published import QUERIES
from slotwire.ingest.mcp.events.together import Together

SLOTS = 64
"""Slots that replicas share; a subscription's never changes."""
ROTATION = timedelta(hours=1)
"""How long the secret before signs too."""
KEPT_AFTER_END = timedelta(days=1)
"""How long a subscription that has ended stays in the table."""
VERIFIED = timedelta(hours=24)
"""How long an address that answered a challenge counts as verified, across arguments and refreshes."""
CHALLENGE_WINDOW = timedelta(minutes=1)
MAX_CHALLENGES = 20
"""Challenges in a minute for one agent and user."""
MAX_CHALLENGES_OF_HOST = 60
"""Challenges in a minute to one host, whoever asks for them."""

Gap = Literal["", "new", "told"]
"""What a try does to the note of a gap: nothing, something was given up, or the client knows of it now."""


@dataclass(frozen=True, slots=True)
class WebhookSubscription:
    """A webhook subscription. See the columns of `slotwire.mcp_subscriptions`."""

    id: str
    agent: UUID
    user: str
    org: str
    shard: int
    name: str
    arguments: str
    url: str
    profile: WireProfile
    secret: bytes = field(repr=False)
    old_secret: bytes | None = field(repr=False)
    old_secret_until: datetime | None
    position: int
    seen_at: datetime | None
    gap_from: int | None
    gap_told: int | None
    active: bool
    given_up: int
    tries: int
    next_try_at: datetime | None
    last_delivery_at: datetime | None
    last_error: str | None
    failed_since: datetime | None
    version: int
    expires_at: datetime

    @property
    def scope(self) -> CursorScope:
        """What its cursors are bound to."""
        return CursorScope((str(self.agent), self.user), self.name, self.arguments)

    @property
    def wanted_arguments(self) -> Mapping[str, str]:
        """Its arguments as they were checked when it was made."""
        return {key: value for key, value in orjson.loads(self.arguments).items() if value is not None}


@dataclass(frozen=True)
class DeliveryStep:
    """What became of a try.

    Attributes:
        id: the subscription.
        was: where it was.
        position: where it is now.
        seen_at: when nothing was published after that.
        tries: of what comes next.
        next_try_at: when that is tried; None: at once.
        given_up: events that were given up in a row.
        delivered_at: when something was acknowledged; None: nothing was.
        last_error: why this try failed; None: it did not.
        gap: what it does to the note of a gap.
        active: whether more is sent before the next refresh.
        sent: the events that were sent, each with why that failed, for the audit.
    """

    id: str
    was: int
    position: int
    seen_at: datetime | None = None
    tries: int = 0
    next_try_at: datetime | None = None
    given_up: int = 0
    delivered_at: datetime | None = None
    last_error: str | None = None
    gap: Gap = ""
    active: bool = True
    sent: Sequence[tuple[UUID, str | None]] = ()


@dataclass(frozen=True)
class MovedTo:
    """Where a step has led.

    Attributes:
        gap_from: what came after here was given up, and its client has not been told.
        state: version, whether it is active, and its end, as they were then.
    """

    gap_from: int | None
    state: tuple[int, bool, datetime]


def subscription_id(scope: CursorScope, url: str) -> str:
    """Make the id of a subscription: the same for the same agent, user, url, name and arguments, on every replica."""
    parts = (*scope.context, url.encode())
    return hashlib.sha256(b"".join(len(each).to_bytes(4, "big") + each for each in parts)).hexdigest()[:32]


def slot_of(subscription: str) -> int:
    """Return the slot that an id belongs to."""
    return int(subscription[:8], 16) % SLOTS


class WebhookSubscriptions:
    """Reads and writes them."""

    def __init__(self, pool: Pool, clock: Clock, sealing: SealingKeys) -> None:
        self._pool = pool
        self._clock = clock
        self._sealing = sealing
        self._said = Throttle()
        self._log = get_logger("mcp")
        self.advance: Together[DeliveryStep, MovedTo | None] = Together(self._advance)
        """Takes what became of a try; None: the subscription is somewhere else, or gone."""
        self.state: Together[str, tuple[int, bool, datetime] | None] = Together(self._states)
        """Answers version, whether it is active, and its end; None: it is gone."""

    def sealed(self, subscription: str, secret: bytes) -> bytes:
        """Seal a secret for its row."""
        return self._sealing.seal(secret, context=("mcp_subscriptions", subscription))

    async def find(self, subscription: str) -> WebhookSubscription | None:
        """Read one."""
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(QUERIES["subscription"], subscription)
        return None if row is None else self.opened(row)

    async def of_slots(self, slots: Iterable[int]) -> Sequence[WebhookSubscription]:
        """Read those of some slots that have not ended."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(QUERIES["of_slots"], sorted(slots), self._clock.now())
        return self._all_opened(rows)

    async def changed(
        self, slots: Iterable[int], since: datetime, known: Callable[[str, int], bool]
    ) -> Sequence[WebhookSubscription]:
        """Read those of some slots that were made or refreshed since a time, but for versions that are known."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(QUERIES["changed_of_slots"], since, sorted(slots), self._clock.now())
            ids = [row["id"] for row in rows if not known(row["id"], row["version"])]
            fresh = await connection.fetch(QUERIES["some_subscriptions"], ids) if ids else []
        return self._all_opened(fresh)

    async def remove(self, subscription: str) -> bool:
        """End one; return whether it was there."""
        async with borrowed(self._pool) as connection:
            return await connection.fetchval(QUERIES["remove_subscription"], subscription) is not None

    async def is_verified(self, agent: UUID, user: str, url: str) -> bool:
        """Say whether an address has answered a challenge lately."""
        since = self._clock.now() - VERIFIED
        async with borrowed(self._pool) as connection:
            return bool(await connection.fetchval(QUERIES["verified_endpoint"], agent, user, url, since))

    async def verify(self, agent: UUID, user: str, url: str) -> None:
        """Remember that an address has answered a challenge."""
        async with borrowed(self._pool) as connection:
            await connection.execute(QUERIES["verify_endpoint"], agent, user, url, self._clock.now())

    async def may_challenge(self, agent: UUID, user: str, host: str) -> bool:
        """Count a challenge; False: there were too many within a minute."""
        now = self._clock.now()
        limits = (now - CHALLENGE_WINDOW, MAX_CHALLENGES, MAX_CHALLENGES_OF_HOST)
        async with borrowed(self._pool) as connection, connection.transaction():
            await connection.execute(QUERIES["wait_for_challenges"])
            return bool(await connection.fetchval(QUERIES["count_challenge"], agent, user, host, now, *limits))

    async def sweep(self) -> None:
        """Remove what has ended, and what no limit counts any more."""
        now = self._clock.now()
        async with borrowed(self._pool) as connection:
            await connection.execute(QUERIES["sweep_subscriptions"], now - KEPT_AFTER_END)
            await connection.execute(QUERIES["sweep_endpoints"], now - VERIFIED)
            await connection.execute(QUERIES["sweep_challenges"], now - CHALLENGE_WINDOW)

    def opened(self, row: asyncpg.Record) -> WebhookSubscription | None:
        """Read a row, and open its secrets; None where its key is not among ours any more.

        Such a row costs nobody but its own subscription: it is not delivered until its host refreshes it.
        """
        context = ("mcp_subscriptions", row["id"])
        try:
            secret = self._sealing.open(row["secret"], context=context)
            old = None if row["old_secret"] is None else self._sealing.open(row["old_secret"], context=context)
        except SecretUnreadable as problem:
            held_back = self._said.held_back("subscription_unreadable")
            if held_back is not None:
                said = {"error": problem.message, "remedy": problem.remedy, "held_back": held_back}
                self._log.error("subscription_unreadable", subscription=row["id"], **said)
            return None
        told = {name: value for name, value in row.items() if name in WebhookSubscription.__dataclass_fields__}
        told |= {name: intern(told[name]) for name in ("org", "name", "arguments")}  # thousands have the same
        told |= {"user": intern(row["user_uri"]), "profile": profile_of(row["profile"]), "old_secret": old}
        return WebhookSubscription(**told | {"secret": secret})

    def _all_opened(self, rows: Iterable[asyncpg.Record]) -> Sequence[WebhookSubscription]:
        return [found for row in rows if (found := self.opened(row)) is not None]

    async def _advance(self, steps: Sequence[DeliveryStep]) -> Sequence[MovedTo | None]:
        columns = [
            [getattr(step, name) for step in steps]
            for name in (
                "id",
                "was",
                "position",
                "seen_at",
                "tries",
                "next_try_at",
                "given_up",
                "delivered_at",
                "last_error",
                "gap",
                "active",
            )
        ]
        now = self._clock.now()
        sent = [(step.id, *each) for step in steps for each in step.sent]
        audit = (
            [ordered_id(now) for _ in sent],
            [subscription for subscription, _, _ in sent],
            [f"/v1/events/{event}" for _, event, _ in sent],
            [error for _, _, error in sent],
        )
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(QUERIES["advance"], *columns, now, *audit)
        moved = {
            row["id"]: MovedTo(row["gap_from"], (row["version"], row["active"], row["expires_at"])) for row in rows
        }
        return [moved.get(step.id) for step in steps]

    async def _states(self, ids: Sequence[str]) -> Sequence[tuple[int, bool, datetime] | None]:
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(QUERIES["versions"], list(ids))
        found = {row["id"]: (row["version"], row["active"], row["expires_at"]) for row in rows}
        return [found.get(each) for each in ids]


def message_id(kind: str) -> str:
    """Make the id of a message that is no event: the same in each of its tries."""
    return f"msg_{kind}_{secrets.token_hex(12)}"
