"""What tests of scheduled work need: organizations and bookings as the writer leaves them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.local.databases import Database

EVENTS = "https://api.calendly.com/scheduled_events/"
ORGANIZATIONS = "https://api.calendly.com/organizations/"
HOST = "https://api.calendly.com/users/HOST"


def invitee_of(name: str, meeting: str | None = None) -> str:
    """The URI of a booking of a meeting of its own, or of another one."""
    return f"{EVENTS}{meeting or name}/invitees/{name}"


@dataclass
class Bookings:
    """Organizations and bookings of a database.

    Attributes:
        owner: a connection of the owner.
        clock: for when they change.
    """

    owner: Any
    clock: ManualClock

    async def add(self, *orgs: str) -> None:
        """Add organizations."""
        await self.owner.executemany(
            "INSERT INTO slotwire.organizations (org, uri, shard, created_at, external_id) VALUES ($1, $2, 0, $3, $4)",
            [(org, ORGANIZATIONS + org, self.clock.now(), org.lower()) for org in orgs],
        )

    async def remove(self, org: str) -> None:
        """Remove an organization."""
        await self.owner.execute(
            "UPDATE slotwire.organizations SET ended_at = $2 WHERE org = $1", org, self.clock.now()
        )

    async def book(
        self,
        name: str,
        start: datetime,
        *,
        org: str = "ACME",
        minutes: int = 30,
        booked_at: datetime | None = None,
        meeting: str | None = None,
    ) -> None:
        """Book a meeting of its own, or a place in another, known from now on."""
        now = self.clock.now()
        times = (start, start + timedelta(minutes=minutes), booked_at or now, now)
        await self.owner.execute(
            "INSERT INTO slotwire.bookings (invitee, org, revision, state, chain_key, chain_root, old_invitees,"
            " new_invitees, marks, clears, hosts, scheduled_event, start_time, end_time, booked_at, changed_at)"
            " VALUES ($1, $2, 1, 'active', 'line ' || $1, $1, '{}', '{}', '[]', '[]', ARRAY[$3], $4, $5, $6, $7, $8)",
            *(invitee_of(name, meeting), org, HOST, EVENTS + (meeting or name), *times),
        )

    async def cancel(self, name: str) -> None:
        """Cancel a meeting."""
        await self._change(name, "state = 'canceled'")

    async def move(self, name: str, start: datetime) -> None:
        """Have a meeting be at another time, without a reschedule: its host has edited it."""
        await self._change(name, "start_time = $3, end_time = $3::timestamptz + interval '30 minutes'", start)

    async def _change(self, name: str, how: str, *values: object) -> None:
        await self.owner.execute(
            f"UPDATE slotwire.bookings SET {how}, changed_at = $2, revision = revision + 1 WHERE invitee = $1",
            *(invitee_of(name), self.clock.now(), *values),
        )


@asynccontextmanager
async def bookings_of(database: Database, begin: datetime) -> AsyncIterator[Bookings]:
    """Reach a database's organizations and bookings, at a time that the test moves on from its beginning."""
    owner = await asyncpg.connect(database.owner_url)
    try:
        yield Bookings(owner, ManualClock(begin))
    finally:
        await owner.close()
