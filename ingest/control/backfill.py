"""Backfill: reads existing bookings by REST and lets them in by the door, as REST described them.

REST and webhooks describe bookings alike, so an invitee read by REST becomes the same facts with the same event ids:
a booking that a webhook reported before, or reports meanwhile, makes no second event. A backfill that starts after the
subscription exists leaves no gap: earlier bookings are read, later ones are delivered. It cannot see no-shows that
were cleared, or invitees of meetings that start before the time it reads from.

At most `MAX_UNWRITTEN` of its rows wait to be written at a time, so that it does not hold up webhooks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from slotwire.ingest.control.calendly_client import invitees, scheduled_events
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport, CallRetries
from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.receive.accept import AcceptRow, accept_through, fetched_row, until_settled
from slotwire.schemas.ids import OrganizationUri

MAX_UNWRITTEN = 200
"""Fetched rows of an organization that may wait to be written."""
ROWS_AT_ONCE = 100
"""Rows of one commit: half of the above, so that one is fetched while the other is written."""
ACCEPT_SECONDS = 10.0
"""How long a commit may take."""
SETTLED_SECONDS = 30.0
"""How long the writer may take for `ROWS_AT_ONCE` rows; a backfill that waits longer ends, and begins again later."""
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
    """

    meetings: int = 0
    invitees: int = 0
    new: int = 0
    known: int = 0
    skipped: int = 0


async def backfill_organization(
    pool: Pool,
    calendly: CalendlyTransport,
    organization: OrganizationUri,
    org: str,
    shard: int,
    *,
    start_from: datetime,
    clock: Clock,
    report: Callable[[BackfillProgress], None] = lambda _: None,
) -> BackfillProgress:
    """Fetch an organization's scheduled events with their invitees, canceled ones too, and let in what they tell.

    Args:
        pool: the database.
        calendly: calls of an owner or admin of the organization, pinned and confirmed.
        organization: its URI at Calendly.
        org: its last segment.
        shard: its shard of the log.
        start_from: meetings that start then or later; there is no upper bound.
        clock: for what is written.
        report: is told after each meeting.

    Raises:
        CalendlyError: Calendly refused or failed; what was let in stays, and a repetition finds it known.
        DatabaseUnavailable: as above; with reason `unwritten` when no writer takes what was let in.
    """
    progress, door = BackfillProgress(), _Door(pool, shard, clock)
    query = scheduled_events.ScheduledEventQuery(organization=organization, start_from=start_from)
    async for meeting in scheduled_events.every(calendly, query):
        progress.meetings += 1
        async for invitee in invitees.every(calendly, meeting.uri):
            progress.invitees += 1
            await door.put(
                fetched_row(org, origin="backfill", invitee=invitee.raw, scheduled_event=meeting.raw, now=clock.now()),
                progress,
            )
        report(progress)
    await door.finish(progress)
    report(progress)
    return progress


class _Door:
    """Lets fetched rows in, as fast as the writer takes them, and counts what became of them."""

    def __init__(self, pool: Pool, shard: int, clock: Clock) -> None:
        self._pool = pool
        self._shard = shard
        self._clock = clock
        self._rows: list[AcceptRow] = []
        self._unwritten: list[tuple[int, int]] = []

    async def put(self, row: AcceptRow, progress: BackfillProgress) -> None:
        self._rows.append(row)
        if len(self._rows) >= ROWS_AT_ONCE:
            await self._flush(progress)

    async def finish(self, progress: BackfillProgress) -> None:
        await self._flush(progress)
        while self._unwritten:
            await self._settle(progress)

    async def _flush(self, progress: BackfillProgress) -> None:
        if not self._rows:
            return
        while sum(count for _, count in self._unwritten) + len(self._rows) > MAX_UNWRITTEN:
            await self._settle(progress)
        rows, self._rows = self._rows, []
        last = await accept_through(self._pool, self._shard, rows, now=self._clock.now(), seconds=ACCEPT_SECONDS)
        self._unwritten.append((last, len(rows)))

    async def _settle(self, progress: BackfillProgress) -> None:
        """Wait until the oldest rows that were let in are written, and count what became of them."""
        last, count = self._unwritten.pop(0)
        if not await until_settled(self._pool, self._shard, last, seconds=SETTLED_SECONDS):
            raise DatabaseUnavailable(
                "what was fetched is accepted and not written",
                reason="unwritten",
                remedy="Is a relay running? `slotwire doctor` tells; the backfill goes on when it is.",
            )
        with translated():
            rows = await self._pool.fetch(_SQL["outcomes"], self._shard, last - count, last)
        outcomes = {row["outcome"]: row["deliveries"] for row in rows}
        progress.new += outcomes.get("stored", 0)
        progress.known += outcomes.get("duplicate", 0)
        progress.skipped += outcomes.get("quarantined", 0)
