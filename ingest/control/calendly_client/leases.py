"""Leases of calls: what a process asks Postgres for, and what it gets. The rules are in `slotwire.lease_calls`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Self
from uuid import UUID

from slotwire.ingest.control.calendly_client.answers import MAX_WAIT_SECONDS, wait_of
from slotwire.ingest.foundation.postgres import Pool, borrowed, read_queries

MAX_LEASE_CALLS = 20
"""The most calls that a process is given at once."""
MAX_LEASE_SECONDS = 0.5
"""How far ahead a call is given."""
MAX_LATE_SECONDS = 1.0
"""How long after its time a call may be made; then it is lost."""
TOKEN_LIMIT = 8
"""Requests per user and minute at the token endpoint. Source: docs/reference/calendly.md, "REST", rate limits."""
MAX_LIMIT = 1_000_000
"""The most calls a minute that are believed."""
ACQUIRE_SECONDS = 3.0
"""How long to wait for a connection of the pool."""
JITTER_SECONDS = 0.25
"""The most that is added to a wait, so that several programs do not come back together."""

_SQL = read_queries("slotwire.ingest.sql", "budget.sql")


class Priority(IntEnum):
    """How urgent a call is. Calls of a less urgent one wait until no more urgent one does."""

    PERSON = 1
    """Somebody waits for the answer."""
    REPAIR = 2
    """Deliveries may be missing until it is made."""
    SWEEP = 3
    """Reads much, and nobody waits for it."""


class CallKind(StrEnum):
    """What Calendly counts apart for each user."""

    API = "api"
    TOKEN = "token"  # noqa: S105 -- a kind of call


@dataclass(frozen=True, slots=True)
class RateAnswer:
    """What an answer of Calendly says about its user's rate.

    Attributes:
        seen_at: when it came, by the process's own time in seconds.
        limit: calls a minute; None where it does not say.
        remaining: calls that are left; None where it does not say.
        reset: seconds until there are more.
        refused: of a 429, the seconds to wait; 0 where it says none or at once; None for every other answer.
    """

    seen_at: float
    limit: int | None
    remaining: int | None
    reset: float
    refused: float | None

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], seen_at: float) -> Self | None:
        """Read an answer's headers, looked up by lower-case name; None if they say nothing."""
        limit, remaining = count_of(headers.get("x-ratelimit-limit")), count_of(headers.get("x-ratelimit-remaining"))
        refused = wait_of(headers) if status == 429 else None
        if limit is None and remaining is None and refused is None:
            return None
        return cls(seen_at, limit, remaining, _seconds(headers.get("x-ratelimit-reset")), refused)


@dataclass(frozen=True, slots=True)
class CallLease:
    """What Postgres gave to a process.

    Attributes:
        at: the budget's time.
        slots: when each call may be made, by that time, in order.
        again: seconds until it is worth asking for more; 0 where nobody waits without a slot.
        blocked: seconds until the first call can be made for which there is no slot yet.
        limit: calls a minute.
        left: how many of them are left, as far as is known.
    """

    at: float
    slots: Sequence[float]
    again: float
    blocked: float
    limit: int
    left: int


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """What a process asks for.

    Attributes:
        user: the user's URI at Calendly.
        kind: what Calendly counts apart.
        now: the budget's time, as the process reckons it; its own time with its first question.
        first: whether it is its first question.
        callers: how many callers wait, by priority.
        calls: how many calls they wait with, by priority.
        spare: how many more it can use soon, where nobody waits for them.
        answer: what Calendly last said, if that was not told yet.
        age: how many seconds ago it did.
        use: the id of the lease in the audit.
        asked_at: when it asks.
        org: the user's organization, where it is known.
    """

    user: str
    kind: CallKind
    now: float
    first: bool
    callers: Sequence[int]
    calls: Sequence[int]
    spare: int
    answer: RateAnswer | None
    age: float
    use: UUID
    asked_at: datetime
    org: str | None


async def lease(pool: Pool, holder: UUID, request: LeaseRequest, *, assumed: int) -> CallLease:
    """Ask for calls.

    Args:
        pool: the database.
        holder: the process.
        request: what it asks for.
        assumed: calls a minute of a user about whom Calendly has not said it yet.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    said = request.answer
    async with borrowed(pool, seconds=ACQUIRE_SECONDS) as connection:
        row = await connection.fetchrow(
            _SQL["lease_calls"],
            request.user,
            request.kind,
            holder,
            request.now,
            request.first,
            request.callers,
            request.calls,
            request.spare,
            TOKEN_LIMIT if request.kind is CallKind.TOKEN else assumed,
            None if said is None else said.limit,
            None if said is None else said.remaining,
            0.0 if said is None else said.reset,
            None if said is None else said.refused,
            request.age,
            random.uniform(0, JITTER_SECONDS),  # noqa: S311 -- jitter, not a secret
            request.use,
            request.asked_at,
            request.org,
        )
    assert row is not None  # noqa: S101 -- a function with OUT parameters always returns a row
    at: float = row["at"]
    return CallLease(
        at,
        [at + slot for slot in row["slots"]],
        row["again"],
        row["blocked"],
        row["calls_limit"],
        row["calls_left"],
    )


async def prune(pool: Pool, before: float) -> int:
    """Remove budgets, and turns to book, of users whom nobody acted as since a time in seconds; return how many users.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    async with borrowed(pool, seconds=ACQUIRE_SECONDS) as connection:
        removed: int = await connection.fetchval(_SQL["prune_budgets"], before)
        await connection.execute(_SQL["prune_booking_turns"], before)
    return removed


def count_of(text: str | None) -> int | None:
    """Read a number of calls in a header; None if it is none."""
    return min(int(text), MAX_LIMIT) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text or 0)
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), MAX_WAIT_SECONDS) if seconds == seconds else 0.0  # noqa: PLR0124 -- not a number
