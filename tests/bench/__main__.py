"""`make bench`: durable acks and webhook-to-handler latency, beside a bare endpoint and the naive service.

Runs on a stack of its own in a temporary folder with default durability (`fsync` on), in under four minutes.
Exits 1 when a stated ratio is missed. How to read it: docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson
from rich.console import Console

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local.stack import ephemeral_folder
from tests.bench.acks import measure_acks
from tests.bench.latency import measure_latency
from tests.bench.report import Results, show
from tests.bench.stage import BenchError, staged
from tests.bench.stages import measure_stages

PARTS = ("latency", "acks", "stages")


@dataclass(frozen=True, slots=True)
class Size:
    """How long a run is.

    Attributes:
        seconds: of one contender's turn, warm-up not counted.
        deliveries: on the idle stack, one at a time.
    """

    rounds: int
    seconds: float
    deliveries: int
    steady_seconds: float
    stage_seconds: float


FULL = Size(rounds=5, seconds=2.5, deliveries=200, steady_seconds=10, stage_seconds=4)
QUICK = Size(rounds=3, seconds=1.0, deliveries=50, steady_seconds=3, stage_seconds=1)


async def measure(folder: Path, parts: frozenset[str], size: Size) -> Results:
    """Measure the parts asked for."""
    acks = latency = None
    stages = measure_stages(seconds=size.stage_seconds) if "stages" in parts else None
    if parts & {"latency", "acks"}:
        async with staged(folder, say) as stage:
            if "latency" in parts:
                latency = await measure_latency(
                    stage, deliveries=size.deliveries, steady_seconds=size.steady_seconds, say=say
                )
            if "acks" in parts:
                acks = await measure_acks(stage, rounds=size.rounds, seconds=size.seconds, say=say)
    return Results(acks, latency, stages)


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
    return 1 if results.missed else 0


if __name__ == "__main__":
    sys.exit(main())
