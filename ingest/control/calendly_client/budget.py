"""Turns to call Calendly: a budget for each user, shared by all processes, the most urgent calls first.

Every call of every transport waits here for its turn. Postgres gives the times of turns to processes in small leases
(`leases.py`), fair among the callers of a priority; here they are handed on: the most urgent waiting call gets the next
turn, callers of one priority in rotation. docs/explanation/rate-budget.md says how and why.

A call of a person is refused where there will be no turn within `PATIENCE_SECONDS`, with the time to come back. While
Postgres is away, a process lets pass `AWAY_CALLS` calls a minute for people; other calls fail and are repeated later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic
from uuid import uuid4

from slotwire.ingest.control.calendly_client import booking_limits
from slotwire.ingest.control.calendly_client.leases import CallKind, Priority, RateAnswer
from slotwire.ingest.control.calendly_client.use_log import PostgresUseLog
from slotwire.ingest.control.calendly_client.user_budget import UserBudget
from slotwire.ingest.control.calendly_client.uses import Bearer, TurnLease, UseLog
from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.calendly_metrics import CALENDLY_TURN_SECONDS
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.foundation.telemetry import get_logger

AWAY_CALLS = 10
"""Calls for people that a process lets pass in a minute while Postgres is away."""
_MINUTE = 60.0

Pause = Callable[[asyncio.Event, float], Awaitable[object]]
_log = get_logger("budget")


class Budgets:
    """The budgets of one process: of every user that it acts as."""

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        settings: CalendlySettings,
        *,
        timer: Callable[[], float] = monotonic,
        pause: Pause = wait_for,
        uses: UseLog | None = None,
    ) -> None:
        """Make them; nothing is asked.

        Args:
            pool: the database.
            clock: tells the time; where it goes forward faster than the timer, as a driven one may, so do the budgets.
            settings: the limit of a user about whom nothing is known.
            timer: seconds that only go forward.
            pause: waits for an event, at most so many seconds of the timer.
            uses: where the audit of calls is written; None for the database.
        """
        self.pool = pool
        self.settings = settings
        self.holder = uuid4()
        self.pause = pause
        self.uses: UseLog = uses or PostgresUseLog(pool, clock, pause)
        self.clock = clock
        self._timer = timer
        self._began = clock.now().timestamp() - timer()
        self._users: dict[tuple[str, CallKind], UserBudget] = {}
        self._away: deque[float] = deque(maxlen=AWAY_CALLS)

    def now(self) -> float:
        """Return the process's own time, which never goes back: seconds since 1970 by clock and timer."""
        timer = self._timer()
        self._began = max(self._began, self.clock.now().timestamp() - timer)
        return self._began + timer

    def caller(
        self, user: str | None, priority: Priority, kind: CallKind = CallKind.API, *, by: Bearer | None = None
    ) -> CalendlyCaller:
        """Make a caller: one piece of work, which takes turns with the others of its user.

        Args:
            user: the user's URI; None until it is known, and until then its calls are not counted.
            priority: how urgent it is.
            kind: what Calendly counts apart.
            by: what the audit says of it besides; None for a chore of which nothing more is known.
        """
        return CalendlyCaller(self, user, priority, kind, by or Bearer())

    def of(self, user: str, kind: CallKind) -> UserBudget:
        """Return a user's budget."""
        found = self._users.get((user, kind))
        if found is None:
            found = self._users[user, kind] = UserBudget(self, user, kind)
        return found

    def passes_away(self) -> bool:
        """Return whether one more call of a person passes while Postgres is away, and count it."""
        now = self.now()
        if len(self._away) == AWAY_CALLS and now - self._away[0] < _MINUTE:
            return False
        self._away.append(now)
        return True

    async def aclose(self) -> None:
        """End what still asks for turns, and write what the audit still lacks; calls that wait are cancelled."""
        for user in self._users.values():
            await user.aclose()
        await self.uses.aclose()


@dataclass(eq=False, slots=True)
class CalendlyCaller:
    """One piece of work that calls Calendly as one user. Made by `Budgets.caller`."""

    budgets: Budgets
    user: str | None
    priority: Priority
    kind: CallKind
    by: Bearer = field(default_factory=Bearer)

    async def turn(self, doing: str) -> TurnLease | None:
        """Wait until a call may be made; return the lease of its turn, None where it had none.

        Args:
            doing: what is attempted; begins the message of a refusal.

        Raises:
            CalendlyError: there is no turn in time (`limited`, without a status: the call was not made).
            DatabaseUnavailable: Postgres is away, and the call may not pass without it.
        """
        if self.user is None:
            return None
        began = self.budgets.now()
        lease = await self.budgets.of(self.user, self.kind).turn(self, doing)
        CALENDLY_TURN_SECONDS.labels(self.priority.name.lower()).observe(max(self.budgets.now() - began, 0.0))
        return lease

    async def booking_turn(self, doing: str) -> None:
        """Take a turn of those that Calendly gives for bookings only; see `booking_limits`."""
        if self.user is not None:
            now = self.budgets.of(self.user, CallKind.API).time()
            await booking_limits.take(self.budgets.pool, self.user, now, doing, self.priority.name.lower())

    async def booking_heard(self, status: int, headers: Mapping[str, str]) -> None:
        """Take in the answer to a booking: what its headers count may be bookings, so only a refusal says something."""
        if self.user is None or status != HTTPStatus.TOO_MANY_REQUESTS:
            return
        now = self.budgets.of(self.user, CallKind.API).time()
        try:
            await booking_limits.refused(self.budgets.pool, self.user, now, headers)
        except DatabaseUnavailable as problem:
            _log.warning("refusal_not_told", error=problem.message)

    async def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """Take in what an answer says about the user's rate; what others must know is told at once."""
        if self.user is None:
            return
        answer = RateAnswer.read(status, headers, self.budgets.now())
        if answer is not None:
            await self.budgets.of(self.user, self.kind).heard(answer)
