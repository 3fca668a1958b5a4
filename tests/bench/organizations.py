"""What it takes to watch 1,000 organizations: the numbers of docs/explanation/rate-budget.md.

    python -m tests.bench.organizations

One process makes the first round of all of them, which subscribes each, then one in which nothing is to be done. The
simulated Calendly is another process. In about three minutes it prints calls, seconds, this
process's CPU, and the plan.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import sys
import time
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import uvloop

from slotwire.ingest.control import rounds
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.control.round_schedule import pause_after
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.log_output import configure_logging
from slotwire.ingest.foundation.settings import CalendlySettings, LogSettings, Settings
from slotwire.ingest.local.databases import create_database, migrate_template
from slotwire.ingest.local.stack import StackOptions, embedded_stack, ephemeral_folder
from slotwire.ingest.operate.process import operating
from slotwire.ingest.simulator.app import Options, simulator
from slotwire.ingest.simulator.world import make_world
from tests.support.many_organizations import write_organizations
from tests.support.public_endpoint import settings_for

ORGANIZATIONS = 1_000
SEED = "many"


def simulate(ready: Connection) -> None:
    """Run a simulated Calendly."""

    async def main() -> None:
        async with simulator(Options(seed=SEED, organizations=ORGANIZATIONS)) as running:
            ready.send(running.url)
            await asyncio.Event().wait()

    uvloop.run(main())


async def measure(folder: Path, url: str) -> None:
    """Measure and print."""
    async with embedded_stack(folder, report=lambda _: None, options=StackOptions(ephemeral=True)) as stack:
        await migrate_template(stack.postgres)
        database = await create_database(stack.postgres)
        settings = settings_for(database).model_copy(
            update={"public_url": "http://127.0.0.1:9", "calendly": CalendlySettings(api_url=url)}
        )
        clock = SystemClock()
        await write_organizations(settings, database, make_world(SEED, ORGANIZATIONS), clock.now())
        async with operating(settings, clock, application="control") as actions:
            organizations = Organizations.from_settings(
                settings, actions.pool, clock, actions.calendly, changing=actions.organizations.of_rounds
            )
            sys.stdout.write(f"{'round':>8} {'calls':>6} {'a call, ms of CPU':>18} {'CPU, s':>7} {'seconds':>8}\n")
            before, steady = 0, 0.0
            for name in ("first", "steady"):
                began, cpu = time.perf_counter(), time.process_time()
                await rounds.run_once(organizations)
                seconds, steady = time.perf_counter() - began, time.process_time() - cpu
                async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                    made = int((await client.get("/simulator/calls/summary")).json()["calls"]) - before
                before += made
                each = steady / made * 1_000
                sys.stdout.write(f"{name:>8} {made:>6} {each:>18.2f} {steady:>7.1f} {seconds:>8.1f}\n")
    _plan(settings, steady)


def _plan(settings: Settings, cpu: float) -> None:
    interval = timedelta(seconds=settings.subscriptions.interval_seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(f"the process: {cpu / interval.total_seconds():.0%} of a core, {peak} MiB at most\n")
    for limit in (500, 50):
        pause = pause_after(2, limit=limit, interval=interval, silent=False).total_seconds()
        share = 2 * 60 / pause / limit
        said = f"an organization is listed every {pause:.0f} s, with 2 calls: {share:.1%} of the limit"
        sys.stdout.write(f"plan at {limit} calls a minute: {said}\n")


if __name__ == "__main__":
    configure_logging(LogSettings(level="warning"), process="bench")
    begin, end = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=simulate, args=(end,), daemon=True)
    server.start()
    try:
        with ephemeral_folder() as place:
            uvloop.run(measure(place, begin.recv()))
    finally:
        server.terminate()
        server.join()
