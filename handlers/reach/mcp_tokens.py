"""A token of the MCP server for one run of a handler: `ctx.mcp_token()`. It ends with the run, however that ends.

The database binds it to the chain of bookings that the run's event is about. While the run works, its process says so
every few seconds; a process that was killed says nothing more, and the token ends after three times as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID, uuid4

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import SlotwireError

KEEP_SECONDS = 5.0
"""How often a run says that it goes on; without it a token ends after 15 s (`slotwire.keep_mcp_run`)."""
LEFT = timedelta(minutes=1)
"""A token that has less time left is replaced."""
END_SECONDS = 1.0
"""How long the end of a run waits for its tokens to end; then they end by themselves."""
PREFIX = "slwr_"
"""Lets secret scanners and people recognize a token of a run."""


@dataclass(frozen=True, slots=True)
class RunToken:
    """A token of the MCP server.

    Attributes:
        url: the endpoint that it is good for.
        token: goes into the header `Authorization: Bearer …`.
        expires_at: when it ends at the latest, in UTC: 15 minutes after it was made.
    """

    url: str
    token: str = field(repr=False)
    expires_at: datetime


class RunCalls(Protocol):
    """Gives tokens to runs, and ends them: in Postgres, or in memory for an agent's own tests."""

    async def token_of_run(self, grant: str, run: UUID) -> RunToken:
        """Give a run a token, with its grant."""
        ...

    async def keep_run(self, run: UUID) -> bool:
        """Say that a run goes on; returns whether its tokens are still good."""
        ...

    async def end_run(self, run: UUID) -> None:
        """End the tokens of a run."""
        ...


class RunTokens:
    """The tokens of one run."""

    def __init__(self, calls: RunCalls, grant: Callable[[], Awaitable[str]], clock: Clock) -> None:
        self._calls = calls
        self._grant = grant
        self._clock = clock
        self._run = uuid4()
        self._token: RunToken | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._one_by_one = asyncio.Lock()
        self._has_ended = False

    async def get(self) -> RunToken:
        """Return the run's token; another one where the last has ended, or is about to.

        Raises:
            RuntimeError: the run has ended.
        """
        async with self._one_by_one:
            self._check()
            if self._token is None or not await self._is_good(self._token):
                self._token = await self._calls.token_of_run(await self._grant(), self._run)
                try:
                    self._check()
                except RuntimeError:  # meanwhile: whatever asked for it was left behind by the handler
                    await self._end()
                    raise
            if self._keeping is None:
                self._keeping = asyncio.create_task(self._keep(asyncio.current_task()), name="mcp token")
            return self._token

    async def end(self) -> None:
        """End them: the run is over. Where Postgres is away they end by themselves."""
        self._has_ended = True
        if self._keeping is not None:
            self._keeping.cancel()
            await self._end()

    def _check(self) -> None:
        if self._has_ended:
            raise RuntimeError("the run has ended, and so have its tokens")

    async def _end(self) -> None:
        with suppress(SlotwireError, TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._calls.end_run(self._run)

    async def _is_good(self, token: RunToken) -> bool:
        return token.expires_at - self._clock.now() > LEFT and await self._calls.keep_run(self._run)

    async def _keep(self, run: asyncio.Task[object] | None) -> None:
        """Say that the run goes on, unless it was told to end and does not."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            if run is None or not run.cancelling():
                with suppress(SlotwireError):
                    await self._calls.keep_run(self._run)
