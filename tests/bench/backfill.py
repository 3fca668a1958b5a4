"""A live delivery's way to its handler while a backfill runs through the same door.

Run as a program it is that backfill, a process of its own as `slotwire control` is: its rows are made here instead of
being fetched, and go through the backfill's own door, which paces them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from slotwire.ingest.control.backfill import PATIENCE_SECONDS, BackfillDoor, BackfillProgress
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.receive.accept import fetched_row
from tests.bench.chain import Chain, Spans, steadily
from tests.bench.deliveries import Mint, Target
from tests.bench.latency import WARM_UPS
from tests.bench.stage import BenchError, Stage, bench_environment, started

LIVE_RATE = 10.0
"""Live deliveries a second, sent when they are due."""
CONNECTIONS = 8
BESIDE = 3
"""How much longer live deliveries are measured beside the backfill than quietly."""


@dataclass(frozen=True, slots=True)
class BackfillWay:
    """A live delivery's way, quiet and beside a backfill.

    Attributes:
        rows: that the backfill let in, while live deliveries were measured.
        rate: of them a second.
    """

    rows: int
    rate: float
    quiet: Spans
    beside: Spans

    @property
    def ratio(self) -> float:
        """How much longer the way is at the median."""
        return self.beside.handler_p50 / self.quiet.handler_p50


async def measure_backfill(stage: Stage, *, rows: int, quiet_seconds: float, say: Callable[[str], None]) -> BackfillWay:
    """Run serve, relay and an agent; measure live deliveries quietly, then beside a backfill for a while.

    The backfill is stopped then: it has more rows than it needs to last so long.

    Raises:
        BenchError: a delivery was lost, or the backfill failed.
    """
    chain = Chain(stage.target)
    serve, relay = stage.ours("serve", "serve"), stage.ours("relay", "relay")
    agents = stage.ours("agents", "agents", "run", "tests.bench.agent:agent", show=chain.handled)
    async with started(serve, relay, agents):
        try:
            await chain.connect(CONNECTIONS)
            for _ in range(WARM_UPS):
                await chain.deliver()
            quiet = Spans.of(await steadily(chain, int(LIVE_RATE * quiet_seconds), LIVE_RATE))
            feeder = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bench.backfill", stage.database.runtime_url, stage.org, str(rows)),
                env=bench_environment(),
            )
            began = time.monotonic()
            times: list[tuple[float, float]] = []
            while feeder.returncode is None and time.monotonic() - began < BESIDE * quiet_seconds:
                times += await steadily(chain, int(LIVE_RATE), LIVE_RATE)
            elapsed = time.monotonic() - began
            if feeder.returncode is None:
                feeder.terminate()
                await feeder.wait()
            elif feeder.returncode:
                raise BenchError("the backfill failed; its words are above")
        finally:
            chain.close()
    fetched = await stage.ask("SELECT count(*) FROM slotwire.deliveries WHERE origin = 'backfill'")
    way = BackfillWay(fetched, fetched / elapsed, quiet, Spans.of(times))
    say(
        f"live beside a backfill of {rows:,}: p50 {way.beside.handler_p50:.1f} ms, "
        f"quiet {quiet.handler_p50:.1f} ms; the backfill went at {way.rate:,.0f}/s"
    )
    return way


async def feed(pool: Pool, org: str, rows: int) -> None:
    """Let rows in by the backfill's own door, which paces them."""
    mint, clock, progress = Mint(Target(0, "", "")), SystemClock(), BackfillProgress()
    door = BackfillDoor(pool, 0, clock, progress, PATIENCE_SECONDS)
    for _ in range(rows):
        invitee, event = mint.documents()
        row = fetched_row(org, origin="backfill", invitee=invitee, scheduled_event=event, now=clock.now())
        if not await door.put(row):
            raise BenchError("the writer makes no room")
    if not await door.finish() or progress.new != rows:
        raise BenchError(f"of {rows} rows {progress.new} were new")


async def _run(dsn: str, org: str, rows: int) -> None:
    async with create_pool(dsn, DatabaseSettings(), application="bench") as pool:
        await feed(pool, org, rows)


def main() -> None:
    """Read the arguments and let the rows in."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dsn")
    parser.add_argument("org")
    parser.add_argument("rows", type=int)
    options = parser.parse_args()
    asyncio.run(_run(options.dsn, options.org, options.rows))


if __name__ == "__main__":
    main()
