"""`python -m tests.bench.against CHECKOUT`: this Slotwire beside that of another checkout, in short turns.

For judging a change: the machine's moods weigh more than most changes do, so each round gives both a turn, and what
counts is the median of the rounds' ratios. Each side has a database and topics of its own on the same servers, made by
its own `slotwire migrate`, so the other checkout may have another schema.

    git worktree add ../before HEAD~1
    python -m tests.bench.against ../before
    python -m tests.bench.against ../before --only kafka --rounds 8
    python -m tests.bench.against ../before --only idle
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local.stack import ephemeral_folder
from slotwire.ingest.local.supervisor import Process
from tests.bench.__main__ import say
from tests.bench.acks import FIRST_GUESS, take_turn
from tests.bench.chain import Chain
from tests.bench.latency import WARM_UPS, after_a_gap
from tests.bench.stage import BenchError, Stage, package_of, staged, started
from tests.bench.sustained import flow

CONNECTIONS = 64
SECONDS = 0.5
"""Of one turn of acknowledgements: shorter than the machine keeps a mood."""
WARM_UP_SECONDS = 0.05
PREPARED = 8_000
FLOW_SECONDS = 4.0
"""Of one turn to Kafka."""
IDLE_DELIVERIES = 20
"""Of one turn one at a time."""

Figures = Mapping[str, float]
"""What one turn measured, by the words of its line."""


async def acks_turn(stage: Stage, servers: Mapping[str, Process]) -> Figures:
    """Load `serve` alone."""
    turn = await take_turn(
        stage,
        servers["serve"],
        stage.target,
        CONNECTIONS,
        seconds=SECONDS,
        warm_up_seconds=WARM_UP_SECONDS,
        prepared=PREPARED,
    )
    return {
        "acks/s": turn.measured.rate,
        "CPU us: serve": turn.cpu["server"],
        "CPU us: Postgres": turn.cpu["postgres"],
    }


async def kafka_turn(stage: Stage, servers: Mapping[str, Process]) -> Figures:
    """Load everything, and wait until all is in Kafka."""
    turn = await flow(stage, servers, seconds=FLOW_SECONDS, guess=FIRST_GUESS["slotwire"])
    rates = {"acks/s": turn.acks, "in Kafka/s": turn.published, "in Kafka/s, to the last": turn.through}
    return rates | {f"CPU us: {name}": each for name, each in turn.cpu.items()}


async def idle_turn(chain: Chain) -> Figures:
    """Send some deliveries one at a time."""
    times = [await after_a_gap(chain) for _ in range(IDLE_DELIVERIES)]
    return {
        "answer ms": statistics.median(answer for answer, _ in times),
        "handler ms": statistics.median(handler for _, handler in times),
    }


async def compare(folder: Path, other: Path, rounds: int, part: str) -> tuple[list[Figures], list[Figures]]:
    """Measure both in turns; who begins changes each round."""
    async with staged(folder, say) as here, AsyncExitStack() as running:
        pair = here, await here.beside(other)
        turns: tuple[list[Figures], list[Figures]] = ([], [])
        takes = [
            await _prepared(stage, name, part, running) for stage, name in zip(pair, ("here", "other"), strict=True)
        ]
        for take in takes:  # a first one that does not count: plans, caches, connections
            await take()
        for number in range(rounds):
            for which in (number % 2, 1 - number % 2):
                turns[which].append(await takes[which]())
        return turns


async def _prepared(
    stage: Stage, name: str, part: str, running: AsyncExitStack
) -> Callable[[], Coroutine[None, None, Figures]]:
    """Start what a part needs of one side; return what takes a turn."""
    servers = {"serve": stage.ours(f"{name}-serve", "serve")}
    if part == "acks":
        await running.enter_async_context(started(*servers.values()))
        return partial(acks_turn, stage, servers)
    servers["relay"] = stage.ours(f"{name}-relay", "relay")
    if part == "kafka":
        await running.enter_async_context(started(*servers.values()))
        return partial(kafka_turn, stage, servers)
    chain = Chain(stage.target)
    agents = stage.ours(f"{name}-agents", "agents", "run", "tests.bench.agent:agent", show=chain.handled)
    await running.enter_async_context(started(*servers.values(), agents))
    running.callback(chain.close)
    await chain.connect(1)
    for _ in range(WARM_UPS):
        await chain.deliver()
    return partial(idle_turn, chain)


def tell(here: Sequence[Figures], other: Sequence[Figures]) -> None:
    """Print the medians, and the median of the rounds' ratios with the middle half of them."""
    sys.stdout.write(f"{'':26}{'here':>10}{'other':>10}   here / other (middle half)   here - other\n")
    for words in here[0]:
        mine, theirs = [[each[words] for each in turns] for turns in (here, other)]
        low, middle, high = statistics.quantiles([a / b if b else 0.0 for a, b in zip(mine, theirs, strict=True)], n=4)
        less = statistics.median(a - b for a, b in zip(mine, theirs, strict=True))
        medians = f"{statistics.median(mine):>10,.1f}{statistics.median(theirs):>10,.1f}"
        sys.stdout.write(f"{words:26}{medians}   {middle:.2f} ({low:.2f}-{high:.2f})            {less:+,.1f}\n")


def main() -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.against")
    parser.add_argument("checkout", type=Path, help="the other checkout's folder")
    parser.add_argument("--rounds", type=int, default=24, help="a turn of each (24)")
    parser.add_argument("--only", choices=("acks", "kafka", "idle"), default="acks", help="what is compared (acks)")
    options = parser.parse_args()
    other = options.checkout.resolve()
    if package_of(other) is None or options.rounds < 2:
        parser.error(f"{other} is no checkout of Slotwire" if options.rounds > 1 else "at least two rounds are needed")
    try:
        with ephemeral_folder() as folder:
            tell(*asyncio.run(compare(folder, other, options.rounds, options.only)))
    except (BenchError, SlotwireError) as problem:
        say(f"bench: {problem}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
