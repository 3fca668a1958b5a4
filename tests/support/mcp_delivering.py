"""Processes that deliver MCP Events and nothing else, for tests that kill them.

`python -m` with one JSON argument. Each line on stdin makes a process, whose number is written to stdout; what they
need is imported once. The end of stdin ends the last one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from uuid import UUID

from slotwire.ingest.mcp.principal import AgentPrincipal
from slotwire.schemas.events import BY_TYPE
from tests.support.mcp_events import NOW, GivenAgents, opened_events


async def main(database_url: str, agent: str, user: str, organization: str, key: str) -> None:
    """Deliver until a signal ends it."""
    agents = GivenAgents()
    agents.given[UUID(agent), user] = AgentPrincipal(
        agent=UUID(agent),
        name="assistant",
        organization=organization,
        user=user,
        tools=frozenset(),
        event_types=frozenset(BY_TYPE),
        chain=None,
        expires_at=NOW,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with opened_events(database_url, agents, bytes.fromhex(key)) as made:
        await made().run(stop)


def make_processes() -> None:
    """Make a process for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    last = 0
    for _ in sys.stdin:
        last = os.fork()
        if last == 0:
            asyncio.run(main(**json.loads(sys.argv[1])))
            os._exit(0)
        sys.stdout.write(f"{last}\n")
        sys.stdout.flush()
    with suppress(ProcessLookupError):
        os.kill(last, signal.SIGKILL)


if __name__ == "__main__":
    make_processes()
