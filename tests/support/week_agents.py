"""A process of a week's agents, as `slotwire agents run` makes it, which sees at once that the clock was moved."""

from __future__ import annotations

import asyncio
import sys

from slotwire.handlers.process import run_agents
from slotwire.handlers.registry import load_agents
from slotwire.ingest.foundation.lifecycle import run
from slotwire.ingest.foundation.log_output import configure_logging
from slotwire.ingest.foundation.settings import load_settings

LOOK_SECONDS = 0.1
"""How often it looks what is due."""


def main() -> None:
    """Be that process; the agents are its arguments."""
    settings = load_settings()
    configure_logging(settings.log, process="agents")
    loaded = load_agents(sys.argv[2:])

    async def agents(stop: asyncio.Event) -> None:
        await run_agents(loaded, settings, stop, look_seconds=LOOK_SECONDS)

    run(agents)
