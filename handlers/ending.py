"""Ends the process of agents in time, whatever their handlers do, and tells of a loop that does not turn.

A thread cannot be interrupted, a task may catch that it is, and a call that blocks the loop holds up everything. So a
thread of our own watches: it says which line blocks, and ends the process once its time to stop is over, or once
nothing is left but what does not end. What was not settled is delivered again, as after a kill.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from types import FrameType
from typing import Any

from slotwire.handlers.places import own_frame
from slotwire.handlers.threads import RunThreads, threads_at_work
from slotwire.ingest.foundation.agent_metrics import RUNS_ABANDONED
from slotwire.ingest.foundation.errors import SlotwireError
from slotwire.ingest.foundation.telemetry import get_logger

EXIT_LEFT = 70
"""The exit code of a process that has left behind what did not end: `EX_SOFTWARE` of sysexits.h."""
LEAVE_SECONDS = 15.0
"""How long a stop may take beyond the grace of the handlers: to interrupt them, commit, and leave the group."""
LEFT_SECONDS = 2.0
"""How long what is left may take to end, once everything else has."""
BLOCKED_SECONDS = 5.0
"""After how long without a turn of the loop the log says which line holds it up."""
LOOK_SECONDS = 1.0
_PREFIX = "slotwire-run"
_WRITE_SECONDS = 1.0


class EndWatch:
    """Watches one process from a thread of its own.

    Attributes:
        abandoned: whether a run was abandoned since the stop was asked for.
    """

    def __init__(self, grace: float) -> None:
        """Take what it needs.

        Args:
            grace: how long running handlers may take to finish, in seconds.
        """
        self.abandoned = False
        self._limit = grace + LEAVE_SECONDS
        self._loop: asyncio.AbstractEventLoop
        self._asked_at: float | None = None
        self._before: float | None = None
        self._turned = monotonic()
        self._told = False
        self._over = threading.Event()
        self._failed = ""
        self._log = get_logger("agents")

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch from now on, to the end of the process."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(RunThreads(thread_name_prefix=_PREFIX))
        for number in (signal.SIGINT, signal.SIGTERM):
            self._hear(number)
        self._turn()
        threading.Thread(target=self._watch, name="end watch", daemon=True).start()
        try:
            yield
        except BaseException as error:
            self._failed = error.message if isinstance(error, SlotwireError) else type(error).__name__
            raise
        finally:
            self.abandoned = self._before is not None and _abandoned() > self._before
            self._over.set()

    def _hear(self, number: signal.Signals) -> None:
        """Note when a stop is asked for, also while the loop does not turn and so does not hear of it."""
        heard = signal.getsignal(number)
        if not callable(heard):
            return  # nobody hears it: it ends the process by itself

        def hear(number: int, frame: FrameType | None) -> None:
            self._asked_at = self._asked_at or monotonic()
            heard(number, frame)

        signal.signal(number, hear)
        signal.siginterrupt(number, False)

    def _turn(self) -> None:
        self._turned = monotonic()
        self._loop.call_later(LOOK_SECONDS, self._turn)

    def _watch(self) -> None:
        looked = monotonic()
        while not self._over.wait(LOOK_SECONDS):
            now = monotonic()
            if now - looked > 2 * LOOK_SECONDS:  # the whole process stood still
                self._turned = now
            looked = now
            self._look(now)
        until = monotonic() + LEFT_SECONDS
        while left := self._left():
            if monotonic() >= until:
                self._end(**left)
            threading.Event().wait(LOOK_SECONDS / 10)

    def _look(self, now: float) -> None:
        if self._asked_at is not None:
            self._before = _abandoned() if self._before is None else self._before
            if now - self._asked_at >= self._limit:
                self._end(**({"at": place} if (place := _place()) else self._left()))
        quiet = now - self._turned
        if quiet < BLOCKED_SECONDS:
            self._told = False
        elif not self._told:
            self._told = True
            self._log.error("loop_blocked", seconds=round(quiet), at=_place())

    def _left(self) -> dict[str, Any]:
        """Say what has not ended; nothing if all has."""
        main = threading.main_thread()
        others = [each for each in threading.enumerate() if not each.daemon and each is not main]
        left = {
            "tasks": len(asyncio.all_tasks(self._loop)),
            "threads": threads_at_work() + sum(not each.name.startswith(_PREFIX) for each in others),
        }
        return left if any(left.values()) else {}

    def _end(self, **left: Any) -> None:
        failed = {"failed": self._failed} if self._failed else {}
        _in_time(lambda: self._log.error("process_ended_with_work_left", **left, **failed))
        _in_time(sys.stdout.flush)
        os._exit(EXIT_LEFT)


def _in_time(write: Callable[[], object]) -> None:
    """Write something, unless nobody reads it: whoever holds the stream may be what does not end."""
    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    writing.join(_WRITE_SECONDS)


def _place() -> str:
    """Return the line of an author's that the main thread is at; empty where it is at none."""
    ident = threading.main_thread().ident
    return own_frame(sys._current_frames().get(ident or 0))  # noqa: SLF001 - its documented name


def _abandoned() -> float:
    samples = (sample for metric in RUNS_ABANDONED.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))
