"""What an agent opens at its start and closes at its stop: a client, a connection, a model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from slotwire.handlers.places import described, own_places
from slotwire.handlers.registry import Agent
from slotwire.ingest.foundation.telemetry import get_logger

_log = get_logger("hooks")


class StartFailed(Exception):
    """A start hook raised.

    Attributes:
        place: where, in the author's code.
        said: the exception with its message, which may hold a secret.
    """

    def __init__(self, error: Exception) -> None:
        places = own_places(error)
        self.place = str(places[0]) if places else ""
        self.said = described(error)
        super().__init__(type(error).__name__)


@asynccontextmanager
async def held(agent: Agent) -> AsyncIterator[None]:
    """Run an agent's start hooks, then the block, then its stop hooks.

    The stop hooks run after a start hook that failed, too, so that what the others opened is closed. One that fails is
    logged, and the next one runs.

    Raises:
        StartFailed: a start hook raised.
    """
    starting, stopping = agent.hooks
    try:
        for hook in starting:
            try:
                await hook()
            except Exception as error:
                raise StartFailed(error) from error
        yield
    finally:
        for hook in stopping:
            try:
                await hook()
            except Exception as error:  # noqa: BLE001 - the others must run, and the stop must go on
                _log.error("stop_hook_failed", agent=agent.name, hook=hook.__name__, reason=type(error).__name__)
