"""What an agent opens at its start and closes at its stop: a client, a connection, a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from slotwire.handlers.places import described, own_places
from slotwire.handlers.registry import Agent, Hook
from slotwire.ingest.foundation.telemetry import get_logger

TELL_SECONDS = 10.0
"""After how long the log says that a start hook still runs: until it ends nothing is handled."""
STOP_SECONDS = 5.0
"""How long a stop hook may take."""
_log = get_logger("hooks")


class StartFailed(Exception):
    """A start hook raised.

    Attributes:
        place: where, in the author's code.
        said: the exception with its message, which may hold a secret.
    """

    def __init__(self, error: BaseException) -> None:
        places = own_places(error)
        self.place = str(places[0]) if places else ""
        self.said = described(error)
        super().__init__(type(error).__name__)


@asynccontextmanager
async def held(agent: Agent, stop: asyncio.Event | None = None) -> AsyncIterator[None]:
    """Run an agent's start hooks, then the block, then its stop hooks.

    The stop hooks run after a start hook that failed, too, so that what the others opened is closed. One that fails, or
    takes longer than `STOP_SECONDS`, is logged, and the next one runs.

    Args:
        agent: the agent.
        stop: interrupts a start hook, once it is set.

    Raises:
        StartFailed: a start hook raised, or was interrupted.
    """
    starting, stopping = agent.hooks
    try:
        for hook in starting:
            try:
                await _run(agent, hook, stop)
            except BaseException as error:
                if _is_not_its_own(error):
                    raise
                raise StartFailed(error) from error
        yield
    finally:
        for hook in stopping:
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await hook()
            except BaseException as error:
                if _is_not_its_own(error):
                    raise
                # The others must run, and the stop must go on.
                _log.error("stop_hook_failed", agent=agent.name, hook=hook.__name__, reason=type(error).__name__)


async def _run(agent: Agent, hook: Hook, stop: asyncio.Event | None) -> None:
    """Run a start hook, in the context of its agent: what it sets of context variables the handlers see."""
    loop, limit = asyncio.get_running_loop(), asyncio.timeout(None)
    late = loop.call_later(
        TELL_SECONDS, partial(_log.warning, "start_hook_goes_on", agent=agent.name, hook=hook.__name__)
    )

    async def interrupt(asked: asyncio.Event) -> None:
        await asked.wait()
        limit.reschedule(loop.time())

    async with limit:
        waiting = None if stop is None else asyncio.create_task(interrupt(stop))
        try:
            await hook()
        finally:
            late.cancel()
            if waiting is not None:
                waiting.cancel()


def _is_not_its_own(error: BaseException) -> bool:
    """Whether an exception says that the process is to end, or the task that runs the hook, and not that it failed."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)
