"""A real `slotwire control` that ends itself with SIGKILL at the n-th place where a piece of its work waits."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slotwire.ingest.foundation.clock import Clock, clock_of, show_ahead
from slotwire.ingest.foundation.health import Health
from slotwire.ingest.foundation.lifecycle import run
from slotwire.ingest.foundation.log_output import configure_logging
from slotwire.ingest.foundation.settings import Settings, load_settings
from slotwire.ingest.operate.process import run_control
from tests.support import fork_server
from tests.support.children import environment, with_own_role
from tests.support.dying import watched

Work = Literal["make_round", "fill", "Refresher._counted"]
"""The coroutines that are a round of an organization, a turn of a fetch, and the refresh of a connection."""
NEVER = 1_000_000
WORK, PLACE = "DYING_WORK", "DYING_PLACE"
_inside: ContextVar[bool] = ContextVar("inside", default=False)


@dataclass(frozen=True)
class Ended:
    """How a process ended: in the middle of its work or after it, and how often that waited."""

    killed: bool
    waits: int


async def control_until(
    settings: Settings, clock: Clock, folder: Path, work: Work, place: int = NEVER, **more: str
) -> Ended:
    """Run a `control` until it dies at a place of the first such work, or right after that work has ended.

    Args:
        settings: database, keys and Calendly.
        clock: the process goes by it, from now on.
        folder: for the file that shows it the clock.
        work: what is counted, with every task that it starts.
        place: at which wait it dies.
        more: other settings of its environment.
    """
    shown = folder / "clock"
    show_ahead(shown, clock.now() - clock_of(Settings()).now())
    given = environment(
        settings,
        SLOTWIRE_CALENDLY__API_URL=settings.calendly.api_url,
        SLOTWIRE_CALENDLY__AUTH_URL=settings.calendly.api_url,
        SLOTWIRE_ADMIN__PORT="0",
        SLOTWIRE_LOCAL__CLOCK_FILE=str(shown),
        **{WORK: work, PLACE: str(place), **more},
    )
    code, out, err = await asyncio.to_thread(
        lambda: fork_server.run((), with_own_role("control", given), b"", entry=f"{__name__}:main")
    )
    assert code == -signal.SIGKILL, err.decode()
    return Ended(killed=not out, waits=int(out or place))


def main() -> None:
    """Be that process."""
    settings = load_settings()
    configure_logging(settings.log, process="control")
    place, waits = int(os.environ[PLACE]), 0

    def waiting() -> None:
        nonlocal waits
        waits += 1
        if waits == place:
            os.kill(os.getpid(), signal.SIGKILL)

    async def first(work: Coroutine[Any, Any, Any]) -> None:
        _inside.set(True)
        await watched(work, waiting)
        print(waits, flush=True)  # noqa: T201 -- what the test reads
        os.kill(os.getpid(), signal.SIGKILL)

    def make_task(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        if _inside.get():
            work = _awaited(watched(work, waiting))
        elif not waits and work.__qualname__ == os.environ[WORK]:
            work = first(work)
        return asyncio.Task(work, loop=loop, **more)

    async def control(stop: asyncio.Event) -> None:
        asyncio.get_running_loop().set_task_factory(make_task)
        await run_control(settings, stop, health=Health("control"), clock=clock_of(settings))

    run(control)


async def _awaited(work: Any) -> Any:
    return await work
