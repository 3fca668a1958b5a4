"""What of an agent's scheduled work is due now, and how far its schedule moves on by that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from slotwire.handlers.due_times import MISSED_AFTER, ClockTimes, MomentTimes, count_between
from slotwire.handlers.firings import Meeting, firing_record
from slotwire.handlers.records import Partition, Record
from slotwire.handlers.schedule.schedule_store import FoundMeeting, Reached, ScheduleStep, ScheduleStore, Span
from slotwire.handlers.schedules import Schedule

PAGE = 250
"""Firings that are put into the queue at once."""
MAX_LATE = timedelta(days=6)
"""Moments are done late up to here. Marks in the inbox are kept for longer, so none is done twice."""
OVERLAP = timedelta(seconds=30)
"""How long a change of a booking may take from its time to its commit."""


_FoundMoment = tuple[str, str, str, datetime]
"""A moment: the schedule, whose booking it is of, and when it is due."""


class DueFirings:
    """Finds what is due of one agent's schedules."""

    def __init__(self, store: ScheduleStore, *, agent: str, partition: Partition) -> None:
        self._store = store
        self._agent = agent
        self._partition = partition
        self._judged: dict[_FoundMoment, datetime] = {}

    async def of_clock(self, schedule: Schedule, times: ClockTimes, was: Reached, now: datetime) -> ScheduleStep | None:
        """Find what is due of a schedule of the clock; None if nothing is.

        Of several times that have passed the latest fires, for every organization; the others are passed over, and with
        `skip` that one, too, if it was missed.
        """
        due, passed = was.time, 0
        if not was.key:
            found = times.latest(was.time, now)
            if found is None:
                return None
            due, passed = found, count_between(times, was.time, found)
        next_at, to = times.after(due), replace(was, time=due, key="")
        if not was.key and schedule.missed == "skip" and now - due > MISSED_AFTER:
            return ScheduleStep(to, passed=passed + 1, passed_due=due, next_at=next_at)
        served = await self._store.organizations(due, was.key, PAGE)
        records = [
            firing_record(self._agent, schedule.name, due, org, partition=self._partition, tenant=tenant)
            for org, tenant in served
        ]
        if len(served) == PAGE:
            to = replace(to, key=served[-1][0])
        return ScheduleStep(to, records, due, passed, due if passed else None, next_at)

    async def of_moments(
        self, schedule: Schedule, times: MomentTimes, was: Reached, now: datetime, *, ahead: timedelta
    ) -> ScheduleStep:
        """Find the moments of bookings that have come, or are about to.

        Args:
            schedule: whose moments.
            times: of the schedule.
            was: up to where it has come.
            now: the time.
            ahead: how far into the future it is looked.
        """
        until = max(now + ahead, was.time)
        span = Span(was.time - times.shift, was.key, until - times.shift)
        found = await self._store.meetings(span, of_end=times.of_end, changed_since=None, most=PAGE)
        to = replace(was, time=until, key="")
        if len(found) == PAGE:
            to = replace(was, time=_due(found[-1], times), key=found[-1].place)
        return self._step(schedule, times, found, to, now)

    async def overlooked(
        self, schedule: Schedule, times: MomentTimes, was: Reached, now: datetime
    ) -> list[ScheduleStep]:
        """Find moments that had come before their bookings were known as they are, in the order of their times."""
        begin = max(was.begun_at, now - MAX_LATE)
        span, since = Span(begin - times.shift, "", was.time - times.shift), was.looked_at - OVERLAP
        steps: list[ScheduleStep] = []
        for each in [each for each, at in self._judged.items() if at < since and each[0] == schedule.name]:
            del self._judged[each]
        while True:
            found = await self._store.meetings(span, of_end=times.of_end, changed_since=since, most=PAGE)
            to = replace(was, looked_at=now) if len(found) < PAGE else was
            fresh = [each for each in found if _moment_of(schedule, times, each) not in self._judged]
            steps.append(self._step(schedule, times, fresh, to, now))
            if len(found) < PAGE:
                return steps
            span = replace(span, after=_due(found[-1], times) - times.shift, behind=found[-1].place)

    def forget(self) -> None:
        """Forget what was found: it may not have been put into the queue."""
        self._judged.clear()

    def _step(
        self, schedule: Schedule, times: MomentTimes, found: Iterable[FoundMeeting], to: Reached, now: datetime
    ) -> ScheduleStep:
        judged = [(each, _judged(each, schedule, times, to.begun_at, now)) for each in found]
        self._judged |= {_moment_of(schedule, times, each): now for each, what in judged if what != "never"}
        fires = [each for each, what in judged if what == "fires"]
        passed = [(each.org, _due(each, times)) for each, what in judged if what == "passed"]
        records = [self._record(schedule, times, each) for each in fires]
        due = max((_due(each, times) for each in fires), default=None)
        passed_due = max((due_at for _, due_at in passed), default=None)
        return ScheduleStep(to, records, due, len(passed), passed_due, missed=passed)

    def _record(self, schedule: Schedule, times: MomentTimes, found: FoundMeeting) -> Record:
        meeting = Meeting(
            times.kind, found.invitee, found.chain_key, found.scheduled_event, found.start_time, found.end_time
        )
        return firing_record(
            self._agent,
            schedule.name,
            _due(found, times),
            found.org,
            partition=self._partition,
            tenant=found.tenant,
            meeting=meeting,
        )


def _moment_of(schedule: Schedule, times: MomentTimes, found: FoundMeeting) -> _FoundMoment:
    return schedule.name, found.org, found.invitee, _due(found, times)


def _due(found: FoundMeeting, times: MomentTimes) -> datetime:
    return (found.end_time if times.of_end else found.start_time) + times.shift


def _judged(
    found: FoundMeeting, schedule: Schedule, times: MomentTimes, begun_at: datetime, now: datetime
) -> Literal["fires", "passed", "never"]:
    """Say what becomes of a moment that has come."""
    due = _due(found, times)
    known = due > begun_at and due >= found.served_since and (found.booked_at is None or found.booked_at <= due)
    if not known:
        return "never"  # nobody had declared it then, or there was no such booking
    if now - due <= MISSED_AFTER:
        return "fires"
    over = times.kind == "before_start" and found.start_time <= now
    return "passed" if schedule.missed == "skip" or over or now - due > MAX_LATE else "fires"
