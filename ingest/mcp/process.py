"""The composition root of `slotwire mcp serve`: it opens the pool and the listener, and puts the tools together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.health import Health
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.postgres_readiness import postgres_problem
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.mcp.agents import Agents
from slotwire.ingest.mcp.events.service import McpEvents, outgoing_settings
from slotwire.ingest.mcp.listener import Gate, listening
from slotwire.ingest.mcp.server import ScopedServer, told_at_the_top
from slotwire.ingest.mcp.tokens import EVENT_VARIABLE, TokenKeys, event_keys
from slotwire.ingest.mcp.tools.calls import CalendlyBench, ToolGrants
from slotwire.ingest.mcp.tools.deeds import DeedsBench
from slotwire.ingest.mcp.tools.happenings import HappeningsBench
from slotwire.ingest.mcp.tools.own import OwnBench
from slotwire.ingest.mcp.tools.toolbox import Toolbox
from slotwire.ingest.mcp.uses import Uses

STATE = "slotwire/mcp/request-state/v1"
"""What the keys that seal a question's state are derived for."""
CONTROL_URL = "SLOTWIRE_MCP__CONTROL_URL"


async def run_mcp(settings: Settings, stop: asyncio.Event, *, health: Health, clock: Clock) -> None:
    """Serve agents until a stop is asked for.

    Raises:
        ConfigurationError: a key or address is missing or unfit, or the port is in use.
    """
    async with serving_mcp(settings, health, clock) as url:
        get_logger("mcp").info("listening", url=url)
        await stop.wait()
        health.draining = True


@asynccontextmanager
async def serving_mcp(settings: Settings, health: Health, clock: Clock) -> AsyncIterator[str]:
    """Serve agents, and deliver events, while the block runs; yields the public address."""
    keys = TokenKeys.from_settings(settings.mcp)
    dsn = settings.database_url.get_secret_value()
    async with (
        create_pool(dsn, settings.database, application="mcp") as pool,
        ControlClient(settings.mcp.control_url, setting=CONTROL_URL) as control,
        Outgoing(outgoing_settings(settings.outgoing), purpose="mcp_events") as outgoing,
    ):
        health.add("postgres", lambda: postgres_problem(pool))
        agents = Agents(pool, clock, timedelta(seconds=settings.mcp.token_seconds))
        uses = Uses(pool, clock)
        events = McpEvents(
            settings, pool, clock, agents, outgoing, event_keys(settings.mcp, keys), source=EVENT_VARIABLE
        )
        bound = ScopedServer(
            _toolbox(pool, control, clock, events),
            uses,
            clock,
            version=version("slotwire"),
            state_keys=keys.derived(STATE),
            extensions=(events.extension,),
            middleware=(told_at_the_top,),
        ).bound(settings.mcp.max_body_bytes)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as side, bound.server.session_manager.run():
            side.create_task(events.run(stop), name="mcp events")
            async with listening(Gate(settings.mcp, agents, keys, clock, uses), bound.application) as url:
                yield url
                stop.set()


def _toolbox(pool: Pool, control: ControlClient, clock: Clock, events: McpEvents) -> Toolbox:
    grants = ToolGrants(pool, clock)
    return Toolbox(
        OwnBench(pool, clock), HappeningsBench(events), CalendlyBench(control, grants), DeedsBench(control, grants)
    )
