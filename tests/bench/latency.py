"""Webhook → Postgres → Kafka → handler: the whole chain of real processes, from before the write of the POST.

The monotonic clock is one for all processes of a machine, so the agent's moments and ours compare.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.deliveries import Mint, Target
from tests.bench.load import Connection, NotAcknowledged, percentile
from tests.bench.stage import BenchError, Stage, started

WARM_UPS = 40
"""Deliveries before the measuring: code is loaded, connections are open, the broker's Java is compiled."""
GAP_SECONDS = (0.05, 0.1)
"""Pause between deliveries on the idle stack, drawn evenly: none meets the one before."""
STEADY_RATE = 200
"""Deliveries a second of the steady line, sent when they are due, whatever has become of those before."""
STEADY_CONNECTIONS = 32
LOST_SECONDS = 20.0
"""A delivery that has not reached the handler by then is lost, and the run fails."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Times of one line, in ms.

    Attributes:
        deliveries: how many were measured; each of them reached the handler.
        answer_p50, answer_p99: from before the POST is written to its answer.
        handler_p50, handler_p99: from before the POST is written to the handler's first line.
    """

    deliveries: int
    answer_p50: float
    answer_p99: float
    handler_p50: float
    handler_p99: float


@dataclass(frozen=True, slots=True)
class Latency:
    """The chain on the idle stack, one delivery at a time, and under a steady load."""

    idle: Spans
    steady: Spans


class Chain:
    """Sends deliveries and learns when they were answered and handled."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._mint = Mint(target)
        self._free: asyncio.Queue[Connection] = asyncio.Queue()
        self._answers: dict[Connection, asyncio.Future[float]] = {}
        self._handled: dict[str, asyncio.Future[float]] = {}

    async def connect(self, connections: int) -> None:
        """Open keep-alive connections until there are so many."""
        loop = asyncio.get_running_loop()
        for _ in range(connections - self._free.qsize()):
            _, connection = await loop.create_connection(
                lambda: Connection(self._answered, self._failed), "127.0.0.1", self._target.port
            )
            self._free.put_nowait(connection)

    def close(self) -> None:
        """Close the connections."""
        while not self._free.empty():
            self._free.get_nowait().close()

    def handled(self, line: str) -> None:
        """Take a line of the agent's."""
        invitee, _, moment = line.partition(" ")
        waiting = self._handled.get(invitee)
        if waiting is not None and not waiting.done():
            waiting.set_result(float(moment))

    async def deliver(self, *, due: float | None = None) -> tuple[float, float]:
        """Send one delivery; return ms to its answer and to its handler, from when it was due (now unless told).

        Raises:
            BenchError: it was refused or lost.
        """
        loop = asyncio.get_running_loop()
        delivery = self._mint.delivery()
        connection = await self._free.get()
        answer = self._answers[connection] = loop.create_future()
        handled = self._handled[delivery.invitee] = loop.create_future()
        connection.send(delivery.request)
        since = connection.sent_at if due is None else due
        try:
            async with asyncio.timeout(LOST_SECONDS):
                answered_at = await answer
                self._free.put_nowait(connection)
                handled_at = await handled
        except TimeoutError:
            raise BenchError(f"a delivery did not reach the handler within {LOST_SECONDS:.0f} s") from None
        except NotAcknowledged as problem:
            raise BenchError(str(problem)) from None
        finally:
            self._handled.pop(delivery.invitee, None)
        return (answered_at - since) * 1000, (handled_at - since) * 1000

    def _answered(self, connection: Connection) -> None:
        self._answers[connection].set_result(time.monotonic())

    def _failed(self, problem: NotAcknowledged) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(problem)


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
            idle = _spans([await _after_a_gap(chain) for _ in range(deliveries)])
            say(f"webhook to handler, idle: p50 {idle.handler_p50:.1f} ms, p99 {idle.handler_p99:.1f} ms")
            await chain.connect(STEADY_CONNECTIONS)
            steady = _spans(await _steadily(chain, int(STEADY_RATE * steady_seconds)))
            say(
                f"webhook to handler, {STEADY_RATE}/s: p50 {steady.handler_p50:.1f} ms, p99 {steady.handler_p99:.1f} ms"
            )
        finally:
            chain.close()
    return Latency(idle, steady)


async def _after_a_gap(chain: Chain) -> tuple[float, float]:
    await asyncio.sleep(random.uniform(*GAP_SECONDS))  # noqa: S311 - spacing, not a secret
    return await chain.deliver()


async def _steadily(chain: Chain, deliveries: int) -> list[tuple[float, float]]:
    start = time.monotonic() + 0.05
    tasks = []
    async with asyncio.TaskGroup() as group:
        for number in range(deliveries):
            due = start + number / STEADY_RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(group.create_task(chain.deliver(due=due)))
    return [task.result() for task in tasks]


def _spans(times: list[tuple[float, float]]) -> Spans:
    answers, handlers = sorted(each[0] for each in times), sorted(each[1] for each in times)
    return Spans(
        deliveries=len(times),
        answer_p50=percentile(answers, 0.5),
        answer_p99=percentile(answers, 0.99),
        handler_p50=percentile(handlers, 0.5),
        handler_p99=percentile(handlers, 0.99),
    )
