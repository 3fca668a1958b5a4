"""Tests an agent without Kafka: the dispatch is the real one, and everything around it is in memory.

    async def test_a_cancellation_frees_the_slot() -> None:
        trial = Trial(agent)
        await trial.deliver(event_of(InviteeCanceled(uri=..., booking=...)))
        assert trial.results[-1].status is RecordStatus.DONE

Pauses between attempts take no time. A handler that opens `ctx.transaction()` needs `Trial(agent, connection=…)`: an
asyncpg connection to a test database, or an object with the methods that the handler calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from slotwire.handlers.dead_letters import GiveUpReason
from slotwire.handlers.dispatch import Dispatcher
from slotwire.handlers.handle import Handling, PauseRefused, RecordResult, RecordStatus
from slotwire.handlers.inbox import AlreadyDone
from slotwire.handlers.problems import Problems
from slotwire.handlers.records import Partition, Record
from slotwire.handlers.registry import Agent
from slotwire.ingest.foundation.clock import Clock, SystemClock
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.schemas.codec import Attributes, encode_data, encode_headers
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import EventData

__all__ = ["DeadLetter", "RecordResult", "RecordStatus", "Trial", "event_of", "record_of"]

MAX_PAUSES = 1_000
"""An agent that pauses more often waits for something that never comes, so the trial fails."""
_PLACE = Partition("trial", 0)

D = TypeVar("D", bound=EventData)


@dataclass(frozen=True)
class DeadLetter:
    """A record that the agent gave up, and why."""

    record: Record
    why: GiveUpReason


def event_of(
    data: D, *, key: str = "", event_id: UUID | None = None, time: datetime | None = None, sequence: int = 1
) -> Event[D]:
    """Make an event with this data.

    Args:
        data: an instance of a class of `slotwire.schemas.events`.
        key: events of one key are handled in order. Default: the data's `uri`.
        event_id: default: derived from type, `uri` and sequence, so that equal arguments give the same event.
        time: when it happened. Default: the start of 2026.
        sequence: its position in the log.
    """
    subject = str(getattr(data, "uri", ""))
    return Event(
        id=event_id or uuid5(NAMESPACE_URL, f"{data.type}\n{subject}\n{sequence}"),
        type=data.type,
        source="/organizations/TRIAL",
        subject=subject,
        time=time or datetime(2026, 1, 1, tzinfo=UTC),
        key=key or subject,
        sequence=sequence,
        data=data,
    )


def record_of(event: Event[Any], *, offset: int = 0, partition: Partition = _PLACE) -> Record:
    """Encode an event as the record that the relay would publish."""
    context = Attributes(
        id=event.id,
        type=event.type,
        organization=event.organization,
        subject=event.subject,
        time=event.time,
        key=event.key,
        sequence=event.sequence,
        recorded_time=event.recorded_time,
        traceparent=event.traceparent,
        inferred=event.inferred,
        replay=event.replay,
        tenant=event.tenant,
        dataref=event.dataref,
    )
    value = None if event.dataref else encode_data(event.data)
    headers = tuple(encode_headers(context))
    return Record(partition, offset, event.key.encode(), value, headers, event.time)


class Trial:
    """An agent with an inbox, dead letters and a partition in memory.

    Attributes:
        results: the result of each record, in the order in which their handling ended.
        dead_letters: the records that the agent gave up.
        pauses: the pauses between attempts, in seconds, that a running agent would have made.
    """

    def __init__(self, agent: Agent, *, connection: Any = None, clock: Clock | None = None) -> None:
        self.results: list[RecordResult] = []
        self.dead_letters: list[DeadLetter] = []
        self.pauses: list[float] = []
        self._inbox = MemoryInbox(connection)
        self._agent = agent
        self._offset = 0
        self._handling = Handling(
            agent,
            inbox=self._inbox,
            dead_letters=self,
            problems=Problems(agent.name, get_logger("trial")),
            clock=clock or SystemClock(),
            pause=self._pause,
            log_messages=True,
        )

    @property
    def halted(self) -> bool:
        """Whether the limit of dead letters stopped the agent."""
        return self._handling.halted.is_set()

    @property
    def done(self) -> frozenset[UUID]:
        """The identifiers of the events that the inbox has as done."""
        return frozenset(self._inbox.settled)

    async def deliver(self, *events: Event[Any]) -> tuple[RecordResult, ...]:
        """Deliver events in this order and wait until all are handled.

        Returns:
            Their results, in the order in which their handling ended.
        """
        records: list[Record] = []
        for event in events:
            records.append(record_of(event, offset=self._offset))
            self._offset += 1
        return await self.deliver_records(*records)

    async def deliver_records(self, *records: Record) -> tuple[RecordResult, ...]:
        """Deliver records as they are, well-formed or not; see `deliver`."""
        before = len(self.results)
        async with asyncio.TaskGroup() as lanes:
            dispatcher = Dispatcher(
                self._handle, agent=self._agent.name, max_in_flight=len(records) or 1, spawn=lanes.create_task
            )
            dispatcher.open([_PLACE])
            dispatcher.deliver(_PLACE, records, position=len(records))
        return tuple(self.results[before:])

    async def put(self, record: Record, why: GiveUpReason) -> None:
        """Store a dead letter. Called by the runtime, not by tests."""
        self.dead_letters.append(DeadLetter(record, why))

    async def _handle(self, record: Record, stopping: asyncio.Event) -> RecordResult:
        result = await self._handling.handle(record, stopping)
        self.results.append(result)
        return result

    async def _pause(self, stopping: asyncio.Event, seconds: float) -> bool:
        if len(self.pauses) >= MAX_PAUSES:
            raise PauseRefused(f"the agent paused {MAX_PAUSES} times: is it waiting for a database that is away?")
        self.pauses.append(seconds)
        await asyncio.sleep(0)
        return stopping.is_set()


class MemoryInbox:
    """The inbox of a trial, in memory.

    Attributes:
        settled: the identifiers of settled events.
        data: the data of events whose records were published without it, by identifier.
    """

    def __init__(self, connection: Any = None) -> None:
        self.settled: set[UUID] = set()
        self.data: dict[UUID, bytes] = {}
        self._connection = connection
        self._locks: dict[UUID, asyncio.Lock] = {}

    async def seen(self, event_id: UUID) -> bool:
        """Say whether the event was settled."""
        return event_id in self.settled

    async def mark(self, event_id: UUID) -> None:
        """Mark the event as settled; marking it twice is no error."""
        self.settled.add(event_id)

    async def data_of(self, event_id: UUID) -> bytes | None:
        """Return the data of an event whose record was published without it."""
        return self.data.get(event_id)

    @asynccontextmanager
    async def transaction(self, event_id: UUID) -> AsyncGenerator[Any, None]:
        """Stand in for a transaction: a second run of the event waits, then skips. An exception undoes the mark."""
        if self._connection is None:
            raise RuntimeError("this handler opens a transaction: pass connection= to Trial")
        async with self._locks.setdefault(event_id, asyncio.Lock()):
            if event_id in self.settled:
                raise AlreadyDone
            yield self._connection
            self.settled.add(event_id)
