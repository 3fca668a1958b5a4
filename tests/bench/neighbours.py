"""One tenant's worst bodies beside another one's bookings: answers, and the way into the log.

Tenant B sends a booking at a steady rate: quiet, then beside tenant A, who sends usual bodies and the bodies that
cost most in turns, as large and as many a second. So the two differ by what A's bodies are, and by nothing else: a
slow minute of the disk meets both. A sends from a process of its own, because its work would count as B's waiting
otherwise.
"""

from __future__ import annotations

import asyncio
import base64
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import cycle

import httpx
import orjson

from slotwire.ingest.log.batch import Batch
from slotwire.ingest.log.normalize import normalize
from slotwire.ingest.log.parts import count_parts
from slotwire.schemas.ids import last_segment
from tests.bench.deliveries import Mint, Target
from tests.bench.load import percentile
from tests.bench.stage import Stage, started
from tests.support.public_endpoint import SIGNATURE, make_hook, sign
from tests.support.worst_bodies import WorstBody, worst_bodies
from tests.support.writing import accepted

RATE = 40.0
"""Bookings of B a second."""
FLOOD_RATE = 40.0
"""Bodies of A a second: several times what the writer gets through of the worst."""
FLOODERS = 8
"""Connections of A, each with one request under way."""
TURNS = 9
"""Turns of A with usual bodies, and as many with the worst, one after the other."""
COSTLIEST = 8
"""Bodies that A sends in turn: those that cost most CPU for their bytes, and those of which the events are largest."""
EVENTS = ("invitee.canceled", "event_type.updated", "contact.updated")
TRIED_BYTES = 16_000
"""Of a body of A: enough for all the parts that a body may have, and as costly for its bytes as a larger one."""
WAY = """
SELECT extract(epoch FROM r.settled_at - d.received_at) * 1000 FROM slotwire.results r
JOIN slotwire.deliveries d USING (shard, position) WHERE d.org = $1 AND d.received_at >= to_timestamp($2)
"""

SETTLED = """
SELECT (NOT EXISTS (SELECT FROM slotwire.deliveries d WHERE NOT EXISTS (
    SELECT FROM slotwire.results r WHERE r.shard = d.shard AND r.position = d.position)))::int
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one body costs.

    Attributes:
        cpu_ms: to normalize, join and encode it.
        event_bytes: of all its events.
    """

    name: str
    body_bytes: int
    parts: int
    cpu_ms: float
    event_bytes: int


@dataclass(frozen=True, slots=True)
class Way:
    """B's bookings, in ms: from the request to its answer, and from its arrival to the commit of its event."""

    deliveries: int
    answer_p50: float
    answer_p99: float
    settled_p50: float
    settled_p99: float


@dataclass(slots=True)
class Times:
    """What was measured of B in one turn or several (`answers` in s, `settled` in ms), and how many A had answered."""

    answers: list[float] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)
    sent: int = 0

    def way(self) -> Way:
        """Return the percentiles."""
        ordered = sorted(each * 1_000 for each in self.answers)
        times = [percentile(each, share) for each in (ordered, sorted(self.settled)) for share in (0.5, 0.99)]
        return Way(len(self.answers), *times)

    def over(self, other: Times) -> tuple[float, float]:
        """Return this turn's answers over another one's: p50 and p99."""
        mine, its = self.way(), other.way()
        return mine.answer_p50 / its.answer_p50, mine.answer_p99 / its.answer_p99

    @classmethod
    def of(cls, turns: Iterable[Times]) -> Times:
        """Put turns together."""
        whole = cls()
        for each in turns:
            whole.answers += each.answers
            whole.settled += each.settled
            whole.sent += each.sent
        return whole


@dataclass(frozen=True, slots=True)
class Neighbours:
    """B's way quiet, beside A's usual bodies and its worst; how many of A's were answered; what the worst cost.

    Attributes:
        turns: B's answers in a turn of A's worst bodies over those in the turn of usual ones before it: p50 and p99.
    """

    quiet: Way
    usual: Way
    worst: Way
    usual_sent: int
    worst_sent: int
    turns: tuple[tuple[float, float], ...]
    costs: tuple[Cost, ...]

    @property
    def ratios(self) -> tuple[float, float]:
        """B's answers beside A's worst bodies over those beside its usual ones, p50 and p99: the median of the turns.

        One stall of the disk decides the p99 of all answers together, and only that of one turn.
        """
        middle, last = (statistics.median(each) for each in zip(*self.turns, strict=True))
        return middle, last


def cost_of(worst: WorstBody) -> Cost:
    """Take a body through normalize, join and encode."""
    began = time.process_time()
    batch = Batch(normalize(accepted(worst.body)))
    spent = time.process_time() - began
    size = sum(len(each.data) for each in batch.appending)
    return Cost(worst.name, len(worst.body), count_parts(worst.body), spent * 1_000, size)


