"""`python -m tests.bench.against CHECKOUT`: this service beside that of another checkout, in short turns.

For judging a change: the machine's moods weigh more than most changes do, so each round gives both a turn, and what
counts is the median of the rounds' ratios. The other checkout must know every migration of this one.

    git worktree add ../before HEAD~1
    python -m tests.bench.against ../before
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local.stack import ephemeral_folder
from slotwire.ingest.local.supervisor import Process
from tests.bench.__main__ import say
from tests.bench.acks import Round, take_turn
from tests.bench.deliveries import Target
from tests.bench.stage import ROOT, BenchError, Stage, free_port, staged, started

CONNECTIONS = 64
SECONDS = 0.5
"""Of one turn: shorter than the machine keeps a mood."""
WARM_UP_SECONDS = 0.05
PREPARED = 8_000
FIGURES: dict[str, Callable[[Round], float]] = {
    "deliveries/s": lambda each: each.measured.rate,
    "CPU us: serve": lambda each: each.cpu["server"],
    "CPU us: Postgres": lambda each: each.cpu["postgres"],
}


def package_of(checkout: Path) -> tuple[Path, str] | None:
    """Return where a checkout's Python path begins and what its `ingest` is called there; None if it has none.

    Before the namespace `slotwire` the packages were imported from the checkout's root.
    """
    for path, package in ((checkout / "src", "slotwire.ingest"), (checkout, "ingest")):
        if (path.joinpath(*package.split("."), "cli", "__main__.py")).is_file():
            return path, package
    return None


def ours(stage: Stage, name: str, checkout: Path) -> tuple[Process, Target]:
    """Return `slotwire serve` of a checkout, not started, and where to send to.

    It runs by its module: the installed command would import this checkout.
    """
    found = package_of(checkout)
    assert found is not None
    path, package = found
    port = free_port()
    environment = {**stage.environment, "PYTHONPATH": str(path), "SLOTWIRE_HTTP__PORT": str(port)}
    command = (sys.executable, "-P", "-m", f"{package}.cli")
    target = replace(stage.target, port=port)
    return replace(stage, environment=environment).ours(name, "serve", command=command), target


async def compare(folder: Path, other: Path, rounds: int) -> tuple[list[Round], list[Round]]:
    """Measure both in turns; who begins changes each round."""
    async with staged(folder, say) as stage:
        pair = ours(stage, "here", ROOT), ours(stage, "other", other)
        turns: tuple[list[Round], list[Round]] = ([], [])
        turn = partial(
            take_turn,
            stage,
            seconds=SECONDS,
            warm_up_seconds=WARM_UP_SECONDS,
            prepared=PREPARED,
            connections=CONNECTIONS,
        )
        async with started(pair[0][0], pair[1][0]):
            for each in pair:  # a first one that does not count: plans, caches, connections
                await turn(*each)
            for number in range(rounds):
                for which in (number % 2, 1 - number % 2):
                    turns[which].append(await turn(*pair[which]))
        return turns


def tell(here: Sequence[Round], other: Sequence[Round]) -> None:
    """Print the medians, and the median of the rounds' ratios with the middle half of them."""
    sys.stdout.write(f"{'':22}{'here':>10}{'other':>10}   here / other (middle half)\n")
    for words, read in FIGURES.items():
        mine, theirs = [[read(each) for each in turns] for turns in (here, other)]
        low, middle, high = statistics.quantiles([a / b for a, b in zip(mine, theirs, strict=True)], n=4)
        medians = f"{statistics.median(mine):>10,.0f}{statistics.median(theirs):>10,.0f}"
        sys.stdout.write(f"{words:22}{medians}   {middle:.2f} ({low:.2f}-{high:.2f})\n")


def main() -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.against")
    parser.add_argument("checkout", type=Path, help="the other checkout's folder")
    parser.add_argument("--rounds", type=int, default=24, help="a turn of each (24)")
    options = parser.parse_args()
    other = options.checkout.resolve()
    if package_of(other) is None or options.rounds < 2:
        parser.error(f"{other} is no checkout of Slotwire" if options.rounds > 1 else "at least two rounds are needed")
    try:
        with ephemeral_folder() as folder:
            tell(*asyncio.run(compare(folder, other, options.rounds)))
    except (BenchError, SlotwireError) as problem:
        say(f"bench: {problem}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
