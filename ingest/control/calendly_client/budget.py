"""Turns to call Calendly: a budget for each user, shared by all processes, the most urgent calls first.

Every call of every transport waits here for its turn. Postgres gives the times of turns to processes in small leases
(`leases.py`), fair among the callers of a priority; here they are handed on: the most urgent waiting call gets the next
turn, callers of one priority in rotation. docs/explanation/rate-budget.md says how and why.

A call of a person is refused where there will be no turn within `PATIENCE_SECONDS`, with the time to come back. While
Postgres is away, a process lets pass `AWAY_CALLS` calls a minute for people; other calls fail and are repeated later.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from types import MappingProxyType
from uuid import uuid4

from slotwire.ingest.control.calendly_client.leases import (
    MAX_LATE_SECONDS,
    MAX_LEASE_CALLS,
    CallKind,
    LeaseRequest,
    Priority,
    RateAnswer,
    lease,
)
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, DatabaseUnavailable
from slotwire.ingest.foundation.calendly_metrics import (
    CALENDLY_CALLS_LEFT,
    CALENDLY_CALLS_WITHHELD,
    CALENDLY_TURN_SECONDS,
)
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.foundation.telemetry import get_logger

PATIENCE_SECONDS: Mapping[Priority, float] = MappingProxyType(
    {Priority.PERSON: 10.0, Priority.REPAIR: 75.0, Priority.SWEEP: 300.0}
)
"""How long a call waits for its turn, by priority; then it is refused. Calendly counts by the minute."""
AWAY_CALLS = 10
"""Calls for people that a process lets pass in a minute while Postgres is away."""
TOLD_LOW = 0.05
"""The share of a limit from which on an answer is told to the other processes at once, not with the next question."""
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
    ) -> None:
        """Make them; nothing is asked.

        Args:
            pool: the database.
            clock: tells the time; where it goes forward faster than the timer, as a driven one may, so do the budgets.
            settings: the limit of a user about whom nothing is known.
            timer: seconds that only go forward.
            pause: waits for an event, at most so many seconds of the timer.
        """
        self.pool = pool
        self.settings = settings
        self.holder = uuid4()
        self.pause = pause
        self._timer = timer
        self._clock = clock
        self._began = clock.now().timestamp() - timer()
        self._users: dict[tuple[str, CallKind], UserBudget] = {}
        self._away: deque[float] = deque(maxlen=AWAY_CALLS)

    def now(self) -> float:
        """Return the process's own time, which never goes back: seconds since 1970 by clock and timer."""
        timer = self._timer()
        self._began = max(self._began, self._clock.now().timestamp() - timer)
        return self._began + timer

    def caller(self, user: str | None, priority: Priority, kind: CallKind = CallKind.API) -> CalendlyCaller:
        """Make a caller: one piece of work, which takes turns with the others of its user.

        Args:
            user: the user's URI; None until it is known, and until then its calls are not counted.
            priority: how urgent it is.
            kind: what Calendly counts apart.
        """
        return CalendlyCaller(self, user, priority, kind)

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
        """End what still asks for turns; calls that wait for one are cancelled."""
        for user in self._users.values():
            await user.aclose()


@dataclass(eq=False, slots=True)
class CalendlyCaller:
    """One piece of work that calls Calendly as one user. Made by `Budgets.caller`."""

    budgets: Budgets
    user: str | None
    priority: Priority
    kind: CallKind

    async def turn(self, doing: str) -> None:
        """Wait until a call may be made.

        Args:
            doing: what is attempted; begins the message of a refusal.

        Raises:
            CalendlyError: there is no turn in time (`limited`, without a status: the call was not made).
            DatabaseUnavailable: Postgres is away, and the call may not pass without it.
        """
        if self.user is None:
            return
        began = self.budgets.now()
        await self.budgets.of(self.user, self.kind).turn(self, doing)
        CALENDLY_TURN_SECONDS.labels(self.priority.name.lower()).observe(max(self.budgets.now() - began, 0.0))

    async def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """Take in what an answer says about the user's rate; what others must know is told at once."""
        if self.user is None:
            return
        answer = RateAnswer.read(status, headers, self.budgets.now())
        if answer is not None:
            await self.budgets.of(self.user, self.kind).heard(answer)


@dataclass(eq=False, slots=True)
class _Waiting:
    caller: CalendlyCaller
    doing: str
    until: float
    turn: asyncio.Future[None]


