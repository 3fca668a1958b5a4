"""The MCP server beside everything that acts: a simulated Calendly whose clock stands still, webhooks, a writer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from slotwire.ingest.local.databases import Database
from tests.support.actions_setup import ActionsSetup, actions_setup
from tests.support.mcp_server import McpWorld, mcp_settings, served_mcp
from tests.support.owner import owner_connection


@asynccontextmanager
async def acting_world(database: Database, *, altered: bool = False) -> AsyncIterator[tuple[McpWorld, ActionsSetup]]:
    """Run everything while the block runs. With `altered`, the test may change Calendly's answers."""
    async with (
        actions_setup(database, altered=altered) as setup,
        httpx.AsyncClient(timeout=60) as http,
        owner_connection(database) as owner,
    ):
        settings = mcp_settings(setup.settings, setup.api.url)
        async with served_mcp(settings, setup.clock) as url:
            yield McpWorld(url, settings, setup.calendly, setup.api, owner, http), setup
