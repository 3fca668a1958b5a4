"""What Postgres keeps of an agent's schedules: which process fires, up to where they have come, and what is due."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from uuid import UUID

import asyncpg
import orjson

from slotwire.handlers.due_times import MomentTimes
from slotwire.handlers.records import Record, event_id_of
from slotwire.handlers.schedules import Schedule
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import borrowed, give_up, read_queries, translated

MAX_WAITING = 10
"""Firings of one schedule that wait for one organization; one that comes then is passed over."""

_NEXT = timedelta(microseconds=1)
"""From a time to the next one that Postgres knows."""
_QUERIES = read_queries("slotwire.handlers.sql", "schedules.sql")


@dataclass(frozen=True)
class Reached:
    """Up to where a schedule has come.

    Attributes:
        begun_at: nothing that was due before then fires.
        time: what was due until then has fired or was passed over.
        key: of what was due at just that time: up to this organization or invitee; empty for all of it.
        looked_at: bookings that changed before then have no moment that was overlooked.
    """

    begun_at: datetime
    time: datetime
    key: str
    looked_at: datetime


@dataclass(frozen=True)
class ScheduleStep:
    """How a schedule moves on.

    Attributes:
        to: up to where.
        records: what fires.
        due: when the latest of them was due.
        passed: how many firings are passed over.
        passed_due: when the latest of these was due.
        next_at: when it is due next, of the clock.
        missed: of moments, which of them are passed over: the organization, and when it was due. None: of the clock.
    """

    to: Reached
    records: Sequence[Record] = ()
    due: datetime | None = None
    passed: int = 0
    passed_due: datetime | None = None
    next_at: datetime | None = None
    missed: Sequence[tuple[str, datetime]] | None = None


@dataclass(frozen=True)
class Advanced:
    """What became of a step.

    Attributes:
        put: how many firings wait in the agent's queue now.
        passed: how many were passed over, with those for which too many waited.
    """

    put: int
    passed: int


@dataclass(frozen=True)
class Span:
    """Starts or ends of meetings: later than a time and not later than another.

    Attributes:
        after: later than this, or at this behind `behind`.
        behind: the place of a booking; empty for all of those at `after`, which then are left out.
        until: not later than this.
    """

    after: datetime
    behind: str
    until: datetime


@dataclass(frozen=True)
class FoundMeeting:
    """An active booking; see the columns of `slotwire.bookings`.

    Attributes:
        tenant: the user's own name for the organization.
        served_since: when the organization was added.
    """

    org: str
    tenant: str | None
    served_since: datetime
    invitee: str
    chain_key: str
    scheduled_event: str
    start_time: datetime
    end_time: datetime
    booked_at: datetime | None

    @property
    def place(self) -> str:
        """Its place among those of the same time."""
        return f"{self.invitee} {self.org}"


class ScheduleStore:
    """The schedules of one agent. Every method raises DatabaseUnavailable, SchemaMismatch or ConfigurationError.

    Attributes:
        lease_seconds: how long the process that fires may stand still before another one does.
        died: the process that fired before this one and stood still; None where it had left.
        next_offset: that of the first firing that was not there when this process began.
    """

    def __init__(
        self, pool: asyncpg.Pool[asyncpg.Record], *, agent: str, clock: Clock, lease_seconds: float, process: UUID
    ) -> None:
        self.died: UUID | None = None
        self.next_offset = 0
        self._process = process
        self._pool = pool
        self._agent = agent
        self._clock = clock
        self.lease_seconds = lease_seconds
        self._seen: tuple[UUID | None, int] | None = None
        self._seen_at = 0.0

    async def take(self) -> bool:
        """Begin or go on to be the process that fires; returns whether it is this one."""
        stale = self._seen if monotonic() - self._seen_at >= self.lease_seconds else None
        with translated():
            asked = (self._agent, self._process, *(stale or (None, None)), self._clock.now())
            next_offset = await self._pool.fetchval(_QUERIES["take_firing"], *asked)
            if next_offset is not None:
                self.died, self.next_offset, self._seen = stale[0] if stale else None, next_offset, None
                return True
            row = await self._pool.fetchrow(_QUERIES["firer"], self._agent)
        found = None if row is None else (row["owner"], row["beat"])
        if found != self._seen:
            self._seen, self._seen_at = found, monotonic()
        return False

    async def leave(self) -> None:
        """Let another process fire at once. Where Postgres does not answer, it waits until the lease ends."""
        await give_up(self._pool, _QUERIES["leave_firing"], self._agent, self._process)

    async def declare(self, schedules: Iterable[Schedule]) -> None:
        """Note what the agent's code declares, and what it does not declare any more."""
        now, declared = self._clock.now(), tuple(schedules)
        rows = [_row(each, now) for each in declared]
        columns = [list(column) for column in zip(*rows, strict=True)]
        async with borrowed(self._pool) as connection, connection.transaction():
            *texts, next_at = columns
            await connection.execute(_QUERIES["declare_schedules"], self._agent, *texts, now, next_at)
            await connection.execute(_QUERIES["undeclare_schedules"], self._agent, columns[0])

    async def reached(self) -> Mapping[str, Reached]:
        """Return up to where the declared schedules have come, by their names."""
        with translated():
            rows = await self._pool.fetch(_QUERIES["schedules"], self._agent)
        return {
            row["schedule"]: Reached(row["begun_at"], row["reached"], row["reached_key"], row["looked_at"])
            for row in rows
        }

    async def turn_back(self, schedule: Schedule, was: Reached) -> None:
        """Have a schedule go on from now, where it has come to a time that is still to come: the clock was ahead.

        Another process may have moved it meanwhile.
        """
        now = self._clock.now()
        _, _, _, _, _, next_at = _row(schedule, now)
        with translated():
            await self._pool.execute(_QUERIES["turn_back"], self._agent, schedule.name, was.time, was.key, now, next_at)

    async def organizations(self, at: datetime, behind: str, most: int) -> list[tuple[str, str | None]]:
        """Return some of the organizations that a firing of the clock is for, each with the user's own name for it.

        Args:
            at: when it was due: later ones are left out.
            behind: begin after this one.
            most: how many at most.
        """
        with translated():
            rows = await self._pool.fetch(_QUERIES["organizations_served"], at, behind, most)
        return [(row["org"], row["tenant"]) for row in rows]

    async def meetings(
        self, span: Span, *, of_end: bool, changed_since: datetime | None, most: int
    ) -> list[FoundMeeting]:
        """Return some of the active bookings whose meetings start, or end, in a span, in their order.

        Args:
            span: the times, and behind which of them to begin.
            of_end: whether their ends count.
            changed_since: only those that changed since then.
            most: how many at most.
        """
        behind, _, org = span.behind.rpartition(" ")
        after = span.after if behind else span.after + _NEXT
        asked = (of_end, after, behind, org, span.until, changed_since, most)
        with translated():
            rows = await self._pool.fetch(_QUERIES["meetings_between"], *asked)
        return [FoundMeeting(**row) for row in rows]

    async def advance(self, name: str, was: Reached, step: ScheduleStep) -> Advanced | None:
        """Move a schedule on, with what fires put into the agent's queue, in one transaction.

        Returns:
            What became of it: a firing that is there, was done or was given up is not put again. None where another
            process has moved the schedule.
        """
        now, put, crowded, to = self._clock.now(), 0, 0, step.to
        async with borrowed(self._pool) as connection, connection.transaction():
            if await connection.fetchval(_QUERIES["lock_schedule"], self._agent, name, was.time, was.key) is None:
                return None
            if step.records:
                await connection.execute(_QUERIES["plan_anew"])
                offset = await connection.fetchval(_QUERIES["reserve_offsets"], self._agent, len(step.records))
                place = (self._agent, *step.records[0].partition, _written(step.records), offset)
                counted = (name, step.missed is not None)
                [(put, crowded)] = await connection.fetch(_QUERIES["put_firings"], *place, now, MAX_WAITING, *counted)
            if step.missed:
                orgs, due = (list(column) for column in zip(*step.missed, strict=True))
                await connection.execute(_QUERIES["note_missed"], self._agent, name, orgs, due)
            passed_due = step.due if crowded else step.passed_due
            await connection.execute(
                _QUERIES["advance_schedule"],
                *(self._agent, name, to.time, to.key, to.looked_at, step.next_at),
                *(put, step.due if put else None, step.passed + crowded, passed_due),
            )
        return Advanced(put, step.passed + crowded)


def _written(records: Sequence[Record]) -> str:
    """Write records as the statement reads them; all that a firing has is text."""
    rows = [
        {
            "number": number,
            "org": (record.header("ce_source") or b"").decode().rpartition("/")[2],
            "lane": record.lane.hex(),
            "event_id": str(event_id_of(record)),
            "key": (record.key or b"").decode(),
            "value": (record.value or b"").decode(),
            "names": [name for name, _ in record.headers],
            "contents": [(value or b"").decode() for _, value in record.headers],
            "due_at": record.published_at.isoformat(),
        }
        for number, record in enumerate(records)
    ]
    return orjson.dumps(rows).decode()


def _row(schedule: Schedule, now: datetime) -> tuple[object, ...]:
    times = schedule.times
    if isinstance(times, MomentTimes):
        return schedule.name, times.kind, str(times), times.shift.total_seconds(), schedule.missed, None
    return schedule.name, "clock", str(times), None, schedule.missed, times.after(now)
