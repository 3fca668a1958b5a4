"""Interrupts runs, and lets go of one that does not end.

Python interrupts a coroutine by an exception, which it may catch to go on. A handler's coroutine is run by hand
(`isolation`), so what does not end is not run on: it never comes to its next line. Threads and tasks that it has begun
are beyond reach; `Context` refuses them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context
from types import FrameType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from slotwire.handlers.places import line_of, own_frame
from slotwire.ingest.foundation.telemetry import get_logger

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

LET_END_SECONDS = 10.0
"""How long a run may go on that was interrupted, before the log says so and it is interrupted again."""
INTERRUPTIONS = 3
"""After so many, each with as long to end, a run is let go."""

_interrupted: WeakSet[asyncio.Task[Any]] = WeakSet()
_let_go: WeakSet[asyncio.Task[Any]] = WeakSet()


def interrupt(task: asyncio.Task[Any]) -> None:
    """Interrupt what a task runs: it is to end now."""
    _interrupted.add(task)
    task.cancel()


def let_go(task: asyncio.Task[Any]) -> None:
    """Have a task end now, without the run in it that has not ended."""
    _let_go.add(task)
    task.cancel()


class AbandonedRun:
    """A run that did not end.

    Attributes:
        at: the line of the handler that it is at, and what it is in: `crm/agent.py:12 follow`.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> None:
        self.at = place_of(coroutine)
        self._coroutine = coroutine
        self._context = context

    def close(self) -> None:
        """Let its `finally` blocks do what they can without waiting; one that waits, or catches this, is left so."""
        if not isinstance(sys.unraisablehook, _Hook):  # `pytest` and others put back what was there before
            sys.unraisablehook = _Hook(sys.unraisablehook)
        with suppress(BaseException):
            self._context.run(self._coroutine.close)


class _Hook:
    """Shows what nobody can catch as before, but not that a coroutine has caught its end: the log has told of it."""

    def __init__(self, before: Callable[[UnraisableHookArgs], object]) -> None:
        self._before = before

    def __call__(self, what: UnraisableHookArgs) -> None:
        """Take it, as `sys.unraisablehook` does."""
        if str(what.exc_value) != "coroutine ignored GeneratorExit":
            self._before(what)


def abandoned_in(error: BaseException) -> AbandonedRun | None:
    """Return the run that was let go where an error says so: a cancellation, or a limit of time that followed it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, asyncio.CancelledError) and cause.args and isinstance(cause.args[0], AbandonedRun):
            return cause.args[0]
        cause = cause.__cause__
    return None


def place_of(coroutine: Coroutine[Any, Any, Any]) -> str:
    """Return the innermost line of an author's at which a coroutine waits; empty where it is at none."""
    place, inner = "", getattr(coroutine, "cr_frame", None) and coroutine
    while inner is not None:
        frame: FrameType | None = getattr(inner, "cr_frame", None)
        place, inner = own_frame(frame) or place or line_of(frame), getattr(inner, "cr_await", None)
    return place


class Interruptions:
    """Those of one run: from the first on it has a limited time to end.

    Args:
        coroutine: the run.
        context: its context variables.
        deadline: the limit of its time, which interrupts it, too. Other cancellations are the handler's own affair.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], context: Context, deadline: asyncio.Timeout) -> None:
        self._coroutine = coroutine
        self._context = context
        self._deadline = deadline
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._further = 0

    def note(self) -> None:
        """Note that a cancellation has come.

        Raises:
            CancelledError: in the run's place; it is let go.
        """
        task = asyncio.current_task()
        if task in _let_go:
            raise asyncio.CancelledError(AbandonedRun(self._coroutine, self._context))
        if self._timer is None and (self._deadline.expired() or task in _interrupted):
            self._task = task
            self._wait()

    def end(self) -> None:
        """Take back what further interruptions there were: the run has ended, or is let go."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            for _ in range(self._further):
                self._task.uncancel()
            _let_go.discard(self._task)

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LET_END_SECONDS, self._again)

    def _again(self) -> None:
        """Interrupt it once more; the last time it is let go."""
        if self._task is None:  # pragma: no cover - the timer begins with it
            return
        self._further += 1
        if self._further == 1:
            get_logger("handlers").error("run_does_not_end", at=place_of(self._coroutine))
        self._wait()
        (let_go if self._further >= INTERRUPTIONS else asyncio.Task.cancel)(self._task)

    def beside(self, awaited: asyncio.Future[Any]) -> Generator[Any, Any, None]:
        """Wait for another task, or several, beside it: one that does not let itself be cancelled holds up nobody.

        A cancellation goes on to it, as if it were waited for itself, and reaches the run once it has ended.
        """
        awaited._asyncio_future_blocking = False  # noqa: SLF001 - as asyncio does: nobody waits for it by itself
        while not awaited.done():
            ended: asyncio.Future[None] = awaited.get_loop().create_future()

            def tell(_: object, ended: asyncio.Future[None] = ended) -> None:
                if not ended.done():
                    ended.set_result(None)

            awaited.add_done_callback(tell)
            try:
                yield from ended
            except asyncio.CancelledError as error:
                try:
                    self.note()
                except asyncio.CancelledError:
                    awaited.add_done_callback(_heard)
                    raise
                if not awaited.cancel(*error.args):
                    raise
            finally:
                awaited.remove_done_callback(tell)


def _heard(left: asyncio.Future[Any]) -> None:
    """Ask what was left behind how it ended, so that it does not warn."""
    if not left.cancelled():
        left.exception()
