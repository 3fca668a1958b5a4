"""What traces cost `serve`: `python -m tests.bench.traces`. CPU of a delivery, in pairs of rounds on one stack.

`off` makes no spans; `tenth` and `all` send a tenth and all of them to a collector in this process, whose work is not
counted. Each ratio is of two rounds that followed each other.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from slotwire.ingest.local.stack import ephemeral_folder
from tests.bench.acks import FIRST_GUESS, HEADROOM, WARM_UP_SECONDS, take_turn
from tests.bench.stage import Stage, free_port, staged, started
from tests.support.collector import collecting

ROUNDS, SECONDS, CONNECTIONS = 6, 2.0, 64
RATIOS = {"off": None, "tenth": 0.1, "all": 1.0}


async def measure(stage: Stage, collector: str) -> dict[str, list[float]]:
    """Return microseconds of CPU a delivery, by the share of traces, a round each."""
    spent: dict[str, list[float]] = {name: [] for name in RATIOS}
    async with AsyncExitStack() as running:
        servers = {}
        for name, ratio in RATIOS.items():
            port = free_port()
            traced = {} if ratio is None else {"ENDPOINT": collector, "SAMPLE_RATIO": str(ratio)}
            more = {f"SLOTWIRE_TRACES__{key}": value for key, value in traced.items()}
            other = replace(stage, environment={**stage.environment, "SLOTWIRE_HTTP__PORT": str(port), **more})
            servers[name] = (other.ours(f"serve-{name}", "serve"), replace(stage.target, port=port))
        await running.enter_async_context(started(*(process for process, _ in servers.values())))
        for _ in range(ROUNDS):
            for name, (process, target) in servers.items():
                turn = await take_turn(
                    stage,
                    process,
                    target,
                    CONNECTIONS,
                    seconds=SECONDS,
                    warm_up_seconds=WARM_UP_SECONDS,
                    prepared=int(FIRST_GUESS["slotwire"] * HEADROOM * (SECONDS + WARM_UP_SECONDS)),
                )
                spent[name].append(turn.cpu["server"])
    return spent


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


async def main(folder: Path) -> None:
    """Measure, and say it."""
    async with staged(folder, _say) as stage, collecting(keep=False) as collector:
        spent = await measure(stage, collector.url)
    for name, rounds in spent.items():
        ratios = [each / off for each, off in zip(rounds, spent["off"], strict=True)]
        sys.stdout.write(f"{name:6} {median(rounds):6.1f} us of CPU a delivery, {median(ratios):.2f} of off\n")


if __name__ == "__main__":
    with ephemeral_folder() as temporary:
        asyncio.run(main(temporary))
