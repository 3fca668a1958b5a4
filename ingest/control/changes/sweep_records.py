"""Sweeps and upcoming meetings as they are stored. A claim has an epoch: who was taken for dead changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from slotwire.ingest.control.changes.meeting_facts import Facts
from slotwire.ingest.foundation.postgres import Connection, Pool, call_outright, read_queries, translated
from slotwire.ingest.receive.accept import OwnEvent, committing, own_row
from slotwire.schemas.events import InviteeCreated
from slotwire.schemas.ids import OrganizationUri

LEASE = timedelta(minutes=15)
"""How long a claim holds unless it is kept. A call to Calendly that waits for the rate limit may take that long."""
COMMIT_SECONDS = 10.0
"""How long the commit of a page with its events may take."""

_SQL = read_queries("slotwire.ingest.sql", "changes.sql")


@dataclass(frozen=True, slots=True)
class SweepClaim:
    """The right to sweep an organization.

    Attributes:
        epoch: of the claim.
        reached: meetings that start before are compared.
        until: it lists meetings that start up to then.
        attempts: failures in a row before it.
    """

    org: str
    organization: OrganizationUri
    shard: int
    epoch: int
    reached: datetime
    until: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class KnownMeeting:
    """What was last known of a meeting; `changes` were told of it."""

    told: Facts
    changes: int


@dataclass(frozen=True, slots=True)
class ComparedMeeting:
    """A meeting as it is known from now on."""

    scheduled_event: str
    start_time: datetime
    told: Facts
    changes: int


@dataclass(frozen=True, slots=True)
class SweepTotals:
    """What a sweep came to: meetings that were compared, calls that it took, changes that were told."""

    meetings: int
    calls: int
    changes: int


@dataclass(frozen=True, slots=True)
class SweepsState:
    """How the sweeps of all organizations are.

    Attributes:
        never: organizations that were not swept whole yet.
        oldest: when the one that waits longest was last swept whole, or began to wait; None without organizations.
        failing: organizations whose last attempt failed; `named` is one of them.
        meetings: compared by the last sweeps, with so many calls.
    """

    organizations: int
    never: int
    oldest: datetime | None
    failing: int
    named: str | None
    meetings: int
    calls: int


@dataclass(frozen=True, slots=True)
class SweepState:
    """How the sweep of one organization is; see the columns of `slotwire.change_sweeps`."""

    due_at: datetime
    began_at: datetime | None
    ended_at: datetime | None
    meetings: int
    calls: int
    changes: int
    attempts: int
    problem: str | None


class SweepElsewhere(Exception):
    """Another process has the sweep by now."""


async def gather(pool: Pool, now: datetime, latest: timedelta) -> None:
    """Take organizations in that are new, and forget those that were removed.

    Sweeps that are due later than any can be are due now: they were made more rarely, or the clock was ahead.
    """
    with translated():
        await pool.execute(_SQL["hasten_sweeps"], now, now + max(latest, LEASE))
        await pool.execute(_SQL["add_sweeps"], now)


async def claim(pool: Pool, now: datetime, ahead: timedelta) -> SweepClaim | None:
    """Claim the sweep that has been due for longest; None if none is."""
    with translated():
        row = await pool.fetchrow(_SQL["claim_sweep"], now, now + LEASE, now + ahead)
    return None if row is None else SweepClaim(**row)


async def release(pool: Pool, held: SweepClaim, *, due_at: datetime, problem: str | None = None) -> None:
    """Give a claim back, with why it failed, if it did; it goes on from where it is."""
    with translated():
        await pool.execute(_SQL["release_sweep"], held.org, held.epoch, due_at, problem)


async def finish(pool: Pool, held: SweepClaim, now: datetime, again: datetime) -> SweepTotals:
    """End a sweep; the next one begins at a time.

    Raises:
        SweepElsewhere: another process has it by now.
    """
    with translated():
        row = await pool.fetchrow(_SQL["end_sweep"], held.org, held.epoch, now, again)
    if row is None:
        raise SweepElsewhere
    return SweepTotals(**row)


async def forget(pool: Pool) -> None:
    """Forget all that is known of meetings."""
    with translated():
        await pool.execute(_SQL["forget_sweeps"])


async def known_meetings(pool: Pool, org: str, uris: Collection[str]) -> dict[str, KnownMeeting]:
    """Return what is known of meetings, by their URI."""
    with translated():
        rows = await pool.fetch(_SQL["known_meetings"], org, list(uris))
    return {row["scheduled_event"]: KnownMeeting(orjson.loads(row["told"]), row["changes"]) for row in rows}


async def meetings_in_log(pool: Pool, org: str, uris: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Return what the log last told of meetings, by their URI: their documents."""
    if not uris:
        return {}
    with translated():
        rows = await pool.fetch(_SQL["meetings_in_log"], org, list(uris), InviteeCreated.type)
    found = {row["scheduled_event"]: orjson.loads(row["data"]).get("scheduled_event") for row in rows}
    return {uri: document for uri, document in found.items() if isinstance(document, dict)}


async def erased_guests(pool: Pool, org: str, addresses: Collection[str]) -> dict[str, datetime]:
    """Return which of some addresses, folded, are of people who were erased: until when what was made is erased."""
    asked = list(addresses)
    if not asked:
        return {}
    with translated():
        rows = await pool.fetch(_SQL["erased_guests"], org, asked)
    return {asked[row["number"] - 1]: row["until"] for row in rows}


async def missing_meetings(
    pool: Pool, org: str, *, since: datetime, before: datetime, listed: Collection[str], limit: int
) -> dict[str, bool]:
    """Return known meetings of a time that were not listed, each with whether we know that it is canceled."""
    with translated():
        rows = await pool.fetch(_SQL["missing_meetings"], org, since, before, list(listed), limit)
    return {row["scheduled_event"]: row["canceled"] for row in rows}


async def tell(
    pool: Pool,
    held: SweepClaim,
    *,
    now: datetime,
    reached: datetime,
    meetings: Sequence[ComparedMeeting],
    gone: Sequence[str],
    calls: int,
    events: Sequence[OwnEvent],
) -> None:
    """Store what is known from now on, with the events that tell what has changed, and keep the claim.

    Raises:
        SweepElsewhere: another process has it by now; nothing was stored or told.
        DatabaseUnavailable: it may be stored or not; whoever goes on tells nothing twice.
    """
    rows = [own_row(held.org, event, now) for event in events]
    written = orjson.dumps([_columns(each) for each in meetings]).decode()
    async with committing(pool, held.shard) as connection:
        row = await call_outright(
            connection,
            _SQL["tell_changes"],
            *(held.org, held.epoch, now, now + LEASE, reached, written, list(gone), calls, rows),
            seconds=COMMIT_SECONDS,
        )
    if not row["tell_changes"]:
        raise SweepElsewhere


async def sweep_state(pool: Pool, org: str) -> SweepState | None:
    """Say how the sweep of an organization is; None where it is not swept."""
    with translated():
        row = await pool.fetchrow(_SQL["sweep_state"], org)
    return None if row is None else SweepState(**row)


async def sweeps_state(connection: Pool | Connection) -> SweepsState:
    """Say how the sweeps are."""
    with translated():
        row = await connection.fetchrow(_SQL["sweeps_state"])
    assert row is not None  # noqa: S101 -- an aggregate always has a row
    return SweepsState(**row)


def _columns(meeting: ComparedMeeting) -> dict[str, Any]:
    return {
        "scheduled_event": meeting.scheduled_event,
        "start_time": meeting.start_time.isoformat(),
        "told": dict(meeting.told),
        "changes": meeting.changes,
    }
