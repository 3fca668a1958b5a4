"""What we know of an organization's bookings before a fetch asks Calendly: whom it need not ask for, and which marks.

A picture of one moment, taken before the first call. So a mark in it was known before Calendly was asked, and where
Calendly does not show it any more it was cleared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from slotwire.ingest.control.calendly_client.scheduled_events import ScheduledEventResource
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated

PAGE_BOOKINGS = 2_000
"""Bookings that are read at a time."""

_SQL = read_queries("slotwire.ingest.sql", "holes.sql")


@dataclass(slots=True)
class KnownBookings:
    """A picture of an organization's bookings.

    Attributes:
        counts: of each meeting that had not started: its invitees, and the active ones among them.
        marks: of each invitee with a no-show mark that is set: the URIs of those.
        out_of_reach: invitees with such a mark whose meeting started before what the fetch reads.
    """

    counts: dict[str, list[int]] = field(default_factory=dict)
    marks: dict[str, Sequence[str]] = field(default_factory=dict)
    out_of_reach: list[str] = field(default_factory=list)

    def covers(self, meeting: ScheduledEventResource, now: datetime) -> bool:
        """Whether all that can be read of a meeting's invitees is known.

        Calendly counts a meeting's invitees, and the active ones; one that was canceled stays so. Where both numbers
        are ours, nobody was added and nobody left. A meeting that has not started has no no-show marks.
        """
        counter = meeting.raw.get("invitees_counter")
        if meeting.start_time <= now or not isinstance(counter, Mapping):
            return False
        total, active = self.counts.get(meeting.uri, (0, 0))
        if (counter.get("total"), counter.get("active")) != (total, active) or not total:
            return False
        return meeting.status == ("active" if active else "canceled")


async def read_known(pool: Pool, org: str, *, start_from: datetime, now: datetime) -> KnownBookings:
    """Take the picture.

    Args:
        pool: the database.
        org: the organization.
        start_from: the fetch reads meetings that start then or later.
        now: the time.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    known, after = KnownBookings(), ("", "")
    while True:
        with translated():
            rows = await pool.fetch(_SQL["bookings_known"], org, *after, PAGE_BOOKINGS)
        for row in rows:
            if row["start_time"] is not None and row["start_time"] > now and row["state"] != "named":
                count = known.counts.setdefault(row["scheduled_event"], [0, 0])
                count[0] += 1
                count[1] += row["state"] == "active"
            if row["marks"]:
                known.marks[row["invitee"]] = row["marks"]
                if row["start_time"] is not None and row["start_time"] < start_from:
                    known.out_of_reach.append(row["invitee"])
        if len(rows) < PAGE_BOOKINGS:
            return known
        after = (rows[-1]["state"], rows[-1]["invitee"])
