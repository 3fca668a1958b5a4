"""The connections to Calendly that a process shares; only `transport` calls with them.

A call that is cut off, by a cancellation or because its time is over, may leave its connection in httpx's pool neither
idle nor closed: the pool cleans up with awaits that the cancellation reaches (httpcore 1.0.9). It would take a place
for ever. So a pool in which a call was cut off gets no more calls, and is closed after its last one; the next call
opens another. Whoever waits for a place waits here, not in a pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from slotwire.ingest.errors import CalendlyError, CalendlyProblem

MAX_ANSWER_BYTES = 4_194_304
"""A longer answer is refused; a full page of 100 items is far below this."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer of any status; its headers are looked up by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(eq=False, slots=True)
class _Lent:
    """A client with its own pool, and how many calls use it now."""

    client: httpx.AsyncClient
    calls: int = 0


class SharedConnections:
    """Lends httpx's client, to so many calls at once; a pool that a cut-off call may have spoilt is replaced.

    Attributes:
        replaced: how many pools were.
    """

    def __init__(self, opened: Callable[[], httpx.AsyncClient], limit: int) -> None:
        """Open nothing yet.

        Args:
            opened: opens a client; called with the first call, and after one that was cut off.
            limit: calls at once.
        """
        self._opened = opened
        self._places = asyncio.Semaphore(limit)
        self._current: _Lent | None = None
        self._closing = set[asyncio.Task[None]]()
        self.replaced = 0

    async def exchange(self, method: str, url: str, *, doing: str, seconds: float, **request: Any) -> HttpAnswer:
        """Make one call.

        Args:
            method: for example `GET`.
            url: an address, or a path of Calendly's API.
            doing: what is attempted; begins the message of a refusal.
            seconds: from waiting for a place to the last octet of the answer.
            request: what httpx takes beside these.

        Raises:
            httpx.PoolTimeout: every place was taken for so long; no octet has left.
            TimeoutError: the answer was not there in time.
            httpx.HTTPError: no answer came.
            CalendlyError: the answer is too long (`unexpected`).
        """
        placed = False
        try:
            async with asyncio.timeout(seconds), self._lent() as client:
                placed = True
                async with client.stream(method, url, **request) as response:
                    return HttpAnswer(response.status_code, response.headers, await _bounded(response, doing))
        except TimeoutError:
            if placed:
                raise
            raise httpx.PoolTimeout("every connection was in use") from None

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend the client for one call, as soon as there is a place."""
        async with self._places:
            lent = self._current
            if lent is None:
                lent = self._current = _Lent(self._opened())
            lent.calls += 1
            try:
                yield lent.client
            except asyncio.CancelledError:
                if self._current is lent:
                    self._current = None
                    self.replaced += 1
                raise
            finally:
                lent.calls -= 1
                if lent.calls == 0 and self._current is not lent:
                    self._close(lent)

    async def aclose(self) -> None:
        """Close every connection."""
        lent, self._current = self._current, None
        if lent is not None:
            self._close(lent)
        await asyncio.gather(*self._closing)

    def _close(self, lent: _Lent) -> None:
        # In a task of its own: the call's may be cancelled again.
        task = asyncio.create_task(lent.client.aclose(), name="calendly-connections")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _bounded(response: httpx.Response, doing: str) -> bytes:
    received = bytearray()
    async for chunk in response.aiter_bytes():
        received += chunk
        if len(received) > MAX_ANSWER_BYTES:
            raise CalendlyError(
                f"{doing}: the answer is longer than {MAX_ANSWER_BYTES} bytes",
                problem=CalendlyProblem.UNEXPECTED,
                status=response.status_code,
                remedy="Check that SLOTWIRE_CALENDLY__API_URL is Calendly's address.",
            )
    return bytes(received)
