"""`make bench`: durable acks, the way to Kafka and to a handler, a drain, a backfill, idling, lists.

Runs on a stack of its own in a temporary folder with default durability (`fsync` on), in about twelve minutes.
Exits 1 when a stated ratio is missed, 2 when a part could not be measured.
How to read it: docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
from rich.console import Console

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local.stack import ephemeral_folder
from tests.bench.acks import measure_acks
from tests.bench.backfill import measure_backfill
from tests.bench.drain import measure_drain
from tests.bench.idle import measure_idle
from tests.bench.latency import measure_latency
from tests.bench.listings import measure_listings
from tests.bench.load import NotAcknowledged
from tests.bench.neighbours import measure_neighbours
from tests.bench.report import Results, show
from tests.bench.stage import BenchError, staged
from tests.bench.stages import measure_stages
from tests.bench.sustained import measure_sustained

PARTS = ("latency", "acks", "sustained", "drain", "backfill", "idle", "stages", "listings", "neighbours")


@dataclass(frozen=True, slots=True)
class Size:
    """How long a run is.

    Attributes:
        seconds: of one contender's turn, warm-up not counted.
        deliveries: on the idle stack, one at a time.
        backlog: deliveries that are drained, and rows of the backfill.
        still_seconds: while nothing arrives, and of live deliveries before the backfill.
        history: events over which is listed.
    """

    rounds: int
    seconds: float
    deliveries: int
    steady_seconds: float
    stage_seconds: float
    sustained_seconds: float
    backlog: int
    still_seconds: float
    history: int


FULL = Size(
    rounds=5,
    seconds=2.5,
    deliveries=200,
    steady_seconds=10,
    stage_seconds=4,
    sustained_seconds=30,
    backlog=100_000,
    still_seconds=20,
    history=2_000_000,
)
QUICK = Size(
    rounds=3,
    seconds=1.0,
    deliveries=50,
    steady_seconds=3,
    stage_seconds=1,
    sustained_seconds=9,
    backlog=10_000,
    still_seconds=5,
    history=100_000,
)


async def measure(folder: Path, parts: frozenset[str], size: Size) -> Results:
    """Measure the parts asked for. One that cannot be measured is named in the result, and costs no other."""
    found = Results()
    if "stages" in parts:
        found.stages = measure_stages(seconds=size.stage_seconds)
    if parts == {"stages"}:
        return found
    async with staged(folder, say) as stage:
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "latency": lambda: measure_latency(
                stage, deliveries=size.deliveries, steady_seconds=size.steady_seconds, say=say
            ),
            "idle": lambda: measure_idle(stage, seconds=size.still_seconds, say=say),
            "sustained": lambda: measure_sustained(stage, seconds=size.sustained_seconds, say=say),
            "backfill": lambda: measure_backfill(stage, rows=size.backlog, quiet_seconds=size.still_seconds, say=say),
            "drain": lambda: measure_drain(stage, deliveries=size.backlog, say=say),
            "neighbours": lambda: measure_neighbours(stage, seconds=size.still_seconds, say=say),
            "listings": lambda: measure_listings(stage.stack, events=size.history, say=say),
            # Last: nothing writes what it lets in.
            "acks": lambda: measure_acks(stage, rounds=size.rounds, seconds=size.seconds, say=say),
        }
        for part, way in ways.items():
            if part in parts:
                await attempt(found, part, way)
    return found


async def attempt(found: Results, part: str, way: Callable[[], Awaitable[object]]) -> None:
    """Measure one part into the result; note it there if it cannot be measured."""
    try:
        setattr(found, part, await way())
    except (BenchError, NotAcknowledged, SlotwireError) as problem:
        found.unmeasured.append(f"{part}: {problem}")


def say(line: str) -> None:
    """Tell the one who watches; standard output is for the result."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> int:
    """Run, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="shorter and fewer rounds; the spread is larger")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part only; may be repeated")
    options = parser.parse_args()
    parts = frozenset(options.only or PARTS)
    try:
        with ephemeral_folder() as folder:
            results = asyncio.run(measure(folder, parts, QUICK if options.quick else FULL))
    except (BenchError, SlotwireError) as problem:
        say(f"bench: {problem}")
        return 2
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(results.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
    else:
        show(results, Console(width=150 if not sys.stdout.isatty() else None))
    return 2 if results.unmeasured else 1 if results.missed else 0


if __name__ == "__main__":
    sys.exit(main())
