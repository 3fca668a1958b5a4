"""Runs a handler with context variables of its own, and with a limit of time once it waits for something.

A task would do both, and costs as much as many a handler. So the coroutine is run by hand, each step of it in its
context, inside of the task that awaits it: to asyncio it is that task, as any coroutine that is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from slotwire.ingest.foundation.telemetry import get_logger

LET_END_SECONDS = 10.0
"""How long a coroutine may go on that was told to end, before the log says so."""

T = TypeVar("T")


class RanTooLong(Exception):
    """The limit of time is over."""


async def isolated(coroutine: Coroutine[Any, Any, T], limit: Callable[[], asyncio.Timeout]) -> T:
    """Run a coroutine to its end.

    Args:
        coroutine: what is run. What it sets of context variables, nobody else sees.
        limit: makes the limit of its time, from when it first waits.

    Raises:
        RanTooLong: the limit is over, and the coroutine let it end.
    """
    context = copy_context()
    try:
        first = context.run(coroutine.send, None)
    except StopIteration as ended:
        value: T = ended.value
        return value
    deadline = limit()
    try:
        async with deadline:
            return await _Rest(coroutine, context, first)
    except TimeoutError as error:
        if deadline.expired():
            raise RanTooLong from error
        raise


class _Rest(Generic[T]):
    """What is left of a coroutine that waits for something."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], context: Context, awaited: object) -> None:
        self._coroutine = coroutine
        self._context = context
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, T]:
        """Run it on whenever what it waits for is there."""
        coroutine, run, awaited = self._coroutine, self._context.run, self._awaited
        overdue: asyncio.TimerHandle | None = None
        try:
            while True:
                try:
                    sent = yield awaited
                except BaseException as error:  # noqa: BLE001 - it is the coroutine's
                    step = partial(coroutine.throw, error)
                    if overdue is None and isinstance(error, asyncio.CancelledError):
                        overdue = asyncio.get_running_loop().call_later(LET_END_SECONDS, self._tell)
                else:
                    step = partial(coroutine.send, sent)
                try:
                    awaited = run(step)
                except StopIteration as ended:
                    value: T = ended.value
                    return value
        finally:
            if overdue is not None:
                overdue.cancel()

    def _tell(self) -> None:
        """Say that the coroutine has caught its cancellation and goes on: nothing can end it."""
        frame, at = getattr(self._coroutine, "cr_frame", None), ""
        if frame is not None:
            code = frame.f_code
            at = f"{'/'.join(Path(code.co_filename).parts[-2:])}:{frame.f_lineno} {code.co_name}"
        get_logger("handlers").error("run_does_not_end", at=at)
