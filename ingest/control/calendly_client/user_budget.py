"""One user's budget as one process sees it: turns it was given, and who waits for one. See `budget.py`."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID

from slotwire.ingest.control.calendly_client.leases import (
    MAX_LATE_SECONDS,
    MAX_LEASE_CALLS,
    CallKind,
    LeaseRequest,
    Priority,
    RateAnswer,
    lease,
)
from slotwire.ingest.control.calendly_client.uses import TurnLease
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, DatabaseUnavailable
from slotwire.ingest.foundation.calendly_metrics import CALENDLY_CALLS_LEFT, CALENDLY_CALLS_WITHHELD
from slotwire.ingest.foundation.clock import ordered_id
from slotwire.ingest.foundation.telemetry import get_logger

if TYPE_CHECKING:
    from slotwire.ingest.control.calendly_client.budget import Budgets, CalendlyCaller

PATIENCE_SECONDS: Mapping[Priority, float] = MappingProxyType(
    {Priority.PERSON: 10.0, Priority.REPAIR: 75.0, Priority.SWEEP: 300.0}
)
"""How long a call waits for its turn, by priority; then it is refused. Calendly counts by the minute."""
TOLD_LOW = 0.05
"""The share of a limit from which on an answer is told to the other processes at once, not with the next question."""

_log = get_logger("budget")


@dataclass(eq=False, slots=True)
class _Waiting:
    caller: CalendlyCaller
    doing: str
    until: float
    turn: asyncio.Future[TurnLease | None]


class UserBudget:
    """One user's budget as this process sees it: turns it was given, and who waits for one."""

    def __init__(self, budgets: Budgets, user: str, kind: CallKind) -> None:
        self._budgets = budgets
        self._user = user
        self._kind = kind
        self._ahead: float | None = None  # of the budget's time to ours; None until it is known
        self._slots: deque[tuple[float, TurnLease]] = deque()  # by the budget's time
        self._org: str | None = None
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

    async def turn(self, caller: CalendlyCaller, doing: str) -> TurnLease | None:
        """Wait for a turn; see `CalendlyCaller.turn`."""
        self._org = caller.by.org or self._org
        if not any(self._queues.values()) and (lease := self._take()) is not None:
            return lease
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
            return await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled() and (given := waiting.turn.result()) is not None:
                self._budgets.uses.drop(given, taken=True)
            raise
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
        """End the task that hands out turns, and give up those that nobody took."""
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)
        for waiting in [each for queue in self._queues.values() for line in queue.values() for each in line]:
            waiting.turn.cancel()
        while self._slots:
            self._budgets.uses.drop(self._slots.popleft()[1], taken=False)

    def time(self) -> float:
        """Return the budget's time, as we reckon it."""
        return self._budgets.now() + (self._ahead or 0.0)

    def _take(self) -> TurnLease | None:
        """Take a turn whose time has come, if there is one."""
        now = self.time()
        if self._drop_late():
            self._spare = 0
        if not self._slots or self._slots[0][0] > now:
            return None
        _, lease = self._slots.popleft()
        lease.left -= 1
        lease.open += 1
        return lease

    def _drop_late(self) -> bool:
        """Drop turns whose time is long past: made up for after a sleep, they would be a burst. Whether there were."""
        late, now = False, self.time()
        while self._slots and self._slots[0][0] < now - MAX_LATE_SECONDS:
            _, lease = self._slots.popleft()
            self._budgets.uses.drop(lease, taken=False)
            late = True
        return late

    def _none_left(self) -> bool:
        """Drop what is late; return whether no turn is left."""
        self._drop_late()
        return not self._slots

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
                if (lease := self._take()) is not None:
                    self._grant(lease)
                    continue
                self._poke.clear()
                unmet, now = any(self._without_turn()), self._budgets.now()
                if unmet and now >= self._again:
                    async with self._asking:
                        await self._ask()
                    continue
                due = [self._slots[0][0] - self.time()] if self._slots else []
                due += [self._again - now] if unmet else []
                await self._budgets.pause(self._poke, max(min(due, default=0.0), 0.0))
                self._refuse_late(0.0, Priority.PERSON)
        except DatabaseUnavailable as problem:
            self._without_database(problem)
        except Exception as problem:  # noqa: BLE001 -- whoever waits gets it; otherwise they would wait for ever
            self._fail(problem)

    def _grant(self, lease: TurnLease) -> None:
        waiting = self._next()
        if waiting is not None and not waiting.turn.done():
            waiting.turn.set_result(lease)
        else:
            self._budgets.uses.drop(lease, taken=True)

    async def _ask(self) -> None:
        """Ask Postgres for turns, and tell it what Calendly said."""
        answer, self._answer, calls = self._answer, None, self._without_turn()
        sent, asked_at = self._budgets.now(), self._budgets.clock.now()
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
            ordered_id(asked_at),
            asked_at,
            self._org,
        )
        budgets = self._budgets
        given = await lease(budgets.pool, budgets.holder, request, assumed=budgets.settings.assumed_calls_per_minute)
        now = budgets.now()
        # Reckoned from when the answer is here, we are never ahead of the process whose clock goes furthest ahead.
        ahead = given.at - now
        self._ahead = ahead if self._ahead is None else max(self._ahead, ahead)
        self._keep(given.slots, request.use)
        self._spare = min(2 * self._spare + 1, MAX_LEASE_CALLS - 1) if any(calls) else self._spare
        self._limit, self._low = given.limit, given.left <= TOLD_LOW * given.limit
        self._again = now + given.again
        CALENDLY_CALLS_LEFT.observe(given.left / given.limit)
        asked = _most_urgent(calls)
        self._asked = _most_urgent(self._without_turn())
        if self._asked is not None and (asked is None or self._asked < asked):
            self._again = 0.0  # it came while we asked: what Postgres said is not about it
        self._refuse_late(given.blocked, asked or Priority.SWEEP)

    def _keep(self, slots: Sequence[float], use: UUID) -> None:
        """Keep turns that were given."""
        if slots:
            lease = TurnLease(use, self._user, self._org, len(slots))
            self._slots.extend((slot, lease) for slot in slots)
            self._budgets.uses.watch(self._none_left)

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
