"""Backfill: reads existing bookings by REST and lets them in by the door, as REST described them.

REST and webhooks describe bookings alike, so an invitee read by REST becomes the same facts with the same event ids:
a booking that a webhook reported before, or reports meanwhile, makes no second event. A backfill that starts after the
subscription exists leaves no gap: earlier bookings are read, later ones are delivered. It cannot see no-shows that
were cleared, or invitees of meetings that start before the time it reads from. A meeting that cannot be read is
skipped, counted and named; the others are written.

At most `MAX_UNWRITTEN` fetched rows of a shard wait to be written, so that a backfill does not hold up webhooks. When
nothing writes them, a backfill stops after a bounded wait, remains due, and goes on when something does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.scheduled_events import ScheduledEventQuery
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.meetings import InviteeReader, Skipped, every_page
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.receive.accept import AcceptRow, accept_through, fetched_row, until_settled
from slotwire.schemas.ids import OrganizationUri, last_segment

MAX_UNWRITTEN = 14
"""Fetched rows of a shard that may wait to be written: a webhook that comes meanwhile waits for few."""
ROWS_AT_ONCE = 7
"""Rows of one commit: half of the above, and fewer than the relay takes for load and gathers."""
ACCEPT_SECONDS = 10.0
"""How long a commit may take."""
PATIENCE_SECONDS = 15.0
"""How long a backfill waits for the writer, which a change of leaders may keep away for as long."""
ROOM_POLL_SECONDS = 0.05
"""How long a backfill pauses before each commit, then looks for room. The pauses leave the relay and
handlers idle most of the time; 140 rows a second are more than Calendly lets anybody fetch."""
BACKGROUND_RETRIES = CallRetries(attempts=6, max_wait_seconds=70.0)
"""For work that nobody waits for: Calendly counts requests by the minute, so waits may be that long."""

_SQL = read_queries("slotwire.ingest.sql", "control.sql")


@dataclass(slots=True)
class BackfillProgress:
    """What a backfill has done so far.

    Attributes:
        meetings: scheduled events that were read.
        invitees: invitees that were read.
        new: invitees of whom something was not known.
        known: invitees of whom everything was.
        skipped: invitees that could not be understood; they are in quarantine.
        unreadable: meetings and invitees that were left out, because Calendly refused or garbled them alone.
        unwritten: invitees that are accepted, and whose outcome is not known because nothing has written them yet.
        accepted_at: position of the last delivery that was accepted; 0 while there is none.
        complete: whether everything was read and accepted. If not, it starts again from the beginning.
    """

    meetings: int = 0
    invitees: int = 0
    new: int = 0
    known: int = 0
    skipped: int = 0
    unreadable: Skipped = field(default_factory=Skipped)
    unwritten: int = 0
    accepted_at: int = 0
    complete: bool = False


async def backfill_organization(
    pool: Pool,
    calendly: CalendlyTransport,
    organization: OrganizationUri,
    shard: int,
    *,
    start_from: datetime,
    clock: Clock,
    report: Callable[[BackfillProgress], None] = lambda _: None,
    patience: float = PATIENCE_SECONDS,
) -> BackfillProgress:
    """Fetch an organization's scheduled events with their invitees, canceled ones too, and accept what they tell.

    Args:
        pool: the database.
        calendly: calls of an owner or admin of the organization, pinned and confirmed.
        organization: its URI at Calendly.
        shard: its shard of the log.
        start_from: meetings that start then or later; there is no upper bound.
        clock: for what is written.
        report: is told after each meeting.
        patience: seconds to wait for the writer, each time it is waited for.

    Returns:
        What was done. It is not complete if the writer took too long to make room.

    Raises:
        CalendlyError: Calendly refused or failed; what was accepted stays, and a repetition finds it known.
        DatabaseUnavailable: as above.
    """
    org, progress = last_segment(organization), BackfillProgress()
    door = BackfillDoor(pool, shard, clock, progress, patience)
    reader = InviteeReader(calendly, progress.unreadable)
    async for page in every_page(calendly, ScheduledEventQuery(organization), start_from, progress.unreadable):
        for meeting in page:
            progress.meetings += 1
            for invitee in await reader.of(meeting):
                progress.invitees += 1
                row = fetched_row(
                    org, origin="backfill", invitee=invitee.raw, scheduled_event=meeting.raw, now=clock.now()
                )
                if not await door.put(row):
                    return progress
            report(progress)
    progress.complete = await door.finish()
    report(progress)
    return progress


class BackfillDoor:
    """Has fetched rows accepted, as fast as the writer takes them, and counts what became of them."""

    def __init__(self, pool: Pool, shard: int, clock: Clock, progress: BackfillProgress, patience: float) -> None:
        self._pool = pool
        self._shard = shard
        self._clock = clock
        self._progress = progress
        self._patience = patience
        self._rows: list[AcceptRow] = []
        self._unwritten: list[tuple[int, int]] = []  # the last position of a commit, and its rows

    async def put(self, row: AcceptRow) -> bool:
        """Take a row; return whether there was room for it in time."""
        self._rows.append(row)
        return len(self._rows) < ROWS_AT_ONCE or await self.flush()

    async def finish(self) -> bool:
        """Have the rest accepted; return whether there was room. Then wait for the outcomes, but not for long."""
        if not await self.flush():
            return False
        if self._unwritten:
            await until_settled(self._pool, self._shard, self._unwritten[-1][0], seconds=self._patience)
            await self._count()
        return True

    async def flush(self) -> bool:
        """Have what was taken accepted; return whether there was room for it in time."""
        if not self._rows:
            return True
        if not await self._room(len(self._rows)):
            return False
        rows, self._rows = self._rows, []
        last = await accept_through(self._pool, self._shard, rows, now=self._clock.now(), seconds=ACCEPT_SECONDS)
        self._unwritten.append((last, len(rows)))
        self._progress.accepted_at = last
        self._progress.unwritten += len(rows)
        await self._count()
        return True

    async def _room(self, rows: int) -> bool:
        """Wait until so many rows more are within the limit, whoever fetched those that wait."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        while True:
            await asyncio.sleep(ROOM_POLL_SECONDS)
            with translated():
                waiting = await self._pool.fetchval(_SQL["unwritten_fetched"], self._shard, MAX_UNWRITTEN)
            if waiting + rows <= MAX_UNWRITTEN:
                return True
            if loop.time() >= until:
                return False

    async def _count(self) -> None:
        """Count what became of the commits that are settled."""
        while self._unwritten:
            last, count = self._unwritten[0]
            if not await until_settled(self._pool, self._shard, last, seconds=0):
                return
            self._unwritten.pop(0)
            with translated():
                rows = await self._pool.fetch(_SQL["outcomes"], self._shard, last - count, last)
            outcomes = {row["outcome"]: row["deliveries"] for row in rows}
            self._progress.new += outcomes.get("stored", 0)
            self._progress.known += outcomes.get("duplicate", 0)
            self._progress.skipped += outcomes.get("quarantined", 0)
            self._progress.unwritten -= count
