"""A process that has one action done and ends itself with SIGKILL at the n-th place where that waits."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import orjson

from slotwire.ingest.control.actions.intents import INTENT
from slotwire.ingest.control.actions.perform import Performer
from slotwire.ingest.control.actions.preparing import AskedAction
from slotwire.ingest.foundation.clock import Clock, clock_of, show_ahead
from slotwire.ingest.foundation.log_output import configure_logging
from slotwire.ingest.foundation.settings import Settings, load_settings
from slotwire.ingest.operate.process import operating
from tests.support import fork_server
from tests.support.children import environment, with_own_role
from tests.support.dying import watched


async def act_until(settings: Settings, clock: Clock, asked: AskedAction, place: int, folder: Path) -> None:
    """Have an action done by a process that dies at a place, or right after it has ended.

    Args:
        settings: database, keys and Calendly.
        clock: the process goes by it, from now on.
        asked: the action.
        place: at which wait it dies.
        folder: for the file that shows it the clock.
    """
    shown = folder / "clock"
    show_ahead(shown, clock.now() - clock_of(Settings()).now())
    given = environment(
        settings,
        SLOTWIRE_CALENDLY__API_URL=settings.calendly.api_url,
        SLOTWIRE_CALENDLY__AUTH_URL=settings.calendly.api_url,
        SLOTWIRE_CALENDLY__ASSUMED_CALLS_PER_MINUTE=str(settings.calendly.assumed_calls_per_minute),
        SLOTWIRE_LOCAL__CLOCK_FILE=str(shown),
    )
    told = {"org": asked.org, "caller": asked.caller, "key": asked.key, "place": place}
    stdin = orjson.dumps(told | {"intent": asked.intent.model_dump(mode="json")})
    code, _, err = await asyncio.to_thread(
        lambda: fork_server.run((), with_own_role("control", given), stdin, entry=f"{__name__}:main")
    )
    assert code == -signal.SIGKILL, err.decode()


def main() -> None:
    """Be that process."""
    settings, told, waits = load_settings(), orjson.loads(sys.stdin.read()), 0
    configure_logging(settings.log, process="actions")
    asked = AskedAction(told["org"], told["caller"], told["key"], INTENT.validate_python(told["intent"]))

    def waiting() -> None:
        nonlocal waits
        waits += 1
        if waits == told["place"]:
            os.kill(os.getpid(), signal.SIGKILL)

    async def act() -> None:
        clock = clock_of(settings)
        async with operating(settings, clock, application="actions") as actions:
            performer = Performer.from_settings(settings, actions.pool, clock, actions.calendly)
            await watched(performer.act(asked), waiting)
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(act())
