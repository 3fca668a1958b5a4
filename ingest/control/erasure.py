"""Erase a person: their data goes out of everything that is stored, and what agents do for them ends.

    begin ──commit──▶ the writer takes the data out of what comes in from now on
      └─▶ what was accepted before is settled ▶ find what is theirs ▶ end what agents have ▶ events ▶ bodies ▶ end, told

Each part may be repeated, so an erasure that was cut off goes on when somebody asks for it again. The address is not
stored: a keyed hash of it is, by which later copies are known (`ingest/log/erased.py`). Bookings, chains and ids stay,
by their URIs. Nothing is asked of Calendly, and records in Kafka stay until their retention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import orjson

from slotwire.ingest.errors import DatabaseUnavailable, RequestRefused
from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.clock import Clock, ordered_id
from slotwire.ingest.foundation.postgres import Pool, call_outright, read_queries, translated
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.receive.accept import OwnEvent, committing, own_row, until_settled
from slotwire.schemas.events import (
    BY_TYPE,
    ContactCreated,
    ContactUpdated,
    InviteeCanceled,
    InviteeCreated,
    InviteeErased,
    InviteeNoShowCreated,
    InviteeNoShowDeleted,
    MeetingRecapCreated,
    MeetingRecapUpdated,
    RoutingFormSubmissionCreated,
)
from slotwire.schemas.ids import event_id, folded_address

if TYPE_CHECKING:
    import asyncpg

PAGE = 500
"""Events or bodies that one statement looks at."""
ROWS_SECONDS = 60.0
"""How long it may take to end what agents have: it is one transaction."""
ACCEPT_SECONDS = 10.0
"""How long the commit of the end, with its events, may take."""
INTERVAL_SECONDS = 900.0
LATE = timedelta(days=2)
"""For how long after its end an erasure is repeated: an agent that was at work may have written then."""

_WAITED = frozenset({"55P03", "57014", "40P01", "timeout"})
"""No lock in time, a statement that took too long, a deadlock: others hold what one erasure needs."""
_OUTCOMES = ("stored", "duplicate", "quarantined")
_FINDING = (
    InviteeCreated,
    InviteeCanceled,
    InviteeNoShowCreated,
    InviteeNoShowDeleted,
    RoutingFormSubmissionCreated,
    ContactCreated,
    ContactUpdated,
    MeetingRecapCreated,
    MeetingRecapUpdated,
)
"""Events that say whose they are."""
_SQL = read_queries("slotwire.ingest.sql", "erasures.sql")
_log = get_logger("erasures")


@dataclass(frozen=True, slots=True)
class ErasureRecord:
    """An erasure.

    Attributes:
        state: `open` until it has ended.
        asked_by: who asked, as the audit names them.
        report: how much of what was erased or ended; empty while it is open.
        subjects: how many invitees, contacts and submissions are the person's.
        waits_for: why this attempt did not end it: the `writer`, or `actions` that are under way.
    """

    id: UUID
    org: str
    state: Literal["open", "done"]
    asked_at: datetime
    asked_by: str
    done_at: datetime | None
    report: Mapping[str, int]
    subjects: int
    waits_for: Literal["writer", "actions"] | None = None


async def erase(
    pool: Pool, clock: Clock, org: str, *, address: str | None, invitees: Sequence[str], by: str, seconds: float
) -> ErasureRecord:
    """Erase a person of an organization.

    Args:
        pool: the database.
        clock: the time.
        org: the organization.
        address: the person's e-mail address; None for the named invitees only.
        invitees: URIs of invitees who are the person.
        by: who asks.
        seconds: how long to wait for the writer.

    Returns:
        The erasure; `waits_for` says why it is still open. Ask again then.

    Raises:
        RequestRefused: there is no such organization.
    """
    address = None if address is None else folded_address(address)
    now = clock.now()
    with translated():
        begun = await pool.fetchrow(_SQL["begin_erasure"], ordered_id(now), org, address, list(invitees), by, now)
    if begun is None:
        raise RequestRefused(
            "there is no such organization within reach",
            code="not_found",
            remedy="List them: slotwire organizations list",
        )
    erasure, shard, accepted = begun["erasure"], begun["shard"], begun["accepted"]
    if accepted is not None and not await until_settled(pool, shard, accepted, seconds=seconds):
        return await read_one(pool, erasure, org, waits_for="writer")
    if address is not None:
        for kind in _FINDING:
            await _find(pool, erasure, address, kind.type)
    report = await _end_rows(pool, erasure, address, now)
    under_way = report.pop("under_way")
    report["events"] = sum([await _through(pool, _SQL["erase_events"], erasure, address, kind) for kind in BY_TYPE])
    report["deliveries"] = sum(
        [await _through(pool, _SQL["erase_deliveries"], erasure, address, each) for each in _OUTCOMES]
    )
    if under_way:
        return await read_one(pool, erasure, org, waits_for="actions")
    await _end(pool, erasure, org, shard, report, clock.now())
    return await read_one(pool, erasure, org)


async def _find(pool: Pool, erasure: UUID, address: str, kind: str) -> None:
    after: int | None = 0
    while after is not None:
        with translated():
            after = await pool.fetchval(_SQL["find_erased"], erasure, address, kind, after, PAGE)


async def _end_rows(pool: Pool, erasure: UUID, address: str | None, now: datetime) -> dict[str, int]:
    with translated():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = '{int(ROWS_SECONDS)}s'")
            counted = await connection.fetchval(_SQL["erase_rows"], erasure, address, now, timeout=ROWS_SECONDS)
    found: dict[str, int] = orjson.loads(counted)
    return found


async def _through(pool: Pool, statement: str, erasure: UUID, address: str | None, kind: str) -> int:
    """Go through events or bodies a page at a time; return how many lost data."""
    after: int | None = 0
    erased = 0
    while after is not None:
        with translated():
            row: Any = await pool.fetchrow(statement, erasure, address, kind, after, PAGE)
        after = row["last"]
        erased += row["erased"]
    return erased


async def _end(pool: Pool, erasure: UUID, org: str, shard: int, report: Mapping[str, int], now: datetime) -> None:
    with translated():
        organization = await pool.fetchval(_SQL["organization_uri"], org)
        rows = await pool.fetch(_SQL["erased_invitees"], erasure)
    events = [erased_event(organization, row["invitee"], row["chain_key"], erasure, now) for row in rows]
    async with committing(pool, shard) as connection:
        written = [own_row(org, each, now) for each in events]
        told = (erasure, orjson.dumps(report).decode(), now, written)
        await call_outright(connection, _SQL["end_erasure"], *told, seconds=ACCEPT_SECONDS)


def erased_event(organization: str, invitee: str, key: str, erasure: UUID, now: datetime) -> OwnEvent:
    """Make the event that tells agents that an invitee was erased, in the order of their chain."""
    data = InviteeErased(uri=invitee, organization=organization, erasure_id=erasure, erased_at=now)
    made = event_id(organization, "invitee.erased", invitee, str(erasure))
    return OwnEvent(made, data, subject=invitee, key=key, time=now)


async def read_one(
    pool: Pool, erasure: UUID, org: str | None, *, waits_for: Literal["writer", "actions"] | None = None
) -> ErasureRecord:
    """Read one erasure.

    Raises:
        RequestRefused: there is none within reach.
    """
    with translated():
        row = await pool.fetchrow(_SQL["erasure"], erasure, org)
    if row is None:
        raise RequestRefused(
            "there is no such erasure within reach", code="not_found", remedy="`slotwire erase --list` shows them."
        )
    return _record(row, waits_for)


async def read_page(pool: Pool, org: str | None, *, before: UUID | None, limit: int) -> list[ErasureRecord]:
    """Read erasures before one, newest first."""
    with translated():
        rows = await pool.fetch(_SQL["erasures_page"], before, org, limit)
    return [_record(row, None) for row in rows]


def _record(row: asyncpg.Record, waits_for: Literal["writer", "actions"] | None) -> ErasureRecord:
    return ErasureRecord(**{**dict(row), "report": orjson.loads(row["report"])}, waits_for=waits_for)


async def run(pool: Pool, clock: Clock) -> None:
    """Repeat what has ended lately now and then, for ever."""
    await repeat(lambda: run_once(pool, clock), stage="erasures", seconds=INTERVAL_SECONDS)


async def run_once(pool: Pool, clock: Clock) -> int:
    """End again what agents have of people who were erased lately; return of how many erasures.

    Each is a transaction of its own: one that has to wait too long is done in the next round, and holds up no other.

    Raises:
        DatabaseUnavailable: Postgres is away; the next round does the rest.
    """
    now, ended = clock.now(), 0
    with translated():
        rows = await pool.fetch(_SQL["late_erasures"], now - LATE)
    for row in rows:
        try:
            await _end_rows(pool, row["id"], None, now)
        except DatabaseUnavailable as problem:
            if problem.reason not in _WAITED:
                raise
            _log.warning("late_work_left", erasure=str(row["id"]), error=problem.message)
        else:
            ended += 1
    return ended
