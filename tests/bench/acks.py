"""Durable acknowledgements: Slotwire beside its contenders, in interleaved rounds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

from slotwire.ingest.local.supervisor import Process
from tests.bench.deliveries import Target
from tests.bench.load import Measured
from tests.bench.stage import BenchError, Stage, started

Name = Literal["slotwire", "bare", "grouped", "naive"]
NAMES: tuple[Name, ...] = ("slotwire", "bare", "grouped", "naive")
CONNECTIONS = (1, 64)
POOL_SIZES = (4, 8, 16, 32)
WARM_UP_SECONDS = 0.3
HEADROOM = 1.6
"""Requests are made beforehand for so much more than the last rate."""
FIRST_GUESS = {"slotwire": 5_000, "bare": 9_000, "grouped": 8_000, "naive": 1_500}
"""Requests a second, to know how many to make for the first round."""


@dataclass(frozen=True, slots=True)
class Round:
    """One contender's turn at one number of connections.

    Attributes:
        measured: what the client saw.
        cpu: microseconds of CPU a request: `server`, `postgres`, `kafka`.
    """

    measured: Measured
    cpu: dict[str, float]


@dataclass(slots=True)
class Acks:
    """All rounds.

    Attributes:
        rounds: by contender and connections, in order.
        pool: the naive service's best pool size.
        pools: its rate at 64 connections by pool size.
        acknowledged: deliveries Slotwire answered 2xx, warm-ups included.
        accepted: rows in its `deliveries` afterwards; as many.
    """

    rounds: dict[tuple[Name, int], list[Round]] = field(default_factory=dict)
    pool: int = 0
    pools: dict[int, float] = field(default_factory=dict)
    acknowledged: int = 0
    accepted: int = 0

    def rates(self, name: Name, connections: int) -> list[float]:
        """Return a contender's rates, a round each."""
        return [each.measured.rate for each in self.rounds[name, connections]]

    def ratios(self, other: Name, connections: int) -> list[float]:
        """Return Slotwire's rate over another's, of the same round each."""
        pairs = zip(self.rates("slotwire", connections), self.rates(other, connections), strict=True)
        return [ours / theirs for ours, theirs in pairs]


@dataclass(frozen=True, slots=True)
class Contender:
    """A contender that runs."""

    name: Name
    process: Process
    target: Target


async def measure_acks(stage: Stage, *, rounds: int, seconds: float, say: Callable[[str], None]) -> Acks:
    """Sweep the naive service's pool, then measure all contenders in turn, round by round.

    Raises:
        BenchError: something was not acknowledged, or rows are missing.
    """
    acks = Acks()
    before = await stage.count("slotwire.deliveries")
    for size in POOL_SIZES:
        acks.pools[size] = await _sweep(stage, size, seconds / 2)
        say(f"naive service, pool of {size}: {acks.pools[size]:,.0f}/s at 64 connections")
    acks.pool = max(acks.pools, key=lambda size: acks.pools[size])
    async with AsyncExitStack() as running:
        contenders = await _start(stage, acks.pool, running)
        for number in range(rounds):
            for connections in CONNECTIONS:
                # Each goes first in turn, so that none always follows the same neighbour.
                first = number % len(contenders)
                for contender in (*contenders[first:], *contenders[:first]):
                    await _turn(stage, contender, connections, seconds, acks)
            say(f"round {number + 1} of {rounds}: " + _line(acks))
    acks.accepted = await stage.count("slotwire.deliveries") - before
    if acks.accepted != acks.acknowledged:
        raise BenchError(f"{acks.acknowledged} deliveries were acknowledged, {acks.accepted} are stored")
    return acks


async def _sweep(stage: Stage, size: int, seconds: float) -> float:
    process, target = stage.contender("naive", pool=size)
    async with started(process):
        prepared = int(FIRST_GUESS["naive"] * HEADROOM * (seconds + WARM_UP_SECONDS))
        measured = await stage.loader.perform(
            target, max(CONNECTIONS), seconds=seconds, warm_up_seconds=WARM_UP_SECONDS, prepared=prepared
        )
    return measured.rate


async def _start(stage: Stage, pool: int, running: AsyncExitStack) -> list[Contender]:
    contenders = [Contender("slotwire", stage.ours("serve", "serve"), stage.target)]
    contenders += [Contender(name, *stage.contender(name, pool=pool)) for name in NAMES if name != "slotwire"]
    await running.enter_async_context(started(*[each.process for each in contenders]))
    return contenders


async def _turn(stage: Stage, contender: Contender, connections: int, seconds: float, acks: Acks) -> None:
    past = acks.rounds.setdefault((contender.name, connections), [])
    rate = max((each.measured.rate for each in past), default=FIRST_GUESS[contender.name])
    turn = await take_turn(
        stage,
        contender.process,
        contender.target,
        connections,
        seconds=seconds,
        warm_up_seconds=WARM_UP_SECONDS,
        prepared=int(rate * HEADROOM * (seconds + WARM_UP_SECONDS)),
    )
    past.append(turn)
    if contender.name == "slotwire":
        acks.acknowledged += turn.measured.acknowledged


async def take_turn(
    stage: Stage,
    process: Process,
    target: Target,
    connections: int,
    *,
    seconds: float,
    warm_up_seconds: float,
    prepared: int,
) -> Round:
    """Load one server for a while, and see what it used meanwhile."""
    before = stage.cpu({"server": process})
    measured = await stage.loader.perform(
        target, connections, seconds=seconds, warm_up_seconds=warm_up_seconds, prepared=prepared
    )
    after = stage.cpu({"server": process})
    return Round(measured, {name: (after[name] - before[name]) / measured.acknowledged * 1e6 for name in after})


def _line(acks: Acks) -> str:
    return ", ".join(f"{name} {acks.rates(name, max(CONNECTIONS))[-1]:,.0f}/s" for name in NAMES) + " at 64"
