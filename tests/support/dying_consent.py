"""A process that goes on after a customer's consent, and ends itself with SIGKILL at its n-th wait."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from datetime import datetime

from slotwire.ingest.control.oauth_flow import Callback, ConnectFlow
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.foundation.clock import Clock, ManualClock
from slotwire.ingest.foundation.log_output import configure_logging
from slotwire.ingest.foundation.settings import Settings, load_settings
from slotwire.ingest.operate.process import operating
from tests.support import fork_server
from tests.support.children import environment, with_own_role
from tests.support.dying import watched
from tests.support.oauth_setup import oauth_environment

NEVER = 1_000_000


async def consent_until(settings: Settings, clock: Clock, back: Callback, place: int = NEVER) -> int | None:
    """Go on with what a browser brought back, and die at a place; return how often it waited, None if it died."""
    api = settings.calendly.api_url
    env = environment(
        settings,
        SLOTWIRE_CALENDLY__API_URL=api,
        SLOTWIRE_CALENDLY__AUTH_URL=api,
        **oauth_environment(settings),
    )
    told = json.dumps({"place": place, "now": clock.now().isoformat(), "back": asdict(back)}).encode()
    code, out, err = await asyncio.to_thread(
        lambda: fork_server.run((), with_own_role("control", env), told, entry=f"{__name__}:main")
    )
    assert code in (0, -signal.SIGKILL), err.decode()
    return int(out) if code == 0 else None


def main() -> None:
    """Be that process."""
    told = json.load(sys.stdin)
    settings, clock, waits = load_settings(), ManualClock(datetime.fromisoformat(told["now"])), 0
    configure_logging(settings.log, process="control")

    def waiting() -> None:
        nonlocal waits
        waits += 1
        if waits == told["place"]:
            os.kill(os.getpid(), signal.SIGKILL)

    async def go_on() -> None:
        async with operating(settings, clock, application="control") as actions:
            organizations = Organizations.from_settings(settings, actions.pool, clock, actions.calendly)
            consented = actions.connect_links.consented
            flow = ConnectFlow.from_settings(settings, actions.pool, clock, organizations, consented)
            assert flow is not None
            await watched(flow.finish(Callback(**told["back"])), waiting)

    asyncio.run(go_on())
    print(waits)  # noqa: T201 -- what the test reads
