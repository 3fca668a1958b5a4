"""Handles one record: decode it, skip it if it is settled, run its handler, try again, or give up.

Only failures of the handler count as attempts. A run that fails because Postgres or Kafka is away, a migration is
missing or the process stops does not.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from time import monotonic
from typing import Any, Protocol, TypeVar
from uuid import UUID

from slotwire.handlers.agent_queue import QueuedRecord
from slotwire.handlers.attempt import (
    FailedRun,
    RunResult,
    SuccessfulRun,
    TimeLimit,
    UncountedRun,
    not_taken,
    run_once,
    trace_of,
)
from slotwire.handlers.calendly import Calls
from slotwire.handlers.chains import Chains
from slotwire.handlers.context import Context
from slotwire.handlers.dead_letters import DeadLetters, GiveUpReason
from slotwire.handlers.inbox import Inbox
from slotwire.handlers.policy import GiveUpCounter, RetryPolicy
from slotwire.handlers.problems import Problems
from slotwire.handlers.records import Record
from slotwire.handlers.registry import Agent
from slotwire.handlers.slots import RunSlots
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import (
    BrokerUnavailable,
    ConfigurationError,
    ControlUnavailable,
    DatabaseUnavailable,
    RecordRefused,
    SchemaMismatch,
    SlotwireError,
)
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.telemetry import DEAD_LETTERS, HANDLED, POST_TO_HANDLER_SECONDS, get_logger
from slotwire.schemas.codec import UndecodableRecord, decode
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import BY_TYPE

OUTAGE_RETRY = RetryPolicy(first_seconds=0.2, longest_seconds=5.0)
"""How often a server that is away is asked again. Its `attempts` do not apply: a server is asked without end."""
_NOT_THE_EVENT = (DatabaseUnavailable, SchemaMismatch, ConfigurationError, BrokerUnavailable, RecordRefused)

T = TypeVar("T")
Pause = Callable[[asyncio.Event, float], Awaitable[bool]]
"""Waits for so many seconds, or until the event is set; returns whether it is set."""


class RecordStatus(Enum):
    """What became of a record that was handled. All but the last are settled: their offsets may be committed."""

    DONE = "done"
    """Its handler has had its effect."""
    FILTERED = "filtered"
    """The handler's filter does not take it."""
    SKIPPED = "skipped"
    """The agent does not handle its type, or had settled the event before."""
    DEAD_LETTERED = "dead_lettered"
    """It was given up and written to the dead letters."""
    POSTPONED = "postponed"
    """It waits in the agent's queue, because its next attempt, or that of one before it in its lane, is far off."""
    HANDED_BACK = "handed_back"
    """It is not settled, because the process, the agent or the partition stopped. It will be delivered again."""


@dataclass(frozen=True)
class RecordResult:
    """The result of handling one record.

    Attributes:
        status: what became of it.
        attempts: the runs of its handler that counted.
        reason: why it was given up, else empty.
        pause: of a postponed one: the seconds until its next attempt.
    """

    status: RecordStatus
    attempts: int = 0
    reason: str = ""
    pause: float = 0.0


class RunReport(Protocol):
    """Shows an author what an agent does."""

    def failed(self, context: Context, run: FailedRun) -> None:
        """Show why a run failed, in place of the log."""
        ...

    def settled(self, record: Record, result: RecordResult, seconds: float) -> None:
        """Show what became of a record, and how long it took."""
        ...


class PauseRefused(RuntimeError):
    """Whoever pauses for us does not pause any more: a trial whose agent waits for what never comes."""


class Interrupted(Exception):
    """A pause ended early because the work was asked to stop."""