class UserBudget:
    """One user's budget as this process sees it: turns it was given, and who waits for one."""

    def __init__(self, budgets: Budgets, user: str, kind: CallKind) -> None:
        self._budgets = budgets
        self._user = user
        self._kind = kind
        self._ahead: float | None = None  # of the budget's time to ours; None until it is known
        self._slots: deque[float] = deque()  # by the budget's time
        self._queues: dict[Priority, OrderedDict[CalendlyCaller, deque[_Waiting]]] = {
            each: OrderedDict() for each in Priority
        }
        self._again = 0.0  # by our time: when to ask for more
        self._asked: Priority | None = None  # the most urgent that waited without a turn when we last asked
        self._spare = 0  # turns to ask for that nobody waits for yet: one call after another is cheaper so
        self._limit = 0
        self._low = False
        self._answer: RateAnswer | None = None
        self._poke = asyncio.Event()
        self._asking = asyncio.Lock()
        self._driver: asyncio.Task[None] | None = None

    async def turn(self, caller: CalendlyCaller, doing: str) -> None:
        """Wait for a turn; see `CalendlyCaller.turn`."""
        if not any(self._queues.values()) and self._take():
            return
        until = self._budgets.now() + PATIENCE_SECONDS[caller.priority]
        waiting = _Waiting(caller, doing, until, asyncio.get_running_loop().create_future())
        queue = self._queues[caller.priority]
        queue.setdefault(caller, deque()).append(waiting)
        if self._asked is None or caller.priority < self._asked:
            self._again = 0.0
            self._poke.set()
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive(), name="calendly-budget")
        try:
            await waiting.turn
        finally:
            self._leave(waiting)

    async def heard(self, answer: RateAnswer) -> None:
        """Keep an answer for the next question; ask at once where others must know."""
        limit = answer.limit or self._limit
        self._answer = answer
        low = answer.remaining is not None and answer.remaining <= TOLD_LOW * limit
        if answer.refused is None and limit == self._limit and not low and not self._low:
            return
        try:
            async with self._asking:
                if self._answer is not None:  # the driver may have told it meanwhile
                    await self._ask()
                    self._poke.set()  # there may be turns for those who wait
        except DatabaseUnavailable as problem:
            _log.warning("answer_not_told", error=problem.message)

    async def aclose(self) -> None:
        """End the task that hands out turns."""
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)
        for waiting in [each for queue in self._queues.values() for line in queue.values() for each in line]:
            waiting.turn.cancel()

    def _time(self) -> float:
        """Return the budget's time, as we reckon it."""
        return self._budgets.now() + (self._ahead or 0.0)

    def _take(self) -> bool:
        """Take a turn whose time has come, if there is one."""
        now = self._time()
        while self._slots and self._slots[0] < now - MAX_LATE_SECONDS:
            self._slots.popleft()  # after a sleep: made up for, they would be a burst
            self._spare = 0
        if not self._slots or self._slots[0] > now:
            return False
        self._slots.popleft()
        return True

    def _leave(self, waiting: _Waiting) -> None:
        queue = self._queues[waiting.caller.priority]
        line = queue.get(waiting.caller)
        if line is None or waiting not in line:
            return
        line.remove(waiting)
        if not line:
            del queue[waiting.caller]

    def _next(self) -> _Waiting | None:
        """Return who gets the next turn, and put its caller behind the others of its priority."""
        for queue in self._queues.values():
            for caller, line in queue.items():
                waiting = line.popleft()
                if line:
                    queue.move_to_end(caller)
                else:
                    del queue[caller]
                return waiting
        return None

    def _without_turn(self) -> list[int]:
        """Count calls that wait without a turn, by priority: those that we have are for the most urgent."""
        held, counts = len(self._slots), list[int]()
        for queue in self._queues.values():
            calls = sum(map(len, queue.values()))
            counts.append(max(calls - held, 0))
            held = max(held - calls, 0)
        return counts

    async def _drive(self) -> None:
        """Hand out turns while somebody waits."""
        try:
            while any(self._queues.values()):
                if self._take():
                    self._grant()
                    continue
                self._poke.clear()
                unmet, now = any(self._without_turn()), self._budgets.now()
                if unmet and now >= self._again:
                    async with self._asking:
                        await self._ask()
                    continue
                due = [self._slots[0] - self._time()] if self._slots else []
                due += [self._again - now] if unmet else []
                await self._budgets.pause(self._poke, max(min(due, default=0.0), 0.0))
                self._refuse_late(0.0, Priority.PERSON)
        except DatabaseUnavailable as problem:
            self._without_database(problem)
        except Exception as problem:  # noqa: BLE001 -- whoever waits gets it; otherwise they would wait for ever
            self._fail(problem)

    def _grant(self) -> None:
        waiting = self._next()
        if waiting is not None and not waiting.turn.done():
            waiting.turn.set_result(None)

    async def _ask(self) -> None:
        """Ask Postgres for turns, and tell it what Calendly said."""
        answer, self._answer, calls = self._answer, None, self._without_turn()
        sent = self._budgets.now()
        request = LeaseRequest(
            self._user,
            self._kind,
            sent + (self._ahead or 0.0),
            self._ahead is None,
            [len(queue) for queue in self._queues.values()],
            calls,
            min(self._spare, max(MAX_LEASE_CALLS - sum(calls), 0)) if any(calls) else 0,
            answer,
            0.0 if answer is None else max(sent - answer.seen_at, 0.0),
        )
        budgets = self._budgets
        given = await lease(budgets.pool, budgets.holder, request, assumed=budgets.settings.assumed_calls_per_minute)
        now = budgets.now()
        # Reckoned from when the answer is here, we are never ahead of the process whose clock goes furthest ahead.
        ahead = given.at - now
        self._ahead = ahead if self._ahead is None else max(self._ahead, ahead)
        self._slots.extend(given.slots)
        self._spare = min(2 * self._spare + 1, MAX_LEASE_CALLS - 1) if any(calls) else self._spare
        self._limit, self._low = given.limit, given.left <= TOLD_LOW * given.limit
        self._again = now + given.again
        CALENDLY_CALLS_LEFT.observe(given.left / given.limit)
        asked = _most_urgent(calls)
        self._asked = _most_urgent(self._without_turn())
        if self._asked is not None and (asked is None or self._asked < asked):
            self._again = 0.0  # it came while we asked: what Postgres said is not about it
        self._refuse_late(given.blocked, asked or Priority.SWEEP)

    def _refuse_late(self, blocked: float, priority: Priority) -> None:
        """Refuse the calls that get no turn in time.

        Args:
            blocked: seconds until the next turn that we do not have.
            priority: the most urgent that this is said of.
        """
        if self._slots:
            return
        now = self._budgets.now()
        for queue in (queue for each, queue in self._queues.items() if each >= priority):
            for waiting in [each for line in queue.values() for each in line]:
                if now + blocked <= waiting.until:
                    continue
                self._leave(waiting)
                CALENDLY_CALLS_WITHHELD.labels(waiting.caller.priority.name.lower(), "limit").inc()
                if not waiting.turn.done():
                    waiting.turn.set_exception(_no_turn(waiting.doing, max(blocked, 1.0)))

    def _without_database(self, problem: DatabaseUnavailable) -> None:
        """Let a few calls of people pass; fail all others."""
        while (waiting := self._next()) is not None:
            if waiting.turn.done():
                continue
            if waiting.caller.priority is Priority.PERSON and self._budgets.passes_away():
                waiting.turn.set_result(None)
                continue
            CALENDLY_CALLS_WITHHELD.labels(waiting.caller.priority.name.lower(), "database").inc()
            waiting.turn.set_exception(
                DatabaseUnavailable(
                    f"{waiting.doing}: Postgres is away, and without it calls to Calendly are not counted",
                    reason=problem.reason,
                    remedy=problem.remedy,
                )
            )

    def _fail(self, problem: Exception) -> None:
        while (waiting := self._next()) is not None:
            if not waiting.turn.done():
                waiting.turn.set_exception(problem)


def _most_urgent(calls: Sequence[int]) -> Priority | None:
    """Return the most urgent priority with calls."""
    return next((each for each, count in zip(Priority, calls, strict=True) if count), None)


def _no_turn(doing: str, wait: float) -> CalendlyError:
    return CalendlyError(
        f"{doing}: Calendly's rate limit for this user leaves no call now",
        problem=CalendlyProblem.LIMITED,
        wait=wait,
        remedy=f"Try again in {wait:.0f} s. Other programs that act as this user spend the same limit.",
    )
