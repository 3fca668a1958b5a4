"""How a process starts, stops and fails: signals, tasks with names.

A signal asks for a stop. Running work is finished or handed back; interrupted work counts as not done, never as
failed. A side task that dies ends the process: half a process is worse than none.
"""

from __future__ import annotations

import asyncio
import gc
import random
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from slotwire.ingest.foundation.open_files import raise_limit


def collect_rarely() -> None:
    """Set the collector of garbage for a process that serves.

    Imported modules live as long as the process, so it need not scan them again. Deliveries make too few objects for
    frequent collections to pay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a process's main coroutine on uvloop until it returns.

    Args:
        main: gets an event that is set when SIGINT or SIGTERM asks for a stop.
    """
    import uvloop

    collect_rarely()
    raise_limit()

    async def body() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())


async def until_stopped(stop: asyncio.Event, **work: Coroutine[Any, Any, None]) -> None:
    """Run named side tasks until a stop is asked for, then cancel them and wait for their end.

    Raises:
        BaseExceptionGroup: a side task raised; the others are cancelled.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(item, name=name) for name, item in work.items()]
        await stop.wait()
        for task in tasks:
            task.cancel()


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for at most this many seconds; return whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def pause(seconds: float) -> None:
    """Sleep for about so long: a tenth more or less, so that several processes do not run their chores in step."""
    await asyncio.sleep(seconds * random.uniform(0.9, 1.1))  # noqa: S311 - jitter, not a secret
