"""Handles one record: decode it, skip it if it is settled, run its handler, try again, or give up.

Only failures of the handler count as attempts. A run that fails because Postgres or Kafka is away, a migration is
missing or the process stops does not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from slotwire.handlers.attempt import FailedRun, SuccessfulRun, UncountedRun, not_taken, run_once, trace_of
from slotwire.handlers.context import Context
from slotwire.handlers.dead_letters import DeadLetters, GiveUpReason
from slotwire.handlers.inbox import Inbox
from slotwire.handlers.policy import GiveUpCounter, RetryPolicy
from slotwire.handlers.problems import Problems
from slotwire.handlers.records import Record
from slotwire.handlers.registry import Agent
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import (
    BrokerUnavailable,
    ConfigurationError,
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
    HANDED_BACK = "handed_back"
    """It is not settled, because the process, the agent or the partition stopped. It will be delivered again."""


@dataclass(frozen=True)
class RecordResult:
    """The result of handling one record.

    Attributes:
        status: what became of it.
        attempts: the runs of its handler that counted.
        reason: why it was given up, else empty.
    """

    status: RecordStatus
    attempts: int = 0
    reason: str = ""


class PauseRefused(RuntimeError):
    """Whoever pauses for us does not pause any more: a trial whose agent waits for what never comes."""


class _Interrupted(Exception):
    """A pause ended early because the work was asked to stop."""


class Handling:
    """Handles the records of one agent.

    Attributes:
        halted: set when the limit of dead letters is reached. From then on every record is handed back.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        inbox: Inbox,
        dead_letters: DeadLetters,
        problems: Problems,
        clock: Clock,
        pause: Pause = wait_for,
        draw: Callable[[], float] = random.random,
        log_messages: bool = False,
    ) -> None:
        self.halted = asyncio.Event()
        self._agent = agent
        self._inbox = inbox
        self._dead_letters = dead_letters
        self._problems = problems
        self._clock = clock
        self._pause = pause
        self._draw = draw
        self._log_messages = log_messages
        self._giving_up = GiveUpCounter(agent.limit)
        self._log = get_logger("handlers").bind(agent=agent.name)

    async def handle(self, record: Record, stopping: asyncio.Event) -> RecordResult:
        """Handle one record, and try its handler again until it is settled or handed back.

        Args:
            record: the record.
            stopping: set when no further run may begin: pauses end, and the record is handed back.
        """
        if self.halted.is_set() or stopping.is_set():
            return RecordResult(RecordStatus.HANDED_BACK)
        try:
            result = await self._handled(record, stopping)
        except _Interrupted:
            return RecordResult(RecordStatus.HANDED_BACK)
        kind = record.type
        if result.status is not RecordStatus.HANDED_BACK:
            HANDLED.labels(self._agent.name, kind if kind in BY_TYPE else "unknown", result.status.value).inc()
        if result.status is RecordStatus.DONE:
            self._giving_up.succeeded()
        return result

    async def _handled(self, record: Record, stopping: asyncio.Event) -> RecordResult:
        """Handle a record; one on which our own code fails is given up, so that it ends neither agent nor partition."""
        try:
            return await self._handle(record, stopping)
        except (_Interrupted, PauseRefused):
            raise
        except Exception as defect:  # noqa: BLE001 - whatever is in a record, it costs that record only
            self._log.error("record_not_handled", reason=type(defect).__name__, trace=trace_of(defect))
            why = GiveUpReason(f"defect: raised {type(defect).__name__}", attempts=0, trace=trace_of(defect))
            return await self._give_up(record, why, stopping)

    async def _handle(self, record: Record, stopping: asyncio.Event) -> RecordResult:
        kind = record.type
        if kind is not None and kind not in self._agent.handlers:
            return RecordResult(RecordStatus.SKIPPED)
        try:
            event = await self._read(record, stopping)
        except UndecodableRecord as error:
            return await self._give_up(record, GiveUpReason(f"{error.reason}: {error}", attempts=0), stopping)
        if not_taken(self._agent, event):
            return RecordResult(RecordStatus.FILTERED)
        if await self._until_answered("postgres", lambda: self._inbox.seen(event.id), stopping):
            return RecordResult(RecordStatus.SKIPPED)
        return await self._run_until_settled(record, event, stopping)

    async def _read(self, record: Record, stopping: asyncio.Event) -> Event[Any]:
        try:
            return decode(record.headers, record.value)
        except UndecodableRecord as error:
            if error.reason != "data_elsewhere":
                raise
        # Decoding got as far as the data, so the identifier is there, once, and well-formed.
        event_id = UUID(next(value for name, value in record.headers if name == "ce_id" and value).decode())
        fetched = await self._until_answered("postgres", lambda: self._inbox.data_of(event_id), stopping)
        return decode(record.headers, record.value, elsewhere=fetched)

    async def _run_until_settled(self, record: Record, event: Event[Any], stopping: asyncio.Event) -> RecordResult:
        if event.origin == "webhook" and event.replay is None and event.recorded_time is not None:
            waited = (self._clock.now() - event.recorded_time).total_seconds()
            POST_TO_HANDLER_SECONDS.labels(self._agent.name).observe(max(0.0, waited))
        policy = self._agent.retry
        failures = outages = 0
        pause = 0.0
        while True:
            context = self._context(record, event, failures + 1)
            match await run_once(self._agent, context):
                case SuccessfulRun(by_another=True) | SuccessfulRun(filtered=True) as run:
                    return RecordResult(RecordStatus.FILTERED if run.filtered else RecordStatus.SKIPPED, failures)
                case SuccessfulRun(marked=marked):
                    if not marked:
                        await self._until_answered("postgres", lambda: self._inbox.mark(event.id), stopping)
                    return RecordResult(RecordStatus.DONE, failures + 1)
                case UncountedRun(problem):
                    self._problems.begin("postgres", problem)
                    outages += 1
                    pause = OUTAGE_RETRY.pause(outages, self._draw())
                case GiveUpReason() as why:
                    return await self._give_up(record, why, stopping)
                case FailedRun(reason, trace, asked, message):
                    failures += 1
                    HANDLED.labels(self._agent.name, event.type, "retried").inc()
                    said = {"message": message} if self._log_messages and message else {}
                    context.log.warning("handler_failed", reason=reason, trace=trace, attempt=failures, **said)
                    if failures >= policy.attempts:
                        return await self._give_up(record, GiveUpReason(reason, failures, trace), stopping)
                    pause = policy.pause(failures, self._draw()) if asked is None else asked
            await self._wait(pause, stopping)

    async def _give_up(self, record: Record, why: GiveUpReason, stopping: asyncio.Event) -> RecordResult:
        if self.halted.is_set():
            return RecordResult(RecordStatus.HANDED_BACK)
        if not self._giving_up.may_give_up():
            limit = self._agent.limit
            self._problems.begin(
                "limit",
                f"agent {self._agent.name} has stopped: it gave up {limit.run} events in a row, or"
                f" {limit.share:.0%} of the last {limit.window}. Nothing is lost: fix the handler, then restart it.",
            )
            self.halted.set()
            return RecordResult(RecordStatus.HANDED_BACK)
        await self._until_answered("dead_letters", lambda: self._put(record, why), stopping)
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

    async def _put(self, record: Record, why: GiveUpReason) -> None:
        """Write a dead letter; where that fails by a defect, the record waits as if the broker were away."""
        try:
            await self._dead_letters.put(record, why)
        except SlotwireError:
            raise
        except Exception as defect:
            place = f"{record.partition.topic}/{record.partition.number} at offset {record.offset}"
            raise BrokerUnavailable(
                f"the record of {place} cannot be written to the dead letters: {type(defect).__name__}",
                reason="defect",
                remedy="Report this defect. To go on without the record, set the group's offset past it.",
            ) from defect

    async def _until_answered(self, problem: str, ask: Callable[[], Awaitable[T]], stopping: asyncio.Event) -> T:
        """Call a server until it answers, or until the work is asked to stop."""
        outages = 0
        while True:
            try:
                answer = await ask()
            except _NOT_THE_EVENT as error:
                self._problems.begin(problem, error)
                outages += 1
                await self._wait(OUTAGE_RETRY.pause(outages, self._draw()), stopping)
            else:
                self._problems.end(problem)
                return answer

    async def _wait(self, seconds: float, stopping: asyncio.Event) -> None:
        if await self._pause(stopping, seconds):
            raise _Interrupted

    def _context(self, record: Record, event: Event[Any], attempt: int) -> Context:
        return Context(
            event=event,
            agent=self._agent.name,
            attempt=attempt,
            idempotency_key=f"{self._agent.name}:{event.id}",
            published_at=record.published_at,
            started_at=self._clock.now(),
            log=self._log.bind(event_id=str(event.id), type=event.type, organization=event.organization),
            inbox=self._inbox,
        )
