"""Waits for a server that is away, and for the next attempt, until the work is asked to stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.problems import Problems
from slotwire.ingest.foundation.errors import (
    BrokerUnavailable,
    ConfigurationError,
    DatabaseUnavailable,
    RecordRefused,
    SchemaMismatch,
)

OUTAGE_RETRY = RetryPolicy(first_seconds=0.2, longest_seconds=5.0)
"""How often a server that is away is asked again. Its `attempts` do not apply: a server is asked without end."""
SERVER_ERRORS = (DatabaseUnavailable, SchemaMismatch, ConfigurationError, BrokerUnavailable, RecordRefused)
"""What says nothing about the event that is handled."""

T = TypeVar("T")
Pause = Callable[[asyncio.Event, float], Awaitable[bool]]
"""Waits for so many seconds, or until the event is set; returns whether it is set."""


class PauseRefused(RuntimeError):
    """Whoever pauses for us does not pause any more: a trial whose agent waits for what never comes."""


class Interrupted(Exception):
    """A pause ended early because the work was asked to stop."""


class Patience:
    """Waits, for one agent."""

    def __init__(self, problems: Problems, pause: Pause) -> None:
        self._problems = problems
        self._pause = pause

    async def wait(self, seconds: float, stopping: asyncio.Event) -> None:
        """Wait for a time.

        Raises:
            Interrupted: the work was asked to stop.
        """
        if await self._pause(stopping, seconds):
            raise Interrupted

    async def until_answered(self, problem: str, ask: Callable[[], Awaitable[T]], stopping: asyncio.Event) -> T:
        """Call a server until it answers.

        Raises:
            Interrupted: the work was asked to stop.
        """
        outages = 0
        while True:
            try:
                answer = await ask()
            except SERVER_ERRORS as error:
                self._problems.begin(problem, error)
                outages += 1
                await self.wait(OUTAGE_RETRY.pause(outages, drawn()), stopping)
            else:
                self._problems.end(problem)
                return answer


def drawn() -> float:
    """Draw a number, 0 to 1."""
    return random.random()  # noqa: S311 - jitter, not a secret
