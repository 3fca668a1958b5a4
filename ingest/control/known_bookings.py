"""What we know of an organization's bookings before a fetch asks Calendly: whom it need not ask for, and which marks.

What is known of the next meetings is read before they are listed, and which marks a meeting has before its invitees
are. So whoever was counted was there when Calendly was asked; and where Calendly does not show a mark any more that was
known, it was cleared. What is read is about what is listed: most bookings of an organization are over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from slotwire.ingest.control.calendly_client.scheduled_events import ScheduledEventResource
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated

MAX_BOOKINGS = 20_000
"""Bookings that are read at once: of more, those of the later meetings count as unknown until those are listed."""

_SQL = read_queries("slotwire.ingest.sql", "holes.sql")


@dataclass(slots=True)
class KnownBookings:
    """What is known of the meetings that are listed next.

    Attributes:
        pool: the database.
        org: the organization.
        counts: of each meeting that had not started: its invitees, and the active ones among them.
        since: meetings that start from then on were looked at; None before the first look.
        until: those that start from then on were not; None where all were.
    """

    pool: Pool
    org: str
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None

    async def look(self, start_from: datetime, now: datetime) -> None:
        """Read what is known of meetings that start at a time or later, and have not started, unless that was done.

        Raises:
            DatabaseUnavailable: Postgres does not answer.
        """
        if self.since is not None and self.since <= start_from and self.until is None:
            return
        with translated():
            rows = await self.pool.fetch(_SQL["bookings_ahead"], self.org, start_from, MAX_BOOKINGS, now)
        self.counts = {row["scheduled_event"]: (row["total"], row["active"]) for row in rows}
        whole = sum(row["total"] for row in rows) < MAX_BOOKINGS
        self.since, self.until = start_from, None if whole else max(row["start_time"] for row in rows)

    def covers(self, meeting: ScheduledEventResource, now: datetime) -> bool:
        """Whether all that can be read of a meeting's invitees is known.

        Calendly counts a meeting's invitees, and the active ones; one that was canceled stays so. Where both numbers
        are ours, nobody was added and nobody left. A meeting that has not started has no no-show marks.
        """
        counter = meeting.raw.get("invitees_counter")
        if meeting.start_time <= now or not isinstance(counter, Mapping):
            return False
        if self.until is not None and meeting.start_time >= self.until:
            return False
        total, active = self.counts.get(meeting.uri, (0, 0))
        if (counter.get("total"), counter.get("active")) != (total, active) or not total:
            return False
        return meeting.status == ("active" if active else "canceled")

    async def marks(self, meeting: ScheduledEventResource) -> Mapping[str, Sequence[str]]:
        """Return the no-show marks that a meeting's invitees are known to have: the URIs of those that are set.

        Raises:
            DatabaseUnavailable: Postgres does not answer.
        """
        with translated():
            rows = await self.pool.fetch(_SQL["marks_known"], self.org, meeting.uri)
        return {row["invitee"]: row["marks"] for row in rows}


async def out_of_reach(pool: Pool, org: str, before: datetime, named: int) -> tuple[list[str], int]:
    """Name invitees with a mark that is set whose meeting started before a time; return how many more there are.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    with translated():
        rows = await pool.fetch(_SQL["marks_out_of_reach"], org, before, named)
    return [row["invitee"] for row in rows], (rows[0]["found"] - len(rows) if rows else 0)
