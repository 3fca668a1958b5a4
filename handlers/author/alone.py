"""One `slotwire agents dev` an agent: two would take its partitions from each other, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from slotwire.handlers.registry import Agent
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.postgres import Connection, connect, translated
from slotwire.ingest.foundation.settings import Settings

PATIENCE_SECONDS = 3.0
"""How long a process that is just ending is waited for."""
LOOK_SECONDS = 0.1
_TAKE = "SELECT pg_try_advisory_lock(hashtextextended('slotwire agents dev ' || $1, 0))"


@asynccontextmanager
async def alone(
    agents: Sequence[Agent], settings: Settings, *, patience: float = PATIENCE_SECONDS
) -> AsyncIterator[None]:
    """Keep every other process that asks for the same from running these agents on this database.

    Raises:
        ConfigurationError: one of them runs there.
        DatabaseUnavailable: Postgres does not answer.
    """
    connection = await connect(settings.database_url.get_secret_value(), settings.database, application="agents-dev")
    try:
        until = monotonic() + patience
        for agent in agents:
            while not await _take(connection, agent):
                if monotonic() >= until:
                    raise ConfigurationError(
                        f"agent {agent.name} runs on this stack already, in another `slotwire agents dev`",
                        remedy="Stop that one, or give this agent another name: its name is its consumer group.",
                    )
                await asyncio.sleep(LOOK_SECONDS)
        yield
    finally:
        await connection.close()


async def _take(connection: Connection, agent: Agent) -> bool:
    with translated():
        return bool(await connection.fetchval(_TAKE, agent.name))
