"""Webhook → Postgres → Kafka → handler: the whole chain of real processes, from before the write of the POST."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.chain import Chain, Spans, steadily
from tests.bench.stage import Stage, started

WARM_UPS = 40
"""Deliveries before the measuring: code is loaded, connections are open, the broker's Java is compiled."""
GAP_SECONDS = (0.05, 0.1)
"""Pause between deliveries on the idle stack, drawn evenly: none meets the one before."""
STEADY_RATE = 200
"""Deliveries a second of the steady line, sent when they are due, whatever has become of those before."""
STEADY_CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Latency:
    """The chain on the idle stack, one delivery at a time, and under a steady load."""

    idle: Spans
    steady: Spans


async def measure_latency(
    stage: Stage, *, deliveries: int, steady_seconds: float, say: Callable[[str], None]
) -> Latency:
    """Run serve, relay and an agent, and measure.

    Raises:
        BenchError: a delivery was refused or did not reach the handler.
    """
    chain = Chain(stage.target)
    serve, relay = stage.ours("serve", "serve"), stage.ours("relay", "relay")
    agents = stage.ours("agents", "agents", "run", "tests.bench.agent:agent", show=chain.handled)
    async with started(serve, relay, agents):
        try:
            await chain.connect(1)
            for _ in range(WARM_UPS):
                await chain.deliver()
            idle = Spans.of([await after_a_gap(chain) for _ in range(deliveries)])
            say(f"webhook to handler, idle: p50 {idle.handler_p50:.1f} ms, p99 {idle.handler_p99:.1f} ms")
            await chain.connect(STEADY_CONNECTIONS)
            steady = Spans.of(await steadily(chain, int(STEADY_RATE * steady_seconds), STEADY_RATE))
            say(
                f"webhook to handler, {STEADY_RATE}/s: p50 {steady.handler_p50:.1f} ms, p99 {steady.handler_p99:.1f} ms"
            )
        finally:
            chain.close()
    return Latency(idle, steady)


async def after_a_gap(chain: Chain) -> tuple[float, float]:
    """Send one delivery that meets none before it."""
    await asyncio.sleep(random.uniform(*GAP_SECONDS))  # noqa: S311 - spacing, not a secret
    return await chain.deliver()
