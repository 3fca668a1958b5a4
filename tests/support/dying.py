"""Work that dies at a place where it waits: its process is killed there, or its task cancelled."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Killed(BaseException):
    """The end of a process, as far as one can be played inside another."""


async def dying(
    work: Coroutine[Any, Any, Any],
    place: int,
    *,
    cut: Callable[[], None] | None,
    more: int = 0,
    stopping: asyncio.Event | None = None,
) -> int:
    """Run work up to its n-th wait and let it die there; return how often it waited if it came to its end.

    Args:
        work: what is run.
        place: n.
        cut: called there; then the work is never resumed, as in a killed process, and `Killed` is raised. None cancels
            the task instead, and the work may clean up.
        more: how often the task is cancelled again at its next waits, while it cleans up.
        stopping: set before the task is cancelled.
    """
    waits = 0

    def waiting() -> None:
        nonlocal waits
        waits += 1
        if place == 0 or not place <= waits <= place + more:
            return
        if cut is not None:
            cut()
            raise Killed
        task = asyncio.current_task()
        assert task is not None
        if stopping is not None:
            stopping.set()
        task.cancel()

    await watched(work, waiting)
    return waits


@types.coroutine
def watched(work: Coroutine[Any, Any, Any], waiting: Callable[[], None]) -> Generator[Any, Any, Any]:
    """Run work and return its result; `waiting` is called each time that it waits, before it does."""
    raised: BaseException | None = None
    while True:
        try:
            future = work.send(None) if raised is None else work.throw(raised)
        except StopIteration as end:
            return end.value
        raised = None
        waiting()
        try:
            yield future
        except BaseException as error:  # noqa: BLE001 - handed on to the work, as the event loop would
            raised = error
