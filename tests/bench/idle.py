"""What each process costs while nothing arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.bench.stage import Stage, started

SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Idle:
    """Milliseconds of CPU in a second, by process."""

    cpu: Mapping[str, float]


async def measure_idle(stage: Stage, *, seconds: float, say: Callable[[str], None]) -> Idle:
    """Run everything, and send nothing."""
    servers = stage.chain()
    async with started(*servers.values()):
        await asyncio.sleep(SETTLE_SECONDS)
        before, began = stage.cpu(servers), time.monotonic()
        await asyncio.sleep(seconds)
        after, elapsed = stage.cpu(servers), time.monotonic() - began
    cpu = {name: (after[name] - before[name]) / elapsed * 1_000 for name in after}
    say("idle, ms of CPU a second: " + ", ".join(f"{name} {each:.1f}" for name, each in cpu.items()))
    return Idle(cpu)
