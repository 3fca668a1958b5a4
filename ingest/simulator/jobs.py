"""Loads and stories as jobs: started, watched and stopped through `/simulator/…`.

POST   /simulator/load {count, rate | concurrency, seed, mix, order, ordered, timeout_seconds, wait}
POST   /simulator/story {count, interval_seconds, seed, wait}
GET    /simulator/jobs/{id}[?wait_seconds]   the job's report so far, or its last one
DELETE /simulator/jobs/{id}                  stops the job
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from slotwire.ingest.simulator import requests
from slotwire.ingest.simulator.control import read
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.gate import json_answer
from slotwire.ingest.simulator.problems import SimulatedRefusal, not_found
from slotwire.ingest.simulator.scenarios import LoadJob, StoryJob

MAX_JOBS = 1_000
MAX_WAIT_SECONDS = 600.0


class Jobs:
    """Runs loads and stories as tasks; a failed job answers with its error."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: dict[str, LoadJob | StoryJob] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, SimulatedRefusal] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/simulator/load", self.load),
            web.post("/simulator/story", self.story),
            web.get("/simulator/jobs/{id}", self.job),
            web.delete("/simulator/jobs/{id}", self.stop),
        ]

    async def load(self, request: web.Request) -> web.Response:
        """Start a load; by default the answer is its final report."""
        wanted = await read(request, requests.LoadRequest)
        try:
            plan = wanted.plan()
        except ValueError as error:
            raise SimulatedRefusal(400, "Invalid Argument", str(error)) from None
        return await self._start(LoadJob(self._engine, plan), wait=wanted.wait)

    async def story(self, request: web.Request) -> web.Response:
        """Start a story; by default the answer is the job."""
        wanted = await read(request, requests.StoryRequest)
        self._engine.organization(wanted.organization)
        story = StoryJob(self._engine, wanted.count, wanted.interval_seconds, wanted.seed, wanted.organization)
        return await self._start(story, wait=wanted.wait)

    async def job(self, request: web.Request) -> web.Response:
        """Return a job's report, after waiting for its end for up to `wait_seconds`."""
        ident = self._known(request)
        try:
            limit = min(float(request.query.get("wait_seconds", "0")), MAX_WAIT_SECONDS)
        except ValueError:
            raise SimulatedRefusal(400, "Invalid Argument", "wait_seconds must be a number") from None
        await asyncio.wait([self._tasks[ident]], timeout=limit)
        return self._report(ident)

    async def stop(self, request: web.Request) -> web.Response:
        """Stop a job; its bookings stay."""
        ident = self._known(request)
        self._tasks[ident].cancel()
        await asyncio.wait([self._tasks[ident]])
        return self._report(ident)

    async def stop_all(self) -> None:
        """Stop every job."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _start(self, job: LoadJob | StoryJob, *, wait: bool) -> web.Response:
        if len(self._jobs) >= MAX_JOBS:
            raise SimulatedRefusal(
                409, "Conflict", f"a simulator runs {MAX_JOBS} jobs at most: start another simulator"
            )
        ident = f"j{len(self._jobs) + 1}"
        self._jobs[ident] = job
        self._tasks[ident] = asyncio.create_task(self._run(ident, job), name=f"job-{ident}")
        if not wait:
            return json_answer({"id": ident, **job.report()}, 202)
        await asyncio.wait([self._tasks[ident]])
        return self._report(ident)

    async def _run(self, ident: str, job: LoadJob | StoryJob) -> None:
        try:
            await job.run()
        except SimulatedRefusal as refusal:
            self._failed[ident] = refusal
        except ValueError as error:
            self._failed[ident] = SimulatedRefusal(409, "Conflict", str(error))

    def _known(self, request: web.Request) -> str:
        ident = request.match_info["id"]
        if ident not in self._jobs:
            raise not_found()
        return ident

    def _report(self, ident: str) -> web.Response:
        if ident in self._failed:
            raise self._failed[ident]
        return json_answer({"id": ident, "running": not self._tasks[ident].done(), **self._jobs[ident].report()})
