"""Bookings and what becomes of them: slowly, to watch (`StoryJob`), or as a load (`LoadJob`).

A scenario is a sequence of steps about one booking. In a load its deliveries arrive in order, unless the receiver or a
fault delays one; with `ordered=False` they may overtake each other. All choices follow from the seed. Pace and latency
are real time, not the simulator's.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from slotwire.ingest.simulator.drafts import BookingDetails
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.engine import Engine, HalfOrder, OperationResult
from slotwire.ingest.simulator.model import Json, Message
from slotwire.ingest.simulator.outbox import DeliverySequence
from slotwire.ingest.simulator.sender import UNSENT
from slotwire.ingest.simulator.transport import AttemptResult

Plot: TypeAlias = Literal[
    "kept", "canceled", "rescheduled", "rescheduled-canceled", "no-show", "no-show-cleared", "group", "routed"
]
PLOTS: tuple[tuple[Plot, int], ...] = (
    ("kept", 45),
    ("canceled", 15),
    ("rescheduled", 15),
    ("rescheduled-canceled", 5),
    ("no-show", 8),
    ("no-show-cleared", 4),
    ("group", 4),
    ("routed", 4),
)
MAX_LOAD = 1_000_000
GROUP_SIZE = 3
TICK_SECONDS = 0.005
BACKLOG_PER_SLOT = 4
STORY_LINES = 200
BOOKINGS_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What a load sends: `count` deliveries, at `rate` per second or with `concurrency` of them in flight."""

    count: int
    seed: str = "load"
    rate: float | None = None
    concurrency: int | None = None
    order: HalfOrder = "random"
    ordered: bool = True
    organization: str | None = None
    mix: tuple[tuple[Plot, int], ...] = PLOTS
    timeout_seconds: float = 600.0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_LOAD:
            raise ValueError(f"count must be from 1 to {MAX_LOAD}")
        if self.rate is not None and self.rate <= 0:
            raise ValueError("rate must be above 0 deliveries a second")
        if not sum(weight for _, weight in self.mix) or any(weight < 0 for _, weight in self.mix):
            raise ValueError("mix needs a positive weight")


@dataclass(slots=True)
class Scenario:
    """The steps of one booking; each `next` takes one step and returns what happened, in words and as a result."""

    engine: Engine
    draws: Draws
    plot: Plot
    order: HalfOrder
    organization: str | None
    sequence: DeliverySequence | None

    def steps(self) -> Iterator[tuple[str, OperationResult]]:
        """Take the steps one by one."""
        engine, sequence = self.engine, self.sequence
        if self.plot == "routed":
            yield "sends in a routing form", engine.submit_form(self.organization, sequence=sequence)
        if self.plot == "group":
            yield from self._group()
            return
        booked = engine.book(BookingDetails(organization=self.organization), sequence)
        ident = booked.invitees[0].id
        yield "books", booked
        if self.plot in {"rescheduled", "rescheduled-canceled"}:
            moved = engine.reschedule(ident, order=self.order, sequence=sequence)
            ident = moved.invitees[1].id
            yield "moves", moved
        if self.plot in {"canceled", "rescheduled-canceled"}:
            reason = self.draws.pick(("", "Conflict", "No longer needed"))
            by: Literal["host", "invitee"] = "host" if self.draws.chance(0.3) else "invitee"
            yield f"is canceled by the {by}", engine.cancel(ident, by, reason, sequence)
        if self.plot in {"no-show", "no-show-cleared"}:
            yield "did not come", engine.mark_no_show(ident, sequence)
        if self.plot == "no-show-cleared":
            yield "came after all", engine.clear_no_show(ident, sequence)

    def _group(self) -> Iterator[tuple[str, OperationResult]]:
        world, engine = self.engine.world, self.engine
        tenant = engine.organization(self.organization)
        offer = self.draws.pick([each for each in world.offers(tenant) if each.limit > 1])
        first = engine.book(BookingDetails(organization=tenant, event_type=offer.id), self.sequence)
        yield "opens a group", first
        event = first.event.id if first.event else None
        for _ in range(GROUP_SIZE - 1):
            yield "joins the group", engine.book(BookingDetails(event=event), self.sequence)
        yield "leaves the group", engine.cancel(first.invitees[0].id, "invitee", "", self.sequence)


