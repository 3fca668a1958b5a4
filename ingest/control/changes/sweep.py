"""Compares one organization's upcoming meetings with what was last known of them.

    a page of the list ─▶ known from an earlier sweep, else from the log ─▶ different? ─▶ stored and told, one commit
    known, and not in the list ─▶ canceled, as we know? forgotten ─▶ else read ─▶ compared, or forgotten

The first time that a meeting is seen, the event of its newest booking says what was known of it. Where the log has none
any more, it is only noted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from slotwire.ingest.control.calendly_client import scheduled_events
from slotwire.ingest.control.calendly_client.scheduled_events import ScheduledEventQuery, ScheduledEventResource
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.changes.meeting_facts import changed_event, differences, read_facts, read_guests
from slotwire.ingest.control.changes.sweep_records import (
    ComparedMeeting,
    SweepClaim,
    erased_guests,
    known_meetings,
    meetings_in_log,
    missing_meetings,
    tell,
)
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.meetings import ITS_OWN, Skipped, every_page
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.receive.accept import OwnEvent

MAX_LOOKED_UP = 50
"""Meetings of a sweep that left the list without a cancellation that we know, and are read; others wait for another."""
MAX_MISSING = 500
"""Meetings that left the list, of those that start within a page."""
ADMINS = frozenset({"owner", "admin"})
"""Roles that list the meetings of others."""
_NEXT = timedelta(microseconds=1)


class Sweep:
    """One organization's sweep, from where it is.

    Attributes:
        skipped: meetings that could not be read.
        changed: how many changes of each field were told.
    """

    def __init__(
        self, pool: Pool, clock: Clock, held: SweepClaim, calendly: CalendlyTransport, connection: ConnectionRecord
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._held = held
        self._calendly = calendly
        self._connection = connection
        self._reached = held.reached
        self._at_reached = set[str]()  # listed, and start exactly then
        self._looked_up = 0
        self._calls = calendly.calls - 1  # whose token it is was asked already
        self.skipped = Skipped()
        self.changed = dict[str, int]()

    async def run(self) -> None:
        """Go to the end.

        Raises:
            CalendlyError: Calendly failed; what was compared is stored.
            SweepElsewhere: another process has it by now.
            DatabaseUnavailable: Postgres does not answer.
        """
        query = ScheduledEventQuery(
            self._held.organization,
            user=None if self._connection.role in ADMINS else self._connection.user_uri,
            status="active",
            start_to=self._held.until,
        )
        async for page in every_page(self._calendly, query, self._reached, self.skipped):
            if page:
                await self._page(page, page[-1].start_time)
        await self._page((), self._held.until + _NEXT)

    async def _page(self, page: Sequence[ScheduledEventResource], reached: datetime) -> None:
        """Compare meetings that are listed, and those that are not and should be; up to a start time."""
        reached = max(reached, self._reached)
        listed = {each.uri: each for each in page} | dict.fromkeys(self._at_reached)
        missing = await missing_meetings(
            *(self._pool, self._held.org),
            since=self._reached,
            before=reached,
            listed=listed,
            limit=MAX_MISSING,
        )
        found, gone = await self._look_up(missing)
        meetings, events = await self._compared([*page, *found])
        calls, self._calls = self._calendly.calls - self._calls, self._calendly.calls
        await tell(
            *(self._pool, self._held),
            now=self._clock.now(),
            reached=reached,
            meetings=meetings,
            gone=gone,
            calls=calls,
            events=events,
        )
        for each in events:
            for name in getattr(each.data, "changed", ()):
                self.changed[name] = self.changed.get(name, 0) + 1
        if reached > self._reached:
            self._reached, self._at_reached = reached, set()
        self._at_reached |= {each.uri for each in page if each.start_time == reached}

    async def _look_up(self, missing: Mapping[str, bool]) -> tuple[list[ScheduledEventResource], list[str]]:
        """Read meetings that left the list; return those that are still to come, and those that are gone."""
        found, gone = list[ScheduledEventResource](), list[str]()
        for uri, canceled in missing.items():
            if canceled:
                gone.append(uri)
            elif self._looked_up < MAX_LOOKED_UP:
                self._looked_up += 1
                try:
                    meeting = await scheduled_events.get(self._calendly, uri)
                except CalendlyError as error:
                    if error.problem not in ITS_OWN:
                        raise
                    self.skipped.add(uri, error.problem.value)
                    gone += [uri] if error.problem is CalendlyProblem.NOT_FOUND else []
                    continue
                if meeting.status == "active":
                    found.append(meeting)
                else:
                    gone.append(uri)
        return found, gone

    async def _compared(
        self, meetings: Sequence[ScheduledEventResource]
    ) -> tuple[list[ComparedMeeting], list[OwnEvent]]:
        known = await known_meetings(self._pool, self._held.org, [each.uri for each in meetings])
        fresh = [each.uri for each in meetings if each.uri not in known]
        logged = await meetings_in_log(self._pool, self._held.org, fresh)
        guests = {address for each in meetings for address in read_guests(each.raw) or ()}
        erased = await erased_guests(self._pool, self._held.org, guests)
        compared, events, now = list[ComparedMeeting](), list[OwnEvent](), self._clock.now()
        for meeting in meetings:
            before = known.get(meeting.uri)
            facts, changes = (before.told, before.changes) if before is not None else (_facts(logged, meeting.uri), 0)
            after = read_facts(meeting.raw, erased)
            if differences(facts, after):
                changes += 1
                events.append(
                    changed_event(self._held.organization, meeting.raw, facts, after, change=changes, now=now)
                )
            compared.append(ComparedMeeting(meeting.uri, meeting.start_time, {**facts, **after}, changes))
        return compared, events


def _facts(logged: Mapping[str, Mapping[str, Any]], uri: str) -> Mapping[str, Any]:
    document = logged.get(uri)
    return {} if document is None else read_facts(document)
