"""Sends deliveries one by one, and learns when each was answered and handled.

The monotonic clock is one for all processes of a machine, so the agent's moments and ours compare.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.deliveries import Delivery, Mint, Target
from tests.bench.load import Connection, NotAcknowledged, percentile
from tests.bench.stage import BenchError

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

    @classmethod
    def of(cls, times: list[tuple[float, float]]) -> Spans:
        """Sum up times to the answer and to the handler."""
        answers, handlers = sorted(each[0] for each in times), sorted(each[1] for each in times)
        return cls(
            deliveries=len(times),
            answer_p50=percentile(answers, 0.5),
            answer_p99=percentile(answers, 0.99),
            handler_p50=percentile(handlers, 0.5),
            handler_p99=percentile(handlers, 0.99),
        )


class Chain:
    """Sends deliveries and learns when they were answered and handled."""

    def __init__(self, target: Target, make: Callable[[], Delivery] | None = None) -> None:
        """Take the hook, and what makes deliveries: for that hook, unless it is said."""
        self._target = target
        self._make = make or Mint(target).delivery
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
        delivery = self._make()
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


async def steadily(chain: Chain, deliveries: int, rate: float) -> list[tuple[float, float]]:
    """Send deliveries when they are due, whatever has become of those before; return ms to answer and handler."""
    start = time.monotonic() + 0.05
    tasks = []
    async with asyncio.TaskGroup() as group:
        for number in range(deliveries):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(group.create_task(chain.deliver(due=due)))
    return [task.result() for task in tasks]