@dataclass(slots=True)
class LoadJob:
    """Sends a planned number of deliveries and reports their outcome."""

    engine: Engine
    plan: LoadPlan
    messages: dict[str, float] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    answers: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    begun: float = 0.0
    ended: float | None = None

    async def run(self) -> Json:
        """Send everything, wait until all is acknowledged or abandoned or the time is up, and report."""
        sender = self.engine.sender
        stop = sender.listen(self._attempt_ended)
        before = sender.limit
        if self.plan.concurrency:
            sender.limit = self.plan.concurrency
        self.begun = time.perf_counter()
        try:
            async with asyncio.timeout(self.plan.timeout_seconds):
                await self._produce()
                while self.pending:
                    await sender.progressed()
        except TimeoutError:
            pass  # the report says what is still pending
        finally:
            stop()
            sender.limit = before
            self.ended = time.perf_counter()
        return self.report()

    def report(self) -> Json:
        """Return counts and latencies (ms) so far; `total_ms` is the time from the booking to the acknowledgement."""
        seconds = (self.ended or time.perf_counter()) - self.begun
        acknowledged = len(self.totals)
        return {
            "seed": self.plan.seed,
            "messages": len(self.messages) + self.dropped,
            "acknowledged": acknowledged,
            "dropped": self.dropped,
            "pending": len(self.pending),
            "abandoned": len(self.messages) - acknowledged - len(self.pending),
            "attempts": len(self.answers),
            "failures": dict(sorted(self.failures.items())),
            "seconds": round(seconds, 3),
            "per_second": round(acknowledged / seconds, 1) if seconds else 0.0,
            "answer_ms": _percentiles(self.answers),
            "total_ms": _percentiles(self.totals),
            "finished": self.ended is not None,
        }

    async def _produce(self) -> None:
        made = 0
        for result in self._results():
            for message in result.messages:
                made += 1
                self._expect(message)
            if made >= self.plan.count:
                return
            await self._pace(made)

    def _results(self) -> Iterator[OperationResult]:
        number = 0
        while True:
            number += 1
            draws = Draws(self.plan.seed, "story", number)
            plot = draws.weighted(self.plan.mix)
            sequence = DeliverySequence() if self.plan.ordered else None
            scenario = Scenario(self.engine, draws, plot, self.plan.order, self.plan.organization, sequence)
            for _, result in scenario.steps():
                if not result.messages and number == 1:
                    raise ValueError("there is no subscription: create a webhook subscription first")
                yield result

    async def _pace(self, made: int) -> None:
        if self.plan.rate:
            ahead = made / self.plan.rate - (time.perf_counter() - self.begun)
            if ahead > 0:
                await asyncio.sleep(max(ahead, TICK_SECONDS))
            return
        backlog = self.engine.sender.limit * BACKLOG_PER_SLOT
        while len(self.pending) >= backlog:
            await self.engine.sender.progressed()

    def _expect(self, message: Message) -> None:
        if message.state == "dropped":
            self.dropped += 1
            return
        self.messages[message.id] = time.perf_counter()
        self.pending.add(message.id)

    def _attempt_ended(self, message: Message, answer: AttemptResult) -> None:
        if message.id not in self.messages:
            return
        if message.state != "pending":
            self.pending.discard(message.id)
        if answer is UNSENT:
            return
        self.answers.append(answer.seconds)
        if message.state == "acknowledged":
            self.totals.append(time.perf_counter() - self.messages[message.id])
        else:
            self.failures[str(answer.status or answer.error)] += 1


@dataclass(slots=True)
class StoryJob:
    """A slow demonstration: every `interval_seconds` one step of one of a few bookings; endless if `count` is None."""

    engine: Engine
    count: int | None = None
    interval_seconds: float = 2.0
    seed: str = "story"
    organization: str | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=STORY_LINES))
    steps: int = 0
    bookings: int = 0
    finished: bool = False

    async def run(self) -> Json:
        """Take steps until `count` bookings are finished, or for ever."""
        running: list[Iterator[tuple[str, OperationResult]]] = []
        begun = 0
        turn = 0
        while running or self.count is None or begun < self.count:
            turn += 1
            draws = Draws(self.seed, "turn", turn)
            more = self.count is None or begun < self.count
            if more and (not running or (len(running) < BOOKINGS_AT_ONCE and draws.chance(0.5))):
                begun += 1
                choices = Draws(self.seed, "tale", begun)
                running.append(
                    Scenario(
                        self.engine, choices, choices.weighted(PLOTS), "random", self.organization, DeliverySequence()
                    ).steps()
                )
            chosen = draws.pick(running)
            step = next(chosen, None)
            if step is None:
                running.remove(chosen)
                self.bookings += 1
                continue
            self.steps += 1
            self.lines.append(_line(*step))
            await asyncio.sleep(self.interval_seconds)
        self.finished = True
        return self.report()

    def report(self) -> Json:
        """Return the number of finished bookings and the last lines; `first_line` is the number of the first."""
        return {
            "bookings": self.bookings,
            "first_line": self.steps - len(self.lines) + 1,
            "lines": list(self.lines),
            "finished": self.finished,
        }


def _line(words: str, result: OperationResult) -> str:
    name = result.invitees[-1].name if result.invitees else "Somebody"
    meeting = f" · {result.event.name}" if result.event else ""
    return f"{name} {words}{meeting}"


def _percentiles(values: list[float]) -> Json:
    ranked = sorted(values)

    def at(share: float) -> float:
        return round(ranked[min(int(len(ranked) * share), len(ranked) - 1)] * 1000, 2)

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)} if ranked else {}
