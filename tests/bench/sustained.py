"""POST to Kafka, sustained: a closed loop of 64 connections on everything that a deployment runs.

What is acknowledged and what is published are counted apart: with one writer, the door can be quicker than the way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slotwire.ingest.local.supervisor import Process
from tests.bench.acks import CONNECTIONS, FIRST_GUESS, HEADROOM, WARM_UP_SECONDS
from tests.bench.stage import BenchError, Stage, started
from tests.bench.topic import count_records

PUBLISHED = """
SELECT count(*) FROM slotwire.events e JOIN slotwire.relay_mirror m ON m.shard = e.shard
WHERE e.position > {} AND e.position <= m.position
"""
"""The relay writes its mirror once Kafka has committed; at the end the records themselves are counted."""
LAST = "(SELECT position FROM slotwire.events WHERE shard = 0 ORDER BY position DESC LIMIT 1)"
PUBLISHED_WHEN_THROUGH = f"""
SELECT CASE WHEN (SELECT position FROM slotwire.relay_mirror) >= {LAST} THEN ({PUBLISHED}) END
"""
"""As above, but nothing while the relay is behind: counting all the time would weigh in what Postgres costs."""
CAUGHT_UP_SECONDS = 120.0
NAIVE_POOL = 16
"""Connections of the naive service: the size that nearly every sweep finds the best."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One contender under a closed loop.

    Attributes:
        acks: acknowledged deliveries a second.
        published: deliveries a second that were in Kafka when the loop ended.
        through: acknowledged deliveries over the time until the last of them was in Kafka, a second.
        lag: acknowledged and not in Kafka, at half of the time and at its end.
        cpu: microseconds a delivery, until all were in Kafka.
    """

    acks: float
    published: float
    through: float
    lag: tuple[int, int]
    cpu: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sustained:
    """Slotwire's flow, and the naive service's just before and just after it."""

    slotwire: Flow
    naive: tuple[float, float]

    @property
    def ratio(self) -> float:
        """Slotwire's deliveries a second in Kafka over the naive service's, which are there when it answers."""
        return self.slotwire.published / (sum(self.naive) / 2)


async def measure_sustained(stage: Stage, *, seconds: float, say: Callable[[str], None]) -> Sustained:
    """Load the naive service, then everything of ours, then the naive service again.

    Raises:
        BenchError: something was not acknowledged, or did not reach Kafka.
    """
    before = await _naive(stage, seconds / 3)
    servers = stage.chain()
    async with started(*servers.values()):
        await flow(stage, servers, seconds=seconds / 10, guess=FIRST_GUESS["slotwire"])  # it does not count
        ours = await flow(stage, servers, seconds=seconds, guess=FIRST_GUESS["slotwire"])
    say(f"sustained: {ours.acks:,.0f} acks/s, {ours.published:,.0f}/s to Kafka, lag {ours.lag[0]:,}, {ours.lag[1]:,}")
    events = await stage.count("slotwire.events")
    found = await count_records(stage.settings.kafka, events)
    if found != events:
        raise BenchError(f"the log has {events} events, Kafka {found}")
    return Sustained(ours, (before, await _naive(stage, seconds / 3)))


async def flow(stage: Stage, servers: Mapping[str, Process], *, seconds: float, guess: float) -> Flow:
    """Load a running Slotwire, and wait until everything is in Kafka.

    Args:
        stage: what they run on.
        servers: that run, by the names that their CPU is told under.
        seconds: of the closed loop, with its warm-up.
        guess: deliveries a second, to know how many to prepare.

    Raises:
        BenchError: something was not acknowledged, or did not reach Kafka.
    """
    last = await stage.ask(LAST)
    published_since = PUBLISHED.format(last)
    used = stage.cpu(servers)
    load = asyncio.create_task(
        stage.loader.perform(
            stage.target,
            max(CONNECTIONS),
            seconds=seconds - WARM_UP_SECONDS,
            warm_up_seconds=WARM_UP_SECONDS,
            prepared=int(guess * HEADROOM * seconds),
        )
    )
    await stage.until(published_since, 1, seconds=seconds + CAUGHT_UP_SECONDS)
    await asyncio.wait([load], timeout=seconds / 2)
    halfway, published_by_then = time.monotonic(), await stage.ask(published_since)
    measured = await load
    published, elapsed = await stage.ask(published_since), time.monotonic() - measured.began
    await stage.until(PUBLISHED_WHEN_THROUGH.format(last), measured.acknowledged, seconds=CAUGHT_UP_SECONDS)
    through = time.monotonic() - measured.began
    spent = stage.cpu(servers)
    return Flow(
        acks=measured.rate,
        published=published / elapsed,
        through=measured.acknowledged / through,
        lag=(measured.by(halfway) - published_by_then, measured.acknowledged - published),
        cpu={name: (spent[name] - used[name]) / measured.acknowledged * 1e6 for name in spent},
    )


async def _naive(stage: Stage, seconds: float) -> float:
    process, target = stage.contender("naive", pool=NAIVE_POOL)
    async with started(process):
        measured = await stage.loader.perform(
            target,
            max(CONNECTIONS),
            seconds=seconds,
            warm_up_seconds=WARM_UP_SECONDS,
            prepared=int(FIRST_GUESS["naive"] * 2 * HEADROOM * seconds),
        )
    return measured.rate
