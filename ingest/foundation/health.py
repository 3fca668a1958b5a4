"""The health port of every process: `/livez`, `/readyz`, `/metrics`.

Liveness never asks Postgres or Kafka, because restarting this process cannot repair them. Readiness runs the checks
that the process has added, at most once a second however many ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic

import orjson
from aiohttp import web

from slotwire.ingest.foundation.exposition import Process, exposition
from slotwire.ingest.foundation.listener import HEALTH, listen
from slotwire.ingest.foundation.settings import HealthSettings

READY_SECONDS = 1.0
"""How long an answer about readiness is given again. A flood of questions then costs Postgres nothing."""

Check = Callable[[], Awaitable[str | None]]
"""Returns None if all is well; otherwise the problem and what to do, in one line."""


class Health:
    """The health of this process.

    Attributes:
        process: which one it is.
        draining: True once the process has begun to stop; from then on it is not ready.
    """

    def __init__(self, process: Process, timer: Callable[[], float] = monotonic) -> None:
        self.process = process
        self.draining = False
        self._timer = timer
        self._checks: dict[str, Check] = {}
        self._asking = asyncio.Lock()
        self._known: dict[str, str] = {}
        self._until = timer()

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

    async def readiness(self) -> dict[str, str]:
        """Return the problems as they were at most `READY_SECONDS` ago. Those who ask at once wait for one answer."""
        async with self._asking:
            if self.draining or self._timer() >= self._until:
                self._known = await self.problems()
                self._until = self._timer() + READY_SECONDS
            return self._known


def build_app(health: Health) -> web.Application:
    """Build the health port's application."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        problems = await health.readiness()
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
    app = build_app(health)
    async with listen(app, settings.host, settings.port, setting="SLOTWIRE_HEALTH__PORT", limits=HEALTH) as url:
        yield url
