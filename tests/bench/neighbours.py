"""One tenant's worst bodies beside another one's bookings: answers, and the way into the log.

Tenant A sends the bodies that cost most over `FLOODERS` connections, each as fast as it is answered. Tenant B sends a
booking at a steady rate, first quiet, then beside A.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle

import httpx

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

FLOODERS = 4
RATE = 20.0
"""Bookings of B a second."""
COSTLIEST = 8
"""Bodies that A sends in turn: those that cost most CPU for their bytes, and those of which the events are largest."""
EVENTS = ("invitee.canceled", "event_type.updated", "contact.updated")
TRIED_BYTES = 16_000
"""Of a body of A: enough for half of the parts that a body may have, and as costly for its bytes as a larger one."""
WAY = """
SELECT extract(epoch FROM r.settled_at - d.received_at) * 1000 FROM slotwire.results r
JOIN slotwire.deliveries d USING (shard, position) WHERE d.org = $1 AND d.received_at >= to_timestamp($2)
"""

SETTLED = """
SELECT (NOT EXISTS (SELECT FROM slotwire.deliveries d WHERE d.org = '{}' AND NOT EXISTS (
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


@dataclass(frozen=True, slots=True)
class Neighbours:
    """B's way quiet and beside A, how many bodies A had answered meanwhile, and what they cost."""

    quiet: Way
    beside: Way
    flooded: int
    costs: tuple[Cost, ...]


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


async def measure_neighbours(stage: Stage, *, seconds: float, say: Callable[[str], None]) -> Neighbours:
    """Send B's bookings quiet, then beside A's worst bodies."""
    chosen = costliest()
    hook = await make_hook(stage.settings, stage.database)
    flooder = Target(stage.target.port, hook.path, hook.key)
    serve, relay = stage.ours("serve", "serve"), stage.ours("relay", "relay")
    async with started(serve, relay):
        quiet, _ = await _beside(stage, flooder, [], seconds)
        beside, flooded = await _beside(stage, flooder, [body for _, body in chosen], seconds)
    for name, way in (("quiet", quiet), ("beside", beside)):
        say(
            f"B {name}: answers {way.answer_p50:.1f}, p99 {way.answer_p99:.1f} ms;"
            f" in the log after {way.settled_p50:.1f}, p99 {way.settled_p99:.1f} ms"
        )
    say(f"A: {flooded} of the worst bodies answered; organization {last_segment(hook.organization)}")
    return Neighbours(quiet, beside, flooded, tuple(cost for cost, _ in chosen))


async def _beside(stage: Stage, flooder: Target, bodies: list[bytes], seconds: float) -> tuple[Way, int]:
    """Send B's bookings while A sends; return B's way and how many of A's were answered."""
    ends, answers, began = time.monotonic() + seconds, list[float](), time.time()
    sent = [0]
    async with (
        httpx.AsyncClient(timeout=60) as ours,
        httpx.AsyncClient(timeout=60) as theirs,
        asyncio.TaskGroup() as group,
    ):
        for number in range(FLOODERS if bodies else 0):
            turns = cycle([*bodies[number:], *bodies[:number]])
            group.create_task(_flood(theirs, flooder, turns, ends, sent))
        await _steady(ours, stage.target, ends, answers)
    await stage.until(SETTLED.format(stage.org), 1, seconds=120)
    rows = await stage.connection.fetch(WAY, stage.org, began)
    settled, ordered = sorted(float(row[0]) for row in rows), sorted(each * 1_000 for each in answers)
    times = [percentile(each, share) for each in (ordered, settled) for share in (0.5, 0.99)]
    return Way(len(answers), *times), sent[0]


async def _flood(client: httpx.AsyncClient, to: Target, turns: Iterator[bytes], ends: float, sent: list[int]) -> None:
    while time.monotonic() < ends:
        body = next(turns)
        await _post(client, to, body)
        sent[0] += 1


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
