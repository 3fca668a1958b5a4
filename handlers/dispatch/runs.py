"""The runs of one agent in one process: which ones an event concerns, which one goes on, and who works on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from slotwire.handlers.dispatch.careful import Care
from slotwire.handlers.long_work.journal import Journal, StoredRun, lane_key, unpack
from slotwire.handlers.long_work.steps import Candidate, Run
from slotwire.handlers.records import Record, event_id_of
from slotwire.handlers.registry import Agent
from slotwire.handlers.settle.agent_queue import QueuedRecord
from slotwire.ingest.foundation.clock import Clock
from slotwire.schemas.codec import UndecodableRecord
from slotwire.schemas.envelope import Event

BUSY_SECONDS = (0.05, 1.0)
"""The shortest and the longest pause before a run that another member holds is asked for again."""


class Runs:
    """The runs of one agent.

    An agent that uses no step, wait or approval pays for none: until it has a run, its journal is asked only once for
    each assignment of partitions.

    Attributes:
        journal: where they are stored.
        at_work: what this process works on, by the event.
        queued: the events whose runs are due, and wait for the turn of their key.
    """

    def __init__(self, agent: Agent, journal: Journal, clock: Clock) -> None:
        self.journal = journal
        self.at_work: dict[UUID, Work] = {}
        self.queued: set[UUID] = set()
        self._agent = agent
        self._clock = clock
        self._in_use: bool | None = None
        self._asking = asyncio.Lock()

    @property
    def in_use(self) -> bool:
        """Whether the agent may have runs."""
        return self._in_use is not False

    def forget(self) -> None:
        """Ask the journal again: partitions were assigned, whose runs another member may have begun."""
        self._in_use = None
        self.queued.clear()

    async def learn(self) -> None:
        """Ask the journal whether the agent has runs, unless that is known: before the first record, as a rule."""
        if self._in_use is None:
            async with self._asking:
                if self._in_use is None:
                    # Also where a run of this process has begun meanwhile.
                    self._in_use = await self.journal.in_use() or bool(self._in_use)

    async def concerning(self, record: Record) -> tuple[StoredRun, ...]:
        """Return the runs that a record may concern: those of its key, in the order of the log."""
        await self.learn()
        return await self.journal.of_key(lane_key(record)) if self._in_use else ()

    def whole(self, known: StoredRun, *, candidate: Candidate | None = None, place: int | None = None) -> Work | None:
        """Return the work on a run that was set aside; None where this process does not finish it."""
        if known.record is None or self._agent.code_of(known.version) is None:
            return None
        try:
            return Work(*unpack(known.record), known, candidate=candidate, place=place)
        except UndecodableRecord:  # of a type that came with a later version
            return None

    def begin(self, work: Work, stopping: asyncio.Event) -> None:
        """Begin to work on an event: until `end` its claim is held."""
        event_id = work.event.id
        self.queued.discard(event_id)
        self.at_work[event_id] = work
        work.begin(self._agent, self.journal, self._clock, stopping)

    def end(self, work: Work) -> None:
        """Work on an event no more."""
        self.at_work.pop(work.event.id, None)
        if work.run.claimed:
            self._in_use = True

    async def give_up(self, record: Record, reason: str) -> None:
        """Keep the journal of a record that is a dead letter, if it has one."""
        event_id = event_id_of(record)
        if event_id is None:
            return
        work = self.at_work.get(event_id)
        if self.in_use or (work is not None and work.run.claimed):  # it may be the agent's very first
            await self.journal.give_up(event_id, reason)

    def pause_until(self, time: datetime) -> float:
        """Return how long to pause, in seconds, before a run that another member holds is asked for again."""
        return min(max((time - self._clock.now()).total_seconds(), BUSY_SECONDS[0]), BUSY_SECONDS[1])


@dataclass
class Work:
    """The runs of one event, one after the other.

    Attributes:
        record: its record.
        event: the event.
        known: its run as it was stored before; None for a first one.
        queued: what the agent's queue says of it, if it comes from there.
        candidate: a later event that may end its wait.
        place: the offset up to which the partition was read when it was due; None if it is not.
        failures: the runs that counted.
        care: how its runs are noted; None in the usual case.
        taken: whether the handler's filter has taken the event.
        code: the agent whose handlers it runs.
        run: the one that runs, or ran last.
    """

    record: Record
    event: Event[Any]
    known: StoredRun | None = None
    queued: QueuedRecord | None = None
    candidate: Candidate | None = None
    place: int | None = None
    failures: int = 0
    care: Care | None = None
    taken: bool = False
    code: Agent = field(init=False)
    run: Run = field(init=False)

    @property
    def is_set_aside(self) -> bool:
        """Whether its offset has passed."""
        return self.known is not None and self.known.record is not None

    def begin(self, agent: Agent, journal: Journal, clock: Clock, stopping: asyncio.Event) -> None:
        """Begin the first run of a process: with the code that finishes the version that the run began on."""
        known = self.known
        if known is not None or self.queued is not None:
            attempts = (0 if known is None else known.attempts, 0 if self.queued is None else self.queued.attempts)
            self.failures = max(attempts)
        self.code = agent if known is None else agent.code_of(known.version) or agent
        self.run = Run(
            journal,
            self.record,
            self.event,
            agent.name,
            self.code.version,
            clock,
            stopping,
            None if known is None else agent.migration_of(known.version),
            known,
            self.candidate,
            self.place,
        )

    def again(self) -> None:
        """Begin the next run, after one that failed."""
        self.run = self.run.again(self.failures)
