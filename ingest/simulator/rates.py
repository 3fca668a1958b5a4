"""How many calls each user may make, as Calendly counts them and says so in headers.

Calendly does not document its window, so there are two: `fixed` begins with the first call after the last one ended,
`sliding` is the minute before each call. What others spend counts as Calendly counts it: other programs act as the
same user. Source: docs/reference/calendly.md, "REST", rate limits; "Simulator assumptions".
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

WINDOW = timedelta(seconds=60)
DEFAULT_RATE_LIMIT = 500
FREE_RATE_LIMIT = 50

WindowKind: TypeAlias = Literal["fixed", "sliding"]


@dataclass(frozen=True, slots=True)
class RateRules:
    """How users are counted, and what the headers say.

    Attributes:
        window: how a minute is counted.
        retry_after: whether a 429 has `Retry-After`.
        reset_zero: `X-RateLimit-Reset` is always 0.
        reset_skew_seconds: how far the clock behind `X-RateLimit-Reset` is behind (more seconds) or ahead (fewer).
        others_per_minute: calls that other programs make as each user, evenly.
    """

    window: WindowKind = "fixed"
    retry_after: bool = False
    reset_zero: bool = False
    reset_skew_seconds: float = 0.0
    others_per_minute: int = 0


@dataclass(frozen=True, slots=True)
class RateState:
    """A user's rate after a call.

    Attributes:
        limit: calls a minute.
        used: of them, this one included; above the limit if it is refused.
        reset_seconds: until more are left.
    """

    limit: int
    used: int
    reset_seconds: float

    @property
    def refused(self) -> bool:
        """Whether the call is beyond the limit."""
        return self.used > self.limit


@dataclass(slots=True)
class _Spent:
    """Calls of one user that count, in order; and up to when those of others were counted."""

    calls: deque[datetime] = field(default_factory=deque)
    others_to: datetime | None = None
    others_refused: int = 0


class Rates:
    """Counts the calls of every user."""

    def __init__(self) -> None:
        self.rules = RateRules()
        self._users: dict[str, _Spent] = {}

    def call(self, user: str, limit: int, now: datetime) -> RateState:
        """Count one call, and before it those that others have made meanwhile."""
        spent = self._users.setdefault(user, _Spent())
        self._others(spent, limit, now)
        return self._count(spent, limit, now)

    def spend(self, user: str, calls: int, limit: int, now: datetime) -> RateState:
        """Count calls of another program that acts as a user."""
        spent = self._users.setdefault(user, _Spent())
        for _ in range(calls):
            self._count(spent, limit, now)
        return RateState(limit, len(spent.calls), self._reset(spent, now))

    def others_refused(self, user: str) -> int:
        """Return how many of the others' even calls were beyond the limit."""
        return self._users.get(user, _Spent()).others_refused

    def headers(self, state: RateState) -> dict[str, str]:
        """Return what an answer says about its user's rate."""
        rules = self.rules
        seconds = 0.0 if rules.reset_zero else max(state.reset_seconds + rules.reset_skew_seconds, 0.0)
        found = {
            "X-RateLimit-Limit": str(state.limit),
            "X-RateLimit-Remaining": str(max(state.limit - state.used, 0)),
            "X-RateLimit-Reset": str(round(seconds)),
        }
        return found | {"Retry-After": str(round(seconds))} if state.refused and rules.retry_after else found

    def _count(self, spent: _Spent, limit: int, now: datetime) -> RateState:
        calls = spent.calls
        if self.rules.window == "sliding":
            while calls and calls[0] <= now - WINDOW:
                calls.popleft()
        elif calls and now >= calls[0] + WINDOW:
            calls.clear()
        if len(calls) >= limit:
            return RateState(limit, len(calls) + 1, self._reset(spent, now))
        calls.append(now)
        return RateState(limit, len(calls), self._reset(spent, now))

    def _others(self, spent: _Spent, limit: int, now: datetime) -> None:
        rate = self.rules.others_per_minute
        if not rate:
            spent.others_to = None
            return
        step = WINDOW / rate
        at = spent.others_to or now
        while at + step <= now:
            at += step
            spent.others_refused += self._count(spent, limit, at).refused
        spent.others_to = at

    def _reset(self, spent: _Spent, now: datetime) -> float:
        """Return the seconds until the first call of the window counts no more."""
        return (spent.calls[0] + WINDOW - now).total_seconds() if spent.calls else 0.0
