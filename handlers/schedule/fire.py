"""Fires the scheduled work of one agent: in one of its processes at a time, which has the lease.

What is due is put into the agent's queue, with the schedule's mark in one transaction, and handled from there like any
record that waits: in order of its lane, with retries, dead letters, journals and the inbox. Safety is the inbox; the
lease is so that it is rarely needed.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic

from slotwire.handlers.consume.careful_consumer import first_of, is_set
from slotwire.handlers.dispatch.dispatcher import Dispatcher
from slotwire.handlers.dispatch.due import DueRuns
from slotwire.handlers.dispatch.queueing import Queueing
from slotwire.handlers.due_times import ClockTimes, MomentTimes
from slotwire.handlers.records import Partition
from slotwire.handlers.registry import Agent
from slotwire.handlers.schedule.due_firings import PAGE, DueFirings
from slotwire.handlers.schedule.schedule_store import Reached, ScheduleStep, ScheduleStore
from slotwire.handlers.schedules import Schedule
from slotwire.ingest.foundation.agent_metrics import FIRINGS
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import ConfigurationError, DatabaseUnavailable, SchemaMismatch, SlotwireError
from slotwire.ingest.foundation.telemetry import get_logger

STANDBY_LOOKS = 2
"""After how many of these looks a process that does not fire asks whether it may."""
OVERLOOKED_LOOKS = 4
"""After how many of these looks it is looked for moments that had come before their bookings were known."""
MAX_AHEAD = timedelta(minutes=5)
"""A schedule that has come further than this beyond the time goes back to it: the clock was ahead."""
NOTE_AFTER = timedelta(seconds=10)
"""How far a schedule of moments may have come without a note of it: after a crash it is looked through again."""
RENEWALS = 3
"""How often the lease is renewed while it holds."""
MAX_QUEUED = 4 * PAGE
"""Firings that wait in the queue; what is due beyond them stays where it is derived from."""
AHEAD_LOOKS = 2
"""For how many looks moments are put into the queue before they come: at that time they wait there already."""
ROOM_SECONDS = 0.05
"""How soon a full queue is looked at again."""
MIN_PAUSE_SECONDS = 0.1
"""The shortest pause between two looks, where more is due every few milliseconds."""


class FiringLoop:
    """Fires, from joining to leaving. Make a new one for the next time."""

    def __init__(
        self,
        agent: Agent,
        store: ScheduleStore,
        queueing: Queueing,
        due_runs: DueRuns,
        *,
        partition: Partition,
        clock: Clock,
        look_seconds: float,
    ) -> None:
        self._schedules = tuple(agent.schedules.values())
        self._store = store
        self._queueing = queueing
        self._due_runs = due_runs
        self._found = DueFirings(store, agent=agent.name, partition=partition)
        self._agent = agent.name
        self._partition = partition
        self._clock = clock
        self._renew_after = store.lease_seconds / RENEWALS
        self._look_seconds = look_seconds
        self._reached: dict[str, Reached] = {}
        self._noted: dict[str, Reached] = {}
        self._coming: set[datetime] = set()
        self._looks = 0
        self._log = get_logger("fire").bind(agent=agent.name)
        self._dispatcher: Dispatcher

    async def run(self, *ends: asyncio.Event, grace: float) -> None:
        """Fire while this process has the lease, until one of the events is set; then finish or hand back what runs.

        Raises:
            DatabaseUnavailable, SchemaMismatch, ConfigurationError: what was put into the queue waits there.
        """
        failure: SlotwireError | None = None
        async with asyncio.TaskGroup() as lanes:
            self._dispatcher = Dispatcher(
                self._queueing.handle,
                take_turn=self._queueing.take_turn,
                agent=self._agent,
                max_in_flight=1,
                spawn=lanes.create_task,
                counted=False,
            )
            try:
                await first_of(self._work(), *(is_set(event) for event in ends))
            except (DatabaseUnavailable, SchemaMismatch, ConfigurationError) as error:
                failure = error
            finally:
                await self._dispatcher.stop(0 if failure is not None else grace)
                self._dispatcher.close()
                self._queueing.forget([self._partition])
        if failure is not None:
            raise failure
        await self._store.leave()

    async def _work(self) -> None:
        while True:
            if await self._store.take():
                await self._fire()
            await asyncio.sleep(STANDBY_LOOKS * self._look_seconds)

    async def _fire(self) -> None:
        """Fire until another process has the lease; what runs is interrupted then."""
        await self._begin()
        renewed = monotonic()
        while True:
            if monotonic() - renewed >= self._renew_after:
                if not await self._store.take():
                    break
                renewed = monotonic()
            room = self._queueing.waiting < MAX_QUEUED
            moved = [await self._look(schedule) for schedule in self._schedules if room]
            for turn in await self._queueing.due([self._partition], at_once=MAX_QUEUED + PAGE):
                self._dispatcher.turn(turn)
            await self._due_runs.look([self._partition])
            self._due_runs.read_to({self._partition: 0})
            for record in self._due_runs.take(lambda _: 0):
                self._dispatcher.turn(record)
            self._looks += 1
            await asyncio.sleep(0 if any(moved) else self._pause(room=room))
        self._log.warning("firing_lost")
        self._dispatcher.resume(())
        self._queueing.forget([self._partition])

    def _pause(self, *, room: bool) -> float:
        """How long until the next look: until what is known to be due next, if that is soon."""
        if not room:
            return ROOM_SECONDS
        now = self._clock.now()
        self._coming = {each for each in self._coming if each > now}
        soon = min(self._coming, default=None)
        wait = self._look_seconds if soon is None else (soon - now).total_seconds()
        return min(max(wait, MIN_PAUSE_SECONDS), self._look_seconds)

    async def _begin(self) -> None:
        offsets, died = {self._partition: self._store.next_offset}, self._store.died
        await self._store.declare(self._schedules)
        await self._read()
        await self._queueing.beware(offsets, {} if died is None else {self._partition: died})
        put_in_force = await self._queueing.load([self._partition])
        put_in_force()
        self._due_runs.forget()
        self._dispatcher.open([self._partition])
        self._log.info("firing_begins", schedules=len(self._schedules))

    async def _read(self) -> None:
        self._found.forget()
        self._noted = dict(await self._store.reached())
        self._reached = dict(self._noted)

    async def _look(self, schedule: Schedule) -> bool:
        """Put what is due of a schedule into the queue; returns whether there may be more at once."""
        times, now = schedule.times, self._clock.now()
        if self._reached[schedule.name].time - now > MAX_AHEAD:
            await self._turn_back(schedule, now)
        if isinstance(times, MomentTimes):
            return await self._look_for_moments(schedule, times, now)
        return await self._look_at_clock(schedule, times, now)

    async def _look_at_clock(self, schedule: Schedule, times: ClockTimes, now: datetime) -> bool:
        was = self._reached[schedule.name]
        step = await self._found.of_clock(schedule, times, was, now)
        if step is not None:
            return await self._advance(schedule, step, now)
        self._coming.add(times.after(was.time))
        return False

    async def _look_for_moments(self, schedule: Schedule, times: MomentTimes, now: datetime) -> bool:
        was = self._reached[schedule.name]
        ahead = timedelta(seconds=AHEAD_LOOKS * self._look_seconds)
        step = await self._found.of_moments(schedule, times, was, now, ahead=ahead)
        self._coming.update(record.published_at for record in step.records)
        if step.records or step.passed or step.to.key or now - self._noted[schedule.name].time >= NOTE_AFTER:
            await self._advance(schedule, step, now)
        else:
            self._reached[schedule.name] = step.to
        if step.to.key or self._looks % OVERLOOKED_LOOKS:
            return bool(step.to.key)
        for late in await self._found.overlooked(schedule, times, self._reached[schedule.name], now):
            if late.records or late.passed:
                await self._advance(schedule, late, now)
            else:
                self._reached[schedule.name] = late.to
        return False

    async def _turn_back(self, schedule: Schedule, now: datetime) -> None:
        """Have a schedule go on from now: while the clock was ahead it has come to a time that is still to come."""
        ahead = self._reached[schedule.name].time - now
        self._log.warning("schedule_was_ahead", schedule=schedule.name, seconds=ahead.total_seconds())
        await self._store.turn_back(schedule, self._noted[schedule.name])
        await self._read()

    async def _advance(self, schedule: Schedule, step: ScheduleStep, now: datetime) -> bool:
        """Move a schedule on; returns whether it did.

        It is noted up to now at most: what is about to come is found again by a process that takes over, and put once.
        """
        was = self._noted[schedule.name]
        to = step.to if step.to.time <= now else replace(step.to, time=max(now, was.time), key="")
        done = await self._store.advance(schedule.name, was, replace(step, to=to))
        if done is None:
            await self._read()
            return False
        self._reached[schedule.name], self._noted[schedule.name] = step.to, to
        FIRINGS.labels(self._agent, schedule.name, "fired").inc(done.put)
        FIRINGS.labels(self._agent, schedule.name, "passed").inc(done.passed)
        return True