class Handling:
    """Handles the records of one agent.

    Args:
        postpone_after: after a failed run whose pause is longer, in seconds, a record is postponed.

    Attributes:
        halted: set when the limit of dead letters is reached. From then on every record is handed back.
    """

    def __init__(  # noqa: PLR0913 - all that a run may touch
        self,
        agent: Agent,
        *,
        inbox: Inbox,
        dead_letters: DeadLetters,
        chains: Chains,
        calls: Calls,
        problems: Problems,
        clock: Clock,
        postpone_after: float = math.inf,
        limit: TimeLimit = asyncio.timeout,
        show: RunReport | None = None,
        pause: Pause = wait_for,
        log_messages: bool = False,
    ) -> None:
        self.halted = asyncio.Event()
        self._agent = agent
        self._inbox = inbox
        self._dead_letters = dead_letters
        self._postpone_after = postpone_after
        self._chains = chains
        self._calls = calls
        self._limit = limit
        self._show = show
        self._slots = RunSlots(agent)
        self._problems = problems
        self._clock = clock
        self._pause = pause
        self._log_messages = log_messages
        self._giving_up = GiveUpCounter(agent.limit)
        self._log = get_logger("handlers").bind(
            agent=agent.name, **({"version": agent.version} if agent.version else {})
        )

    async def handle(
        self, record: Record, stopping: asyncio.Event, *, queued: QueuedRecord | None = None
    ) -> RecordResult:
        """Handle one record, and try its handler again until it is settled, postponed or handed back.

        Args:
            record: the record.
            stopping: set when no further run may begin: pauses end, and the record is handed back.
            queued: what the agent's queue says of it, if it comes from there.
        """
        if self.halted.is_set() or stopping.is_set():
            return RecordResult(RecordStatus.HANDED_BACK)
        began = monotonic()
        try:
            result = await self._handled(record, stopping, queued)
        except Interrupted:
            return RecordResult(RecordStatus.HANDED_BACK)
        kind = record.type
        if self._show is not None and (kind is None or kind in self._agent.handlers):
            self._show.settled(record, result, monotonic() - began)
        if result.status not in {RecordStatus.HANDED_BACK, RecordStatus.POSTPONED}:
            HANDLED.labels(self._agent.name, kind if kind in BY_TYPE else "unknown", result.status.value).inc()
        if result.status is RecordStatus.DONE:
            self._giving_up.succeeded()
        return result

    async def _handled(self, record: Record, stopping: asyncio.Event, queued: QueuedRecord | None) -> RecordResult:
        """Handle a record; one on which our own code fails is given up, so that it ends neither agent nor partition."""
        try:
            return await self._handle(record, stopping, queued)
        except (Interrupted, PauseRefused):
            raise
        except Exception as defect:  # noqa: BLE001 - whatever is in a record, it costs that record only
            self._log.error("record_not_handled", reason=type(defect).__name__, trace=trace_of(defect))
            why = GiveUpReason(f"defect: raised {type(defect).__name__}", attempts=0, trace=trace_of(defect))
            return await self._give_up(record, why, stopping, queued)

    async def _handle(self, record: Record, stopping: asyncio.Event, queued: QueuedRecord | None) -> RecordResult:
        kind = record.type
        if kind is not None and kind not in self._agent.handlers:
            return RecordResult(RecordStatus.SKIPPED)
        try:
            event = await self._read(record, stopping)
        except UndecodableRecord as error:
            return await self._give_up(record, GiveUpReason(f"{error.reason}: {error}", attempts=0), stopping, queued)
        if not_taken(self._agent, event):
            return RecordResult(RecordStatus.FILTERED)
        if await self.until_answered("postgres", lambda: self._inbox.seen(event.id), stopping):
            return RecordResult(RecordStatus.SKIPPED)
        return await self._run_until_settled(record, event, stopping, queued)

    async def _read(self, record: Record, stopping: asyncio.Event) -> Event[Any]:
        try:
            return decode(record.headers, record.value)
        except UndecodableRecord as error:
            if error.reason != "data_elsewhere":
                raise
        # Decoding got as far as the data, so the identifier is there, once, and well-formed.
        event_id = UUID(next(value for name, value in record.headers if name == "ce_id" and value).decode())
        fetched = await self.until_answered("postgres", lambda: self._inbox.data_of(event_id), stopping)
        return decode(record.headers, record.value, elsewhere=fetched)

    async def _run_until_settled(
        self, record: Record, event: Event[Any], stopping: asyncio.Event, queued: QueuedRecord | None
    ) -> RecordResult:
        if queued is None:
            self._observe(event)
        failures, outages = 0 if queued is None else queued.attempts, 0
        while True:
            context = self._context(record, event, failures + 1, queued)
            match run := await self._run_in_turn(context, stopping):
                case SuccessfulRun(by_another=True) | SuccessfulRun(filtered=True):
                    return RecordResult(RecordStatus.FILTERED if run.filtered else RecordStatus.SKIPPED, failures)
                case SuccessfulRun(marked=marked):
                    if not marked:
                        await self.until_answered("postgres", lambda: self._inbox.mark(event.id), stopping)
                    return RecordResult(RecordStatus.DONE, failures + 1)
                case UncountedRun(problem):
                    self._problems.begin(_server_of(problem), problem)
                    outages += 1
                    await self._wait(OUTAGE_RETRY.pause(outages, _drawn()), stopping)
                case GiveUpReason() as why:
                    return await self._give_up(record, why, stopping, queued)
                case FailedRun():
                    failures += 1
                    result = await self._failed(record, context, run, stopping, queued)
                    if result is not None:
                        return result

    def _observe(self, event: Event[Any]) -> None:
        """Observe how long a webhook's event was on its way here."""
        if event.origin == "webhook" and event.replay is None and event.recorded_time is not None:
            waited = (self._clock.now() - event.recorded_time).total_seconds()
            POST_TO_HANDLER_SECONDS.labels(self._agent.name).observe(max(0.0, waited))

    async def _failed(
        self, record: Record, context: Context, run: FailedRun, stopping: asyncio.Event, queued: QueuedRecord | None
    ) -> RecordResult | None:
        """Give a record up after a failed run, or postpone it, or wait for its next run: then there is no result."""
        self._tell(context, run)
        if context.attempt >= self._agent.retry.attempts:
            return await self._give_up(record, GiveUpReason(run.reason, context.attempt, run.trace), stopping, queued)
        pause = self._agent.retry.pause(context.attempt, _drawn()) if run.pause is None else run.pause
        if pause > self._postpone_after:
            return RecordResult(RecordStatus.POSTPONED, context.attempt, pause=pause)
        await self._wait(pause, stopping)
        return None

    async def _run_in_turn(self, context: Context, stopping: asyncio.Event) -> RunResult:
        """Run the handler once, as soon as the agent's limits on runs at once let it."""
        async with self._slots.taken(context.organization):
            if stopping.is_set():
                raise Interrupted
            run = await run_once(self._agent, context, self._limit)
        if not isinstance(run, UncountedRun):
            self._problems.end("control")
        return run

    def _tell(self, context: Context, run: FailedRun) -> None:
        HANDLED.labels(self._agent.name, context.event.type, "retried").inc()
        if self._show is not None:
            self._show.failed(context, run)
            return
        said = {"message": run.message} if self._log_messages and run.message else {}
        attempt = context.attempt
        context.log.warning("handler_failed", reason=run.reason, trace=run.trace, attempt=attempt, **said)

    async def _give_up(
        self, record: Record, why: GiveUpReason, stopping: asyncio.Event, queued: QueuedRecord | None
    ) -> RecordResult:
        if self.halted.is_set():
            return RecordResult(RecordStatus.HANDED_BACK)
        redriven = queued is not None and queued.letter is not None  # drains no topic, however often it fails
        if not redriven and not self._giving_up.may_give_up():
            limit = self._agent.limit
            self._problems.begin(
                "limit",
                f"agent {self._agent.name} has stopped: it gave up {limit.run} events in a row, or"
                f" {limit.share:.0%} of the last {limit.window}. Nothing is lost: fix the handler, then restart it.",
            )
            self.halted.set()
            return RecordResult(RecordStatus.HANDED_BACK)
        await self.until_answered("dead_letters", lambda: _put(self._dead_letters, record, why), stopping)
        DEAD_LETTERS.labels(self._agent.name, record.partition.topic).inc()
        self._log.error(
            "dead_letter",
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            reason=why.reason,
            attempts=why.attempts,
        )
        return RecordResult(RecordStatus.DEAD_LETTERED, why.attempts, why.reason)

    async def until_answered(self, problem: str, ask: Callable[[], Awaitable[T]], stopping: asyncio.Event) -> T:
        """Call a server until it answers, or until the work is asked to stop."""
        outages = 0
        while True:
            try:
                answer = await ask()
            except _NOT_THE_EVENT as error:
                self._problems.begin(problem, error)
                outages += 1
                await self._wait(OUTAGE_RETRY.pause(outages, _drawn()), stopping)
            else:
                self._problems.end(problem)
                return answer

    async def _wait(self, seconds: float, stopping: asyncio.Event) -> None:
        if await self._pause(stopping, seconds):
            raise Interrupted

    def _context(self, record: Record, event: Event[Any], attempt: int, queued: QueuedRecord | None) -> Context:
        return Context(
            event=event,
            agent=self._agent.name,
            attempt=attempt,
            idempotency_key=f"{self._agent.name}:{event.id}",
            published_at=record.published_at,
            started_at=self._clock.now(),
            log=self._log.bind(event_id=str(event.id), type=event.type, organization=event.organization),
            clock=self._clock,
            inbox=self._inbox,
            chains=self._chains,
            calls=self._calls,
            redriven=queued is not None and queued.letter is not None,
            newer_position=None if queued is None else queued.newer,
            edited=queued is not None and queued.edited,
        )


def _drawn() -> float:
    return random.random()  # noqa: S311 - jitter, not a secret


async def _put(letters: DeadLetters, record: Record, why: GiveUpReason) -> None:
    """Write a dead letter; where that fails by a defect, the record waits as if a server were away."""
    try:
        await letters.put(record, why)
    except _NOT_THE_EVENT:
        raise
    except Exception as defect:
        place = f"{record.partition.topic}/{record.partition.number} at offset {record.offset}"
        raise BrokerUnavailable(
            f"the record of {place} cannot be written to the dead letters: {type(defect).__name__}",
            reason="defect",
            remedy="Report this defect. To go on without the record, set the group's offset past it.",
        ) from defect


def _server_of(problem: SlotwireError) -> str:
    return "control" if isinstance(problem, ControlUnavailable) else "postgres"
