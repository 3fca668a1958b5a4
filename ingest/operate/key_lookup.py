"""Whose key a request came with, so that no flood of unknown keys holds up a good one.

A look-up takes all keys that wait for one, on a connection of its own. So a good key waits for the look-up that is
under way and for its own, however many others ask. A key is looked up for each request, so that a revoked one is
refused at once. Only a "no" is remembered: a key that is not known now will never be, because keys are random and
are made here.
"""

from __future__ import annotations

import asyncio
import hmac
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.operate.api_keys import USED_EVERY, digest, looks_like_a_key
from slotwire.ingest.operate.roles import Principal, Role

if TYPE_CHECKING:
    import asyncpg

MAX_WAITING = 2_000
"""Keys that wait for a look-up. A request with another one is answered 503."""
MAX_AT_ONCE = 500
"""Keys of one look-up."""
MAX_UNKNOWN = 10_000
"""Unknown keys that are remembered; the oldest are forgotten first."""
UNKNOWN_FOR = timedelta(seconds=60)
"""How long an unknown key is remembered."""

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")

Answer = asyncio.Future[Principal | None]


class KeyLookup:
    """Looks up keys of the management API."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        """Begin with nothing remembered.

        Args:
            pool: of one connection, which nothing else uses.
            clock: for the last use of keys, and for what is remembered.
        """
        self._pool = pool
        self._clock = clock
        self._waiting: dict[bytes, Answer] = {}
        self._unknown: dict[bytes, datetime] = {}
        self._asking = asyncio.Lock()

    async def recognize(self, key: str) -> Principal | None:
        """Return the caller that a key belongs to; None for an unknown or revoked key.

        The look-up is by hash, so its time reveals nothing about the key.

        Raises:
            RequestRefused: too many keys wait for a look-up (`too_busy`).
            DatabaseUnavailable: Postgres does not answer.
        """
        if not looks_like_a_key(key):
            return None
        wanted = digest(key)
        if self._is_remembered(wanted):
            return None
        while True:
            answer = self._wait_for(wanted)
            async with self._asking:
                if not answer.done():
                    await self._ask()
            if not answer.cancelled():  # else the request that asked was cut off: ask again
                return answer.result()

    def _is_remembered(self, wanted: bytes) -> bool:
        since = self._unknown.get(wanted)
        return since is not None and self._clock.now() - since < UNKNOWN_FOR

    def _wait_for(self, wanted: bytes) -> Answer:
        answer = self._waiting.get(wanted)
        if answer is None:
            if len(self._waiting) >= MAX_WAITING:
                raise RequestRefused("too many requests at once", code="too_busy", remedy="Try again in a moment.")
            answer = self._waiting[wanted] = asyncio.get_running_loop().create_future()
        return answer

    async def _ask(self) -> None:
        """Look up the keys that have waited longest. What comes meanwhile is for the next look-up, which sees more."""
        chosen = dict(list(self._waiting.items())[:MAX_AT_ONCE])
        for wanted in chosen:
            del self._waiting[wanted]
        try:
            found = await self._look_up(list(chosen))
        except Exception as error:  # noqa: BLE001 -- whoever waits gets it, this request among them
            for answer in chosen.values():
                answer.set_exception(error)
                answer.exception()  # a request that waits no more does not ask for it
        else:
            for wanted, answer in chosen.items():
                answer.set_result(found.get(wanted))
        finally:
            for answer in chosen.values():
                answer.cancel()  # nothing, where it is answered

    async def _look_up(self, wanted: list[bytes]) -> dict[bytes, Principal]:
        now = self._clock.now()
        with translated():
            rows = await self._pool.fetch(_SQL["keys_by_hash"], wanted)
            used = [row["id"] for row in rows if _is_due(row, now)]
            if used:
                await self._pool.execute(_SQL["touch_keys"], used, now)
        for key in set(wanted) - {row["hash"] for row in rows}:
            self._remember(key, now)
        return {
            key: Principal(Role(row["role"]), row["org"], row["id"])
            for row in rows
            for key in wanted
            if row["revoked_at"] is None and hmac.compare_digest(row["hash"], key)
        }

    def _remember(self, key: bytes, now: datetime) -> None:
        self._unknown.pop(key, None)  # so that the order is that of the times
        self._unknown[key] = now
        if len(self._unknown) > MAX_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]


def _is_due(row: asyncpg.Record, now: datetime) -> bool:
    """Return whether the last use is to be written: at most every `USED_EVERY`, so that a request costs no write."""
    last = row["last_used_at"]
    return row["revoked_at"] is None and (last is None or now - last >= USED_EVERY)
