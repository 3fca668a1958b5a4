"""The load client, a process of its own: keep-alive connections in a closed loop, requests made beforehand.

Told what to do by lines of JSON on its standard input, answers each with a line. Anything but a 2xx ends the
job with an error: a rate of refusals is not a rate of acknowledgements.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import orjson
import uvloop

from tests.bench.deliveries import Delivery, Mint, Target

MARK_SECONDS = 0.1
HEAD_END = b"\r\n\r\n"
CONTENT_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True)
class Job:
    """One closed loop.

    Attributes:
        connections: each with one request under way.
        seconds: of measuring, after the warm-up.
        warm_up_seconds: acknowledged, but not measured.
        prepared: requests made beforehand; the loop ends early when they run out.
    """

    port: int
    path: str
    key: str
    connections: int
    seconds: float
    warm_up_seconds: float
    prepared: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What one closed loop saw.

    Attributes:
        acknowledged: 2xx answers, the warm-up's included.
        began: when the first request was sent, by the monotonic clock.
        marks: acknowledged so far at the end of each `MARK_SECONDS` from then.
        rate: 2xx answers a second while it was measured.
        p50, p99: of the time from before the write to the whole answer, in ms.
        client_cpu: this process's share of one core while it was measured.
        ran_out: the prepared requests were all sent before the time was over.
    """

    acknowledged: int
    began: float
    rate: float
    p50: float
    p99: float
    client_cpu: float
    ran_out: bool
    marks: Sequence[int] = ()

    def by(self, moment: float) -> int:
        """Return how many were acknowledged by a moment of the monotonic clock."""
        mark = int((moment - self.began) / MARK_SECONDS)
        return self.marks[mark - 1] if 0 < mark <= len(self.marks) else self.acknowledged if mark > 0 else 0


class NotAcknowledged(Exception):
    """An answer was not a 2xx, or the connection was closed."""


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way.

    Attributes:
        sent_at: when the request was handed over, by the monotonic clock.
    """

    def __init__(self, answered: Callable[[Connection], None], failed: Callable[[NotAcknowledged], None]) -> None:
        self.sent_at = 0.0
        self._answered = answered
        self._failed = failed
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = transport  # type: ignore[assignment]  # a TCP connection's transport writes

    def send(self, request: bytes) -> None:
        """Write a request; `answered` is called when its answer is here."""
        if self._transport is None:
            raise NotAcknowledged("the connection is not open")
        self._waiting = True
        self.sent_at = time.monotonic()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Put an answer together."""
        if self._buffer:
            data = self._buffer + data
        end = data.find(HEAD_END)
        if end < 0 or len(data) < end + 4 + _content_length(data[:end]):
            self._buffer = data
            return
        self._buffer = b""
        self._waiting = False
        if data[9:10] != b"2":
            self._failed(NotAcknowledged(f"answered {data[:end].decode('latin-1').splitlines()[0]}"))
            return
        self._answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail if an answer is owed."""
        if self._waiting:
            self._failed(NotAcknowledged(f"the connection was closed with a request under way: {exc}"))

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()


def _content_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.find(CONTENT_LENGTH)
    return 0 if start < 0 else int(lower[start + len(CONTENT_LENGTH) :].split(b"\r\n", 1)[0])


class ClosedLoop:
    """Every connection sends its next request when the last one is answered."""

    def __init__(self, deliveries: list[Delivery], job: Job) -> None:
        self._requests: Iterator[bytes] = iter([each.request for each in deliveries])
        self._job = job
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open = job.connections
        self._latencies: list[float] = []
        self._acknowledged = 0
        self._measure_from = self._until = self._last = 0.0
        self._ran_out = False
        self._marks: list[int] = []
        self._next_mark = 0.0

    async def run(self) -> Measured:
        """Run it to its end.

        Raises:
            NotAcknowledged: an answer was not a 2xx.
        """
        loop = asyncio.get_running_loop()
        connections = [
            (
                await loop.create_connection(
                    lambda: Connection(self._answered, self._failed), "127.0.0.1", self._job.port
                )
            )[1]
            for _ in range(self._job.connections)
        ]
        cpu = _Cpu()
        self._measure_from = time.monotonic() + self._job.warm_up_seconds
        self._until = self._measure_from + self._job.seconds
        self._next_mark = self._measure_from - self._job.warm_up_seconds + MARK_SECONDS
        loop.call_later(self._job.warm_up_seconds, cpu.start)
        for connection in connections:
            self._next(connection)
        try:
            await self._done
        finally:
            for connection in connections:
                connection.close()
        elapsed = self._last - self._measure_from
        ordered = sorted(self._latencies)
        return Measured(
            acknowledged=self._acknowledged,
            began=self._measure_from - self._job.warm_up_seconds,
            rate=len(ordered) / elapsed,
            p50=percentile(ordered, 0.50) * 1000,
            p99=percentile(ordered, 0.99) * 1000,
            client_cpu=cpu.spent() / elapsed,
            ran_out=self._ran_out,
            marks=self._marks,
        )

    def _next(self, connection: Connection) -> None:
        request = next(self._requests, None)
        if request is None:
            self._ran_out = True
            self._finish()
        else:
            connection.send(request)

    def _answered(self, connection: Connection) -> None:
        now = self._last = time.monotonic()
        while now >= self._next_mark:
            self._marks.append(self._acknowledged)
            self._next_mark += MARK_SECONDS
        self._acknowledged += 1
        if connection.sent_at >= self._measure_from:
            self._latencies.append(now - connection.sent_at)
        if now < self._until:
            self._next(connection)
        else:
            self._finish()

    def _finish(self) -> None:
        self._open -= 1
        if self._open == 0 and not self._done.done():
            self._done.set_result(None)

    def _failed(self, problem: NotAcknowledged) -> None:
        if not self._done.done():
            self._done.set_exception(problem)


class _Cpu:
    """This process's CPU time since `start`."""

    def __init__(self) -> None:
        self._started = time.process_time()

    def start(self) -> None:
        self._started = time.process_time()

    def spent(self) -> float:
        return time.process_time() - self._started


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which a share of the sorted values lies (nearest rank).

    Raises:
        NotAcknowledged: there are none.
    """
    if not ordered:
        raise NotAcknowledged("nothing was acknowledged while it was measured")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def perform(job: Job) -> Measured:
    """Make the requests, then run the loop with the garbage collector off."""
    mint = Mint(Target(job.port, job.path, job.key))
    deliveries = [mint.delivery() for _ in range(job.prepared)]
    gc.collect()
    gc.disable()
    try:
        return await ClosedLoop(deliveries, job).run()
    finally:
        gc.enable()


def main() -> None:
    """Take jobs until the input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin.buffer:
            try:
                answer = asdict(runner.run(perform(Job(**orjson.loads(line)))))
            except (NotAcknowledged, OSError) as problem:
                answer = {"error": str(problem)}
            sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
