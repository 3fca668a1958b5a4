"""A live delivery's way to its handler while a backfill runs through the same door.

Run as a program it is that backfill, a process of its own as `slotwire control` is: it lets rows in as backfill does,
with as many unwritten, made here instead of being fetched.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from slotwire.ingest.control.backfill import MAX_UNWRITTEN, PATIENCE_SECONDS, ROWS_AT_ONCE
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.receive.accept import accept_through, fetched_row, until_settled
from tests.bench.chain import Chain, Spans, steadily
from tests.bench.deliveries import Mint, Target
from tests.bench.latency import WARM_UPS
from tests.bench.stage import BenchError, Stage, bench_environment, started

LIVE_RATE = 10.0
"""Live deliveries a second, sent when they are due."""
CONNECTIONS = 8


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
    """Run serve, relay and an agent; measure live deliveries quietly, then until the backfill has ended.

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
            while feeder.returncode is None:
                times += await steadily(chain, int(LIVE_RATE), LIVE_RATE)
            elapsed = time.monotonic() - began
        finally:
            chain.close()
    if feeder.returncode:
        raise BenchError("the backfill failed; its words are above")
    way = BackfillWay(rows, rows / elapsed, quiet, Spans.of(times))
    say(
        f"live beside a backfill of {rows:,}: p50 {way.beside.handler_p50:.1f} ms, "
        f"quiet {quiet.handler_p50:.1f} ms; the backfill went at {way.rate:,.0f}/s"
    )
    return way


async def feed(pool: Pool, org: str, rows: int) -> None:
    """Let rows in as backfill does: by the hundred, two hundred unwritten at the most."""
    mint = Mint(Target(0, "", ""))
    unwritten: deque[int] = deque()
    for _ in range(0, rows, ROWS_AT_ONCE):
        now = datetime.now(UTC)
        made = [
            fetched_row(org, origin="backfill", invitee=invitee, scheduled_event=event, now=now)
            for invitee, event in (mint.documents() for _ in range(ROWS_AT_ONCE))
        ]
        while len(unwritten) * ROWS_AT_ONCE + len(made) > MAX_UNWRITTEN:
            if not await until_settled(pool, 0, unwritten.popleft(), seconds=PATIENCE_SECONDS):
                raise BenchError("what was let in is not written")
        unwritten.append(await accept_through(pool, 0, made, now=now, seconds=PATIENCE_SECONDS))
    while unwritten:
        await until_settled(pool, 0, unwritten.popleft(), seconds=PATIENCE_SECONDS)


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
