"""Which valid hooks had to be answered other than 2xx: kept in memory, and noted as holes when Postgres allows.

Calendly drops a message after a day of failures, though the hook stays active when others arrive. So each such answer
may be the first of a loss, and is told: per hook the first and the last time, because Postgres may be what is missing.
Each telling says too that this process has Postgres; a time in which none said so is a hole of every organization.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.keys.hooks import HookAddresses, HookId

TELL_SECONDS = 5.0
"""How often a process says that it has Postgres, and what it noted."""
LONGEST = timedelta(seconds=30)
"""A longer time in which no process said so is a hole."""
SKEW = timedelta(minutes=5)
"""By how much clocks may differ: a hole begins so much earlier."""
MAX_HOOKS = 50_000
"""Hooks that are kept in memory. Past it the times of those that are known still grow; others are covered by the time
in which no process had Postgres, which is what makes so many."""
LAST_SECONDS = 2.0
"""How long a process that ends waits to tell what it noted."""

_SQL = read_queries("slotwire.ingest.sql", "serving.sql")
_log = get_logger("hook_troubles")


class HookTroubles:
    """Keeps what went wrong, and tells it."""

    def __init__(self, pool: Pool, addresses: HookAddresses, clock: Clock) -> None:
        self._pool = pool
        self._addresses = addresses
        self._clock = clock
        self._noted: dict[HookId, tuple[datetime, datetime]] = {}
        self._silent = False

    def note(self, hook: str) -> None:
        """Keep that a delivery to a hook of ours was answered other than 2xx."""
        hook_id = self._addresses.read(hook)
        if hook_id is None:
            return
        now = self._clock.now()
        known = self._noted.get(hook_id)
        if known is not None or len(self._noted) < MAX_HOOKS:
            self._noted[hook_id] = (min(known[0], now), max(known[1], now)) if known else (now, now)

    async def run(self) -> None:
        """Tell again and again until cancelled; what cannot be told is kept."""
        while True:
            await self.tell_or_log()
            await asyncio.sleep(TELL_SECONDS)

    async def tell_or_log(self) -> None:
        """Tell; a failure is logged once until it can be told again."""
        try:
            await self.tell()
            self._silent = False
        except SlotwireError as problem:
            if not self._silent:
                _log.warning("holes_not_noted", hooks=len(self._noted), error=problem.message)
            self._silent = True

    async def tell(self) -> int:
        """Tell once; return how many holes were noted.

        Raises:
            DatabaseUnavailable: it is told later.
        """
        taken, self._noted = self._noted, {}
        times = ([*taken], [first for first, _ in taken.values()], [last for _, last in taken.values()])
        try:
            with translated():
                holes: int = await self._pool.fetchval(
                    _SQL["note_serving"], self._clock.now(), LONGEST, SKEW, *times, timeout=TELL_SECONDS
                )
        except BaseException:
            # It may have been noted all the same: to note it again changes nothing but the last time.
            for hook_id, (first, last) in taken.items():
                later = self._noted.get(hook_id, (first, last))
                self._noted[hook_id] = (min(first, later[0]), max(last, later[1]))
            raise
        return holes

    async def leave(self) -> None:
        """Tell what is left, for a bounded time."""
        if not self._noted:
            return
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self.tell_or_log()
        except TimeoutError:
            _log.warning("holes_not_noted", hooks=len(self._noted), error="Postgres did not answer in time")
