"""The threads of `asyncio.to_thread`, by the runs that began them. Nothing ends a thread: it can only be waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from slotwire.handlers.unawaited import Dropped, noted
from slotwire.ingest.foundation.agent_metrics import RUNS_ABANDONED

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

TELL_SECONDS = 10.0
"""After how long the log says that a thread goes on whose run is over."""

P = ParamSpec("P")
T = TypeVar("T")

_at_work: dict[Dropped, set[Future[Any]]] = {}
_lock = threading.Lock()


class RunThreads(ThreadPoolExecutor):
    """A loop's threads; they know which run has begun what they do."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a thread call a function."""
        future = super().submit(fn, *args, **kwargs)
        run = noted()
        if run is not None:
            with _lock:
                _at_work.setdefault(run, set()).add(future)
            future.add_done_callback(partial(_end, run))
        return future


def threads_at_work() -> int:
    """Count what threads still do for runs, whether these are over or not."""
    with _lock:
        return sum(map(len, _at_work.values()))


def _end(run: Dropped, ended: Future[Any]) -> None:
    with _lock:
        left = _at_work.get(run, set())
        left.discard(ended)
        if not left:
            _at_work.pop(run, None)


async def threads_ended(run: Dropped, agent: str, log: FilteringBoundLogger) -> None:
    """Wait until the threads have ended that a run began which is over: the next one of its key must not be beside."""
    with _lock:
        left = {asyncio.wrap_future(each) for each in _at_work.get(run, ())}
    if not left:
        return
    try:
        _, going_on = await asyncio.wait(left, timeout=TELL_SECONDS)
        if going_on:
            RUNS_ABANDONED.labels(agent, "thread").inc()
            log.error("thread_does_not_end", threads=len(going_on))
            await asyncio.wait(going_on)
    finally:
        for each in left:
            each.cancel()  # nobody waits for it any more; the thread goes on
