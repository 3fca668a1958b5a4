"""One record, from its bytes to its outcome: read, skip what is settled, run, try again, or give up.

An event is to blame for what its handler does, and for nothing else: while Postgres or Kafka is away, the
schema is not there, or the process stops, no attempt is burnt.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from slotwire.handlers.attempt import Failed, Finished, Held, run_once
from slotwire.handlers.context import Context
from slotwire.handlers.dead_letters import DeadLetters, GivenUp
from slotwire.handlers.inbox import Inbox
from slotwire.handlers.policy import GivingUp, RetryPolicy
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
)
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.telemetry import DEAD_LETTERS, HANDLED, get_logger
from slotwire.schemas.codec import UndecodableRecord, decode
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import BY_TYPE

HOLD = RetryPolicy(first_seconds=0.2, longest_seconds=5.0)
"""How often a server that is away is asked again; attempts do not count there."""
_NOT_THE_EVENT = (DatabaseUnavailable, SchemaMismatch, ConfigurationError, BrokerUnavailable, RecordRefused)

T = TypeVar("T")
Pause = Callable[[asyncio.Event, float], Awaitable[bool]]
"""Waits so many seconds, or until the event is set; returns whether it is."""


class Settled(Enum):
    """How a record ended."""

    DONE = "done"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    HANDED_BACK = "handed_back"
    """Not at all: the process or the partition stopped, or the agent did. It will be delivered again."""


@dataclass(frozen=True)
class Ended:
    """The end of one record.

    Attributes:
        how: what became of it.
        attempts: runs of the handler that counted.
        reason: why it was given up, else empty.
    """

    how: Settled
    attempts: int = 0
    reason: str = ""


class _Interrupted(Exception):
    """A pause ended because work is to stop."""


class Handling:
    """Handles the records of one agent.

    Attributes:
        halted: set when the limit of dead letters is reached: nothing more may be settled.
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
    ) -> None:
        self.halted = asyncio.Event()
        self._agent = agent
        self._inbox = inbox
        self._dead_letters = dead_letters
        self._problems = problems
        self._clock = clock
        self._pause = pause
        self._draw = draw
        self._giving_up = GivingUp(agent.limit)
        self._log = get_logger("handlers").bind(agent=agent.name)

    async def handle(self, record: Record, stopping: asyncio.Event) -> Ended:
        """Bring one record to its end.

        Args:
            record: the record.
            stopping: set when no further run may begin: pauses end, and the record is handed back.
        """
        if self.halted.is_set() or stopping.is_set():
            return Ended(Settled.HANDED_BACK)
        try:
            ended = await self._handle(record, stopping)
        except _Interrupted:
            return Ended(Settled.HANDED_BACK)
        kind = record.type
        if ended.how is not Settled.HANDED_BACK:
            HANDLED.labels(self._agent.name, kind if kind in BY_TYPE else "unknown", ended.how.value).inc()
        if ended.how is Settled.DONE:
            self._giving_up.succeeded()
        return ended

    async def _handle(self, record: Record, stopping: asyncio.Event) -> Ended:
        kind = record.type
        if kind is not None and kind not in self._agent.handlers:
            return Ended(Settled.SKIPPED)
        try:
            event = await self._read(record, stopping)
        except UndecodableRecord as error:
            return await self._give_up(record, GivenUp(f"{error.reason}: {error}", attempts=0), stopping)
        if await self._patiently("postgres", lambda: self._inbox.seen(event.id), stopping):
            return Ended(Settled.SKIPPED)
        return await self._run_until_settled(record, event, stopping)

    async def _read(self, record: Record, stopping: asyncio.Event) -> Event[Any]:
        try:
            return decode(record.headers, record.value)
        except UndecodableRecord as error:
            if error.reason != "data_elsewhere":
                raise
        # The headers were read up to the data, so the identifier is there and well-formed.
        event_id = UUID(next(value for name, value in record.headers if name == "ce_id" and value).decode())
        fetched = await self._patiently("postgres", lambda: self._inbox.data_of(event_id), stopping)
        return decode(record.headers, record.value, elsewhere=fetched)

    async def _run_until_settled(self, record: Record, event: Event[Any], stopping: asyncio.Event) -> Ended:
        policy = self._agent.retry
        failures = holds = 0
        pause = 0.0
        while True:
            context = self._context(record, event, failures + 1)
            match await run_once(self._agent, context):
                case Finished(by_another=True):
                    return Ended(Settled.SKIPPED, failures)
                case Finished(marked=marked):
                    if not marked:
                        await self._patiently("postgres", lambda: self._inbox.mark(event.id), stopping)
                    return Ended(Settled.DONE, failures + 1)
                case Held(problem):
                    self._problems.begin("postgres", problem)
                    holds += 1
                    pause = HOLD.pause(holds, self._draw())
                case GivenUp() as why:
                    return await self._give_up(record, why, stopping)
                case Failed(reason, trace, asked):
                    failures += 1
                    HANDLED.labels(self._agent.name, event.type, "retried").inc()
                    context.log.warning("handler_failed", reason=reason, trace=trace, attempt=failures)
                    if failures >= policy.attempts:
                        return await self._give_up(record, GivenUp(reason, failures, trace), stopping)
                    pause = policy.pause(failures, self._draw()) if asked is None else asked
            await self._wait(pause, stopping)

    async def _give_up(self, record: Record, why: GivenUp, stopping: asyncio.Event) -> Ended:
        if self.halted.is_set():
            return Ended(Settled.HANDED_BACK)
        if not self._giving_up.may_give_up():
            limit = self._agent.limit
            self._problems.begin(
                "limit",
                f"agent {self._agent.name} has stopped: it gave up {limit.run} events in a row, or"
                f" {limit.share:.0%} of the last {limit.window}. Nothing is lost: mend the handler, then restart it.",
            )
            self.halted.set()
            return Ended(Settled.HANDED_BACK)
        await self._patiently("dead_letters", lambda: self._dead_letters.put(record, why), stopping)
        DEAD_LETTERS.labels(self._agent.name, record.partition.topic).inc()
        self._log.error(
            "dead_letter",
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            reason=why.reason,
            attempts=why.attempts,
        )
        return Ended(Settled.REJECTED, why.attempts, why.reason)

    async def _patiently(self, problem: str, ask: Callable[[], Awaitable[T]], stopping: asyncio.Event) -> T:
        """Ask a server until it answers, or work is to stop."""
        holds = 0
        while True:
            try:
                answer = await ask()
            except _NOT_THE_EVENT as error:
                self._problems.begin(problem, error)
                holds += 1
                await self._wait(HOLD.pause(holds, self._draw()), stopping)
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
