"""Many processes that call a simulated Calendly as one user, on a clock that goes on when all of them wait.

Postgres is real, and its answers take no simulated time. A process here is what shares nothing else with another one:
its own budgets, its own clock, its own connections.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from slotwire.ingest.control.calendly_client.budget import Budgets, CalendlyCaller
from slotwire.ingest.control.calendly_client.leases import CallKind, Priority
from slotwire.ingest.errors import CalendlyError
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.simulator.rates import RateRules, Rates

USER = "https://api.calendly.com/users/U"
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SETTLED_TURNS = 8


class SimulatedTime:
    """Seconds that go on to the next wake-up when nobody runs and nobody waits for Postgres."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.asking = 0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._number = 0
        self.moves = 0

    @property
    def now(self) -> datetime:
        """The time as the simulated Calendly has it."""
        return START + timedelta(seconds=self.seconds)

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for an event, at most so many simulated seconds."""
        self._number += 1
        heapq.heappush(self._sleepers, (self.seconds + seconds, self._number, event))
        await event.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait so many simulated seconds."""
        await self.pause(asyncio.Event(), seconds)

    async def run(self, until: float) -> None:
        """Go on to a time."""
        while True:
            await self._settle()
            if not self._sleepers or self._sleepers[0][0] > until:
                self.seconds = until
                return
            at, _, event = heapq.heappop(self._sleepers)
            if not event.is_set():
                self.seconds = max(self.seconds, at)
                event.set()

    async def _settle(self) -> None:
        """Let everybody run until nobody can."""
        quiet = 0
        while quiet < SETTLED_TURNS:
            before = self.moves
            await asyncio.sleep(0)
            quiet = 0 if self.asking or self.moves != before else quiet + 1


class CountedPool:
    """A pool that tells the simulated time while somebody waits for it."""

    def __init__(self, pool: Pool, time: SimulatedTime) -> None:
        self._pool = pool
        self._time = time

    @asynccontextmanager
    async def acquire(self, *, timeout: float | None = None) -> AsyncIterator[Any]:  # noqa: ASYNC109 - asyncpg's name
        """Borrow a connection."""
        self._time.asking += 1
        try:
            async with self._pool.acquire(timeout=timeout) as connection:
                yield connection
        finally:
            self._time.asking -= 1
            self._time.moves += 1


@dataclass
class CallMade:
    """One call as Calendly saw it."""

    at: float
    process: int
    caller: str
    priority: Priority
    status: int
    waited: float


@dataclass
class RateSimulation:
    """A simulated Calendly, and the processes that call it."""

    pool: Pool
    rules: RateRules = field(default_factory=RateRules)
    limit: int = 500
    latency: float = 0.1
    time: SimulatedTime = field(default_factory=SimulatedTime)
    rates: Rates = field(default_factory=Rates)
    made: list[CallMade] = field(default_factory=list)
    refused: list[tuple[float, Priority]] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    budgets: list[Budgets] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rates.rules = self.rules

    def process(self, skew: float = 0.0, *, assumed: int = 50) -> Budgets:
        """Start a process whose clock is so many seconds ahead."""
        began, time = self.time.seconds, self.time
        clock = ManualClock(time.now + timedelta(seconds=skew))
        made = Budgets(
            cast("Pool", CountedPool(self.pool, time)),
            clock,
            CalendlySettings(assumed_calls_per_minute=assumed),
            timer=lambda: time.seconds - began,
            pause=time.pause,
        )
        self.budgets.append(made)
        return made

    async def call(self, budgets: Budgets, caller: CalendlyCaller, name: str) -> bool:
        """Make one call; return whether Calendly answered it well. A call without a turn is noted, not made."""
        asked = self.time.seconds
        try:
            await caller.turn("calling")
        except CalendlyError:
            self.refused.append((self.time.seconds, caller.priority))
            return False
        waited = self.time.seconds - asked
        await self.time.sleep(self.latency / 2)
        state = self.rates.call(USER, self.limit, self.time.now)
        status = 429 if state.refused else 200
        self.made.append(
            CallMade(self.time.seconds, self.budgets.index(budgets), name, caller.priority, status, waited)
        )
        await self.time.sleep(self.latency / 2)
        headers = {name.lower(): value for name, value in self.rates.headers(state).items()}
        await caller.heard(status, headers)
        return status == 200

    def busy(self, budgets: Budgets, priority: Priority, name: str, *, at_once: int = 1, pause: float = 0.0) -> None:
        """Let a caller make calls without end, so many at once, each after a pause."""
        caller = budgets.caller(USER, priority, CallKind.API)

        async def line() -> None:
            while True:
                if not await self.call(budgets, caller, name):
                    await self.time.sleep(1.0)
                if pause:
                    await self.time.sleep(pause)

        for _ in range(at_once):
            self.start(line)

    def start(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run something beside."""

        async def run() -> None:
            await work()

        self.tasks.append(asyncio.create_task(run()))

    async def run(self, until: float) -> None:
        """Go on to a time; an error of whoever runs beside is raised."""
        await self.time.run(until)
        for task in self.tasks:
            if task.done():
                task.result()

    async def stop(self) -> None:
        """End whoever runs beside, in the middle of what they do."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    async def end(self) -> None:
        """End everything."""
        await self.stop()
        for each in self.budgets:
            await each.aclose()

    def good(self, since: float = 0.0, until: float = float("inf")) -> int:
        """Count answers that were no refusal."""
        return sum(1 for call in self.made if call.status == 200 and since <= call.at < until)

    def limited(self) -> int:
        """Count answers 429."""
        return sum(1 for call in self.made if call.status == 429)


@asynccontextmanager
async def rate_simulation(pool: Pool, **options: Any) -> AsyncIterator[RateSimulation]:
    """Run a simulation; its processes end with the block."""
    simulation = RateSimulation(pool, **options)
    try:
        yield simulation
    finally:
        await simulation.end()
