"""A chore: tells the moments of scheduled events, if the settings say so, as events that come in by the door.

They are derived from the times of active bookings: between where the last round came to and now, and for bookings that
changed since, at moments that had come before. Several processes may do this: a round that another one was before does
nothing, and an event has one id.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from slotwire.ingest.control.meeting_events import (
    MAX_LATE,
    MOMENTS,
    MeetingBooking,
    MeetingMoment,
    comes,
    meeting_events,
)
from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.meetings_settings import MeetingsSettings
from slotwire.ingest.foundation.postgres import Pool, borrowed, call_outright, read_queries, translated
from slotwire.ingest.receive.accept import QUERIES as DOOR
from slotwire.ingest.receive.accept import OwnEvent, own_row

ROUND_SECONDS = 1.0
"""The longest pause between two rounds: one begins when a moment comes that was seen before."""
MIN_PAUSE_SECONDS = 0.2
"""The shortest one, where one comes every few milliseconds."""
MAX_AHEAD = timedelta(minutes=5)
"""A moment that was told further than this beyond the time begins again from there: the clock was ahead."""
PAGE = 200
"""Bookings read at a time, and events that come in at once: as a backfill does, it leaves room for webhooks."""
NOTE_AFTER = timedelta(seconds=10)
"""How far a moment may have come without a note of it."""
LOOK_AGAIN = timedelta(seconds=5)
"""How often it is looked for moments that had come before their bookings were known."""
OVERLAP = timedelta(seconds=30)
"""How long a change of a booking may take from its time to its commit."""
ACCEPT_SECONDS = 10.0
_NEXT = timedelta(microseconds=1)
_SQL = read_queries("slotwire.ingest.sql", "meetings.sql")


@dataclass(frozen=True, slots=True)
class Told:
    """Up to where a moment was told; see the columns of `slotwire.meetings_told`."""

    begun_at: datetime
    reached: datetime
    reached_key: str
    looked_at: datetime


async def run(pool: Pool, clock: Clock, settings: MeetingsSettings) -> None:
    """Make rounds until cancelled; without the setting, forget how far they came."""
    if not settings.events:
        await repeat(lambda: _end(pool), stage="meetings", seconds=3600.0)
    teller = MeetingTeller(pool, clock, settings)
    await repeat(teller.run_once, stage="meetings", seconds=teller.pause)


async def _end(pool: Pool) -> None:
    with translated():
        await pool.execute(_SQL["end_meetings"])


class MeetingTeller:
    """Makes the rounds of one process."""

    def __init__(self, pool: Pool, clock: Clock, settings: MeetingsSettings) -> None:
        self._pool = pool
        self._clock = clock
        self._lead = timedelta(minutes=settings.starting_minutes)
        self._recent: dict[UUID, datetime] = {}
        self._soon: list[datetime] = []

    def pause(self) -> float:
        """Say how many seconds to wait until the next round: until a moment comes that was seen, if that is soon."""
        if not self._soon:
            return ROUND_SECONDS
        return min(ROUND_SECONDS, max(MIN_PAUSE_SECONDS, (min(self._soon) - self._clock.now()).total_seconds()))

    async def run_once(self) -> None:
        """Tell what has come.

        Raises:
            DatabaseUnavailable: some were not told; the next round does the rest.
        """
        now, self._soon = self._clock.now(), []
        self._recent = {event: at for event, at in self._recent.items() if now - at < 2 * OVERLAP}
        for moment in MOMENTS:
            telling = _Telling(self._pool, self._clock, moment, self._lead, self._recent)
            while await telling.some():
                pass
            self._soon += [] if telling.soon is None else [telling.soon]


class _Telling:
    """Tells one moment, a page at a time; `recent` are events that came in and may not be written yet.

    Attributes:
        soon: when the next one comes, if it comes before the next round.
    """

    def __init__(
        self, pool: Pool, clock: Clock, moment: MeetingMoment, lead: timedelta, recent: dict[UUID, datetime]
    ) -> None:
        self.soon: datetime | None = None
        self._pool = pool
        self._recent = recent
        self._now = clock.now()
        self._moment: MeetingMoment = moment
        self._lead = lead
        self._shift = -lead if moment == "starting" else timedelta(0)

    async def some(self) -> bool:
        """Tell a page of what has come, and behind the last one what was overlooked; return whether there is more."""
        was = await self._was()
        until = max(self._now, was.reached)
        ahead = await self._read(was.reached, was.reached_key, until + timedelta(seconds=ROUND_SECONDS), None)
        found = [each for each in ahead if self._at(each) <= until]
        self.soon = self._at(ahead[len(found)]) if len(ahead) > len(found) else None
        to = replace(was, reached=until, reached_key="")
        if len(found) == PAGE:
            found = _whole(found)
            to = replace(was, reached=self._at(found[-1]), reached_key=_place(found[-1]))
        elif self._now - was.looked_at >= LOOK_AGAIN:
            known = {_place(each) for each in found}  # those at just `was.reached` may be among both
            found += [each for each in await self._overlooked(was) if _place(each) not in known]
            to = replace(to, looked_at=self._now)
        events = await self._events(found, was.begun_at)
        if not events and not to.reached_key and to.reached - was.reached < NOTE_AFTER:
            return False
        while len(events) > PAGE:
            await self._tell(was, was, events[:PAGE])
            events = events[PAGE:]
        await self._tell(was, to, events)
        return bool(to.reached_key)

    async def _was(self) -> Told:
        with translated():
            row = await self._pool.fetchrow(_SQL["meetings_told"], self._moment)
            if row is not None and row["reached"] - self._now > MAX_AHEAD:
                await self._pool.execute(_SQL["end_meeting"], self._moment, row["reached"])
                row = None
            if row is None:
                await self._pool.execute(_SQL["begin_meetings"], self._moment, self._now)
                row = await self._pool.fetchrow(_SQL["meetings_told"], self._moment)
        return Told(self._now, self._now, "", self._now) if row is None else Told(**row)

    async def _overlooked(self, was: Told) -> list[MeetingBooking]:
        begin, found = max(was.begun_at, self._now - MAX_LATE), list[MeetingBooking]()
        key = ""
        while True:
            page = await self._read(begin, key, was.reached, was.looked_at - OVERLAP)
            found += page
            if len(page) < PAGE:
                return found
            begin, key = self._at(page[-1]), _place(page[-1])

    async def _read(
        self, after: datetime, behind: str, until: datetime, changed: datetime | None
    ) -> list[MeetingBooking]:
        invitee, _, org = behind.rpartition(" ")
        begin = (after if behind else after + _NEXT) - self._shift
        asked = (self._moment == "ended", begin, invitee, org, until - self._shift, changed, PAGE)
        with translated():
            rows = await self._pool.fetch(_SQL["meetings_of_span"], *asked)
        return [MeetingBooking(**row) for row in rows]

    def _at(self, booking: MeetingBooking) -> datetime:
        return booking.at(self._moment, self._lead)

    async def _events(self, found: Collection[MeetingBooking], begun_at: datetime) -> list[tuple[str, OwnEvent]]:
        """Return the events of bookings that were not told, each with its organization."""
        told = [each for each in found if comes(each, self._moment, self._lead, begun_at=begun_at, now=self._now)]
        events = meeting_events(told, self._moment, self._lead)
        with translated():
            rows = await self._pool.fetch(_SQL["known_events"], [event.id for _, event in events]) if events else ()
        known: set[UUID] = {row["event_id"] for row in rows}
        return [(org, event) for org, event in events if event.id not in known and event.id not in self._recent]

    async def _tell(self, was: Told, to: Told, events: list[tuple[str, OwnEvent]]) -> None:
        """Have events come in; nothing where another process was before: the next round sees how far that came."""
        rows = [own_row(org, event, self._now) for org, event in events]
        places = (was.reached, was.reached_key, was.looked_at, to.reached, to.reached_key, to.looked_at)
        async with borrowed(self._pool) as connection:
            grown = await call_outright(
                connection, _SQL["tell_meetings"], self._moment, *places, self._now, rows, seconds=ACCEPT_SECONDS
            )
            for shard in grown["tell_meetings"] or ():
                await connection.execute(DOOR["notify"], str(shard))
        if grown["tell_meetings"] is not None:
            self._recent.update((event.id, self._now) for _, event in events)


def _whole(page: list[MeetingBooking]) -> list[MeetingBooking]:
    """Leave the last scheduled event of a page to the next one, which has all of its bookings; not a page of one."""
    end = len(page)
    while end and page[end - 1].scheduled_event == page[-1].scheduled_event:
        end -= 1
    return page[:end] or page


def _place(booking: MeetingBooking) -> str:
    return f"{booking.invitee} {booking.org}"
