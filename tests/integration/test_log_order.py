"""The log's order: whoever reads by position misses nothing, however many write."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.normalize import InviteeFact, normalize
from slotwire.ingest.log.store import Log
from slotwire.ingest.receive.verify import Tenant, VerifiedDelivery, verified_before
from tests.support import shard_lock
from tests.support.public_endpoint import invitee_body, new_invitee

WRITERS = 6
BATCHES = 40


def delivery(body: bytes, org: str = "A") -> VerifiedDelivery:
    """Make a verified delivery for one organization."""
    tenant = Tenant(f"https://api.calendly.com/organizations/{org}", org, 0, None, uuid4())
    now = datetime.now(UTC)
    return verified_before(uuid4(), tenant, body, received_at=now, signed_at=now, traceparent=None)


async def test_a_reader_by_position_misses_nothing(database: Database) -> None:
    """Six writers append at once while a reader follows `position > cursor`: it sees every event, once, in order."""
    logs = [Log(database.runtime_url, DatabaseSettings(), 0, SystemClock()) for _ in range(WRITERS)]
    written = asyncio.Event()
    seen: list[int] = []

    async def write(log: Log) -> None:
        for size in range(BATCHES):
            facts = [normalize(delivery(invitee_body())) for _ in range(1 + size % 5)]
            outcomes = await log.append(facts)
            assert all(outcome is not None and outcome.outcome == "stored" for outcome in outcomes)

    async def read() -> None:
        connection = await asyncpg.connect(database.runtime_url)
        last_round = False
        while not last_round:
            last_round = written.is_set()
            cursor = seen[-1] if seen else 0
            rows = await connection.fetch(
                "SELECT position FROM slotwire.events WHERE shard = 0 AND position > $1 ORDER BY position", cursor
            )
            seen.extend(row["position"] for row in rows)
        await connection.close()

    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read())
        async with asyncio.TaskGroup() as writing:
            for log in logs:
                writing.create_task(write(log))
        written.set()
        await reader
    total = WRITERS * sum(1 + size % 5 for size in range(BATCHES))
    assert len(seen) == len(set(seen)) == total
    assert seen == sorted(seen)
    for log in logs:
        await log.close()


async def test_two_writers_of_one_booking_converge(database: Database) -> None:
    """Writers that read the same row at once do not overwrite each other: the later one is sent round again."""
    logs = [Log(database.runtime_url, DatabaseSettings(), 0, SystemClock()) for _ in range(4)]
    invitee = new_invitee()
    names = ("invitee.created", "invitee.canceled", "invitee_no_show.created", "invitee_no_show.deleted")
    mark = {"uri": "https://api.calendly.com/invitee_no_shows/M", "created_at": "2026-11-23T09:00:00.5Z"}
    facts = [
        normalize(
            delivery(invitee_body(name, invitee=invitee, no_show=mark if name.endswith("show.created") else None))
        )
        for name in names
    ]
    assert all(isinstance(fact, InviteeFact) for fact in facts)

    async def write(log: Log, position: int) -> int:
        tries = 0
        outcome = None
        while outcome is None:
            tries += 1
            [outcome] = await log.append([facts[position]])
        return tries

    connection = await asyncpg.connect(database.owner_url)
    await shard_lock.hold(connection)  # all read before one writes
    writing = asyncio.gather(*(write(log, position) for position, log in enumerate(logs)))
    await shard_lock.until_waiting(connection, len(logs))
    await shard_lock.release(connection)
    tries = await writing
    types = [row["type"] for row in await connection.fetch("SELECT type FROM slotwire.events ORDER BY position")]
    booking = await connection.fetchrow("SELECT state, marks FROM slotwire.bookings")
    await connection.close()
    assert types[0] == "com.calendly.invitee.created.v1"
    assert len(types) == len(set(types)) == 4
    assert booking is not None
    assert booking["state"] == "canceled"
    assert '"cleared_at": "2026' in booking["marks"]
    assert min(tries) == 1
    assert sum(tries) > len(logs)
    for log in logs:
        await log.close()
