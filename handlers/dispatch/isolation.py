"""Runs a handler with context variables of its own, and with a limit of time once it waits for something.

A task would do both, and costs as much as many a handler. So the coroutine is run by hand, each step of it in its
context, inside of the task that awaits it: to asyncio it is that task, as any coroutine that is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import NoneType
from typing import Any, Generic, TypeVar

from slotwire.handlers.dispatch.interruption import Interruptions

T = TypeVar("T")
_PLAIN = frozenset({asyncio.Future, NoneType})
"""What can always be cancelled; a task, and what gathers several, may not end by that."""


class RanTooLong(Exception):
    """The limit of time is over."""


class Closed(GeneratorExit):
    """The task that ran the coroutine is closed, at the end of its loop."""


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
            return await _Rest(coroutine, context, first, deadline)
    except TimeoutError as error:
        if deadline.expired():
            # An early Python 3.11, such as 3.11.2, does not name as the cause what the limit has interrupted.
            error.__cause__ = error.__cause__ or error.__context__
            raise RanTooLong from error
        raise


class _Rest(Generic[T]):
    """What is left of a coroutine that waits for something."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, T], context: Context, awaited: object, deadline: asyncio.Timeout
    ) -> None:
        self._coroutine = coroutine
        self._context = context
        self._awaited = awaited
        self._deadline = deadline
        self._found: Interruptions | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        """Run it on whenever what it waits for is there, unless it is let go."""
        run, send, awaited = self._context.run, self._coroutine.send, self._awaited
        try:
            while True:
                step: Callable[[Any], object] = send
                try:
                    if type(awaited) in _PLAIN or not asyncio.isfuture(awaited):
                        given = yield awaited
                    else:
                        given = None
                        yield from self._interruptions.beside(awaited)
                except GeneratorExit:
                    run(self._coroutine.close)
                    raise Closed from None
                except BaseException as error:  # noqa: BLE001 - it is the coroutine's
                    if isinstance(error, asyncio.CancelledError):
                        self._interruptions.note()
                    step, given = self._coroutine.throw, error
                try:
                    awaited = run(step, given)
                except StopIteration as ended:
                    value: T = ended.value
                    return value
        finally:
            if self._found is not None:
                self._found.end()

    @property
    def _interruptions(self) -> Interruptions:
        """Made where they are needed."""
        if self._found is None:
            self._found = Interruptions(self._coroutine, self._context, self._deadline)
        return self._found
