"""Turns at Calendly that come at once: each has its time as ever, and the timer goes on to it when somebody waits.

For tests whose clock stands still: what is counted by the minute is counted, and no second passes meanwhile.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.calendly_client.use_log import PostgresUseLog
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.foundation.settings import CalendlySettings


def hurried(pool: Pool, clock: Clock, settings: CalendlySettings) -> Budgets:
    """Make the budgets of one process."""
    timer = _HurriedTimer()
    uses = PostgresUseLog(pool, clock, wait_for)
    return Budgets(pool, clock, settings, timer=timer, pause=timer.pause, uses=uses)


class _HurriedTimer:
    """Seconds that only go forward, and at once to the next time that somebody waits for."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._awaited: list[float] = []

    def __call__(self) -> float:
        return monotonic() + self._ahead

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for an event, at most so many seconds of this timer."""
        until = self() + seconds
        self._awaited.append(until)
        try:
            await asyncio.sleep(0)
            while not event.is_set() and self() < until:
                self._ahead += max(min(self._awaited) - self(), 0.0)
                await asyncio.sleep(0)
        finally:
            self._awaited.remove(until)