def costliest() -> list[tuple[Cost, bytes]]:
    """Find the bodies that A sends: by CPU for their bytes, and by what their events are larger."""
    found = [(cost_of(each), each.body) for each in worst_bodies(*EVENTS, size=TRIED_BYTES)]
    by_cpu = sorted(found, key=lambda each: -each[0].cpu_ms / (each[0].body_bytes + 1_000))
    by_growth = sorted(found, key=lambda each: each[0].body_bytes - each[0].event_bytes)
    return [*by_cpu[: COSTLIEST // 2], *by_growth[: COSTLIEST // 2]]


def usual(to: Target, size: int, count: int) -> list[bytes]:
    """Make bodies of a size that are usual but for a long answer, each of another invitee."""
    mint, made = Mint(to), list[bytes]()
    for _ in range(count):
        told = orjson.loads(mint.body()[1])
        told["payload"]["questions_and_answers"] = [{"question": "Anything else?", "answer": "", "position": 0}]
        told["payload"]["questions_and_answers"][0]["answer"] = "x" * (size - len(orjson.dumps(told)))
        made.append(orjson.dumps(told))
    return made


async def measure_neighbours(stage: Stage, *, seconds: float, say: Callable[[str], None]) -> Neighbours:
    """Send B's bookings quiet, beside A's usual bodies, and beside its worst."""
    chosen = costliest()
    hook = await make_hook(stage.settings, stage.database)
    flooder = Target(stage.target.port, hook.path, hook.key)
    size = sum(each.body_bytes for each, _ in chosen) // len(chosen)
    serve, relay = stage.ours("serve", "serve"), stage.ours("relay", "relay")
    async with started(serve, relay):
        alone, turns = await _beside(stage, flooder, [], seconds), list[tuple[Times, Times]]()
        for _ in range(TURNS):
            bodies = usual(flooder, size, int(FLOOD_RATE * seconds / 4))
            beside_usual = await _beside(stage, flooder, bodies, seconds / 4)
            turns.append((beside_usual, await _beside(stage, flooder, [body for _, body in chosen], seconds / 4)))
    as_usual, at_worst = (Times.of(each) for each in zip(*turns, strict=True))
    quiet, usual_way, worst_way = alone.way(), as_usual.way(), at_worst.way()
    for name, way in (("quiet", quiet), ("beside usual bodies", usual_way), ("beside the worst", worst_way)):
        say(
            f"B {name}: answers {way.answer_p50:.1f}, p99 {way.answer_p99:.1f} ms;"
            f" in the log after {way.settled_p50:.1f}, p99 {way.settled_p99:.1f} ms"
        )
    say(f"A: {as_usual.sent} usual and {at_worst.sent} of the worst bodies answered; {last_segment(hook.organization)}")
    ratios = tuple(worst.over(usual) for usual, worst in turns)
    costs = tuple(cost for cost, _ in chosen)
    return Neighbours(quiet, usual_way, worst_way, as_usual.sent, at_worst.sent, ratios, costs)


async def _beside(stage: Stage, flooder: Target, bodies: list[bytes], seconds: float) -> Times:
    """Send B's bookings while A sends, until all of both are in the log; return what was measured."""
    times = Times()
    began = time.time()
    ends = time.monotonic() + seconds
    async with httpx.AsyncClient(timeout=60) as ours, asyncio.TaskGroup() as group:
        sent = group.create_task(_flooded(flooder, bodies, seconds)) if bodies else None
        await _steady(ours, stage.target, ends, times.answers)
    await stage.until(SETTLED, 1, seconds=240)
    times.settled += [float(row[0]) for row in await stage.connection.fetch(WAY, stage.org, began)]
    times.sent = 0 if sent is None else sent.result()
    return times


async def _flooded(to: Target, bodies: list[bytes], seconds: float) -> int:
    """Have A's process send; return how many were answered."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        job = {"to": asdict(to), "seconds": seconds, "bodies": [base64.b64encode(each).decode() for each in bodies]}
        told, _ = await process.communicate(orjson.dumps(job))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return int(told)


async def _flood() -> None:
    """Be A's process: send what standard input says at `FLOOD_RATE`, and print how many were answered."""
    job = orjson.loads(sys.stdin.buffer.read())
    to, bodies = Target(**job["to"]), [base64.b64decode(each) for each in job["bodies"]]
    turns, sent, began = cycle(bodies), 0, time.monotonic()

    async def send(client: httpx.AsyncClient) -> None:
        nonlocal sent
        while (elapsed := time.monotonic() - began) < job["seconds"]:
            if sent > elapsed * FLOOD_RATE:
                await asyncio.sleep(1 / FLOOD_RATE)
                continue
            sent += 1
            await _post(client, to, next(turns))

    async with httpx.AsyncClient(timeout=60) as client, asyncio.TaskGroup() as group:
        for _ in range(FLOODERS):
            group.create_task(send(client))
    sys.stdout.write(str(sent))


async def _steady(client: httpx.AsyncClient, to: Target, ends: float, answers: list[float]) -> None:
    mint = Mint(to)
    while (began := time.monotonic()) < ends:
        await _post(client, to, mint.body()[1])
        answers.append(time.monotonic() - began)
        await asyncio.sleep(max(0.0, 1 / RATE - (time.monotonic() - began)))


async def _post(client: httpx.AsyncClient, to: Target, body: bytes) -> None:
    headers = {SIGNATURE: sign(body, to.key), "Content-Type": "application/json"}
    answer = await client.post(f"http://127.0.0.1:{to.port}{to.path}", content=body, headers=headers)
    answer.raise_for_status()


if __name__ == "__main__":
    asyncio.run(_flood())
