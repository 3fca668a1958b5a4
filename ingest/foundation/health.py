"""The health port of every process: `/livez`, `/readyz`, `/metrics`.

Liveness never asks Postgres or Kafka, because restarting this process cannot repair them. Readiness runs the checks
that the process has added.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
from aiohttp import web

from slotwire.ingest.foundation.exposition import Process, exposition
from slotwire.ingest.foundation.lifecycle import listen
from slotwire.ingest.foundation.settings import HealthSettings

Check = Callable[[], Awaitable[str | None]]
"""Returns None if all is well; otherwise the problem and what to do, in one line."""


class Health:
    """The health of this process.

    Attributes:
        process: which one it is.
        draining: True once the process has begun to stop; from then on it is not ready.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.draining = False
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Add a check that readiness depends on."""
        self._checks[name] = check

    async def problems(self) -> dict[str, str]:
        """Run the checks and return the problems by name; empty means ready."""
        if self.draining:
            return {"process": "is stopping"}
        found = {}
        for name, check in self._checks.items():
            problem = await check()
            if problem is not None:
                found[name] = problem
        return found


def build_app(health: Health) -> web.Application:
    """Build the health port's application."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        problems = await health.problems()
        return web.Response(
            status=503 if problems else 200,
            body=orjson.dumps({"ready": not problems, "problems": problems}) + b"\n",
            content_type="application/json",
        )

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition(health.process), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


@asynccontextmanager
async def serving_health(health: Health, settings: HealthSettings) -> AsyncIterator[str]:
    """Serve the health port while the block runs; yields its address.

    Raises:
        ConfigurationError: the port is in use.
    """
    async with listen(build_app(health), settings.host, settings.port, setting="SLOTWIRE_HEALTH__PORT") as url:
        yield url
