"""The order of commits: whoever reads by position misses nothing, however many accept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.local.databases import Database
from slotwire.ingest.receive.accept import AcceptRow, accept
from tests.support import shard_lock
from tests.support.public_endpoint import invitee_body, make_hook, settings_for

ACCEPTING = 6
COMMITS = 40
RANGE = 1_000_000_000
"""Positions of a day."""


def row(org: str, body: bytes | None = None) -> AcceptRow:
    """Make something to let in."""
    now = datetime.now(UTC)
    return AcceptRow(uuid4(), org, None, "webhook", now, now, False, "", None, None, body or invitee_body())


async def organization(database: Database) -> str:
    """Make an organization known."""
    hook = await make_hook(settings_for(database), database)
    return hook.organization.rpartition("/")[2]


async def test_a_reader_by_position_misses_nothing(database: Database) -> None:
    """Six connections accept at once while a reader follows `position > cursor`: it sees every row, once, in order."""
    org, accepted, seen = await organization(database), asyncio.Event(), list[int]()

    async def let_in() -> None:
        connection = await asyncpg.connect(database.runtime_url)
        for size in range(COMMITS):
            rows = [row(org) for _ in range(1 + size % 5)]
            await accept(connection, 0, rows, now=datetime.now(UTC), seconds=20)
        await connection.close()

    async def read() -> None:
        connection = await asyncpg.connect(database.runtime_url)
        last_round = False
        while not last_round:
            last_round = accepted.is_set()
            rows = await connection.fetch(
                "SELECT position FROM slotwire.deliveries WHERE shard = 0 AND position > $1 ORDER BY position",
                seen[-1] if seen else 0,
            )
            seen.extend(each["position"] for each in rows)
        await connection.close()

    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read())
        async with asyncio.TaskGroup() as letting_in:
            for _ in range(ACCEPTING):
                letting_in.create_task(let_in())
        accepted.set()
        await reader
    total = ACCEPTING * sum(1 + size % 5 for size in range(COMMITS))
    assert len(seen) == len(set(seen)) == total
    assert seen == sorted(seen)


async def test_each_day_begins_a_range_and_none_is_waited_for(database: Database) -> None:
    """Tomorrow's rows go into tomorrow's partition; past the last one, or behind the clock, they go on in order."""
    org = await organization(database)
    connection = await asyncpg.connect(database.runtime_url)
    now = datetime.now(UTC)
    days = [0, 1, 0, 7, 400]
    positions = [await accept(connection, 0, [row(org)], now=now + timedelta(days=day), seconds=20) for day in days]
    last = await connection.fetchval("SELECT last_range FROM slotwire.log")
    tables = await connection.fetch("SELECT DISTINCT tableoid::regclass::text AS name FROM slotwire.deliveries")
    ahead = await connection.fetchval("SELECT slotwire.make_ranges($1, 7)", now + timedelta(days=400))
    later = await accept(connection, 0, [row(org)], now=now + timedelta(days=400), seconds=20)
    await connection.close()
    assert last == ahead == 7
    assert positions == [1, RANGE + 1, RANGE + 2, 7 * RANGE + 1, 7 * RANGE + 2]
    assert {each["name"] for each in tables} == {f"slotwire.deliveries_{day}" for day in (0, 1, 7)}
    assert later == 400 * RANGE + 1


async def test_a_missing_partition_is_unavailable_and_never_the_data_s_fault(database: Database) -> None:
    """Without a partition to go into nothing is accepted, the reason says so, and nothing is quarantined for it."""
    org = await organization(database)
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("DROP TABLE slotwire.deliveries_0")
    connection = await asyncpg.connect(database.runtime_url)
    with pytest.raises(DatabaseUnavailable, match="23514"):
        await accept(connection, 0, [row(org)], now=datetime.now(UTC), seconds=20)
    assert await owner.fetchval("SELECT count(*) FROM slotwire.quarantine") == 0
    await connection.close()
    await owner.close()


async def test_a_call_past_its_time_closes_the_connection_and_cancels_nothing(database: Database) -> None:
    """While the shard is locked an accept waits; past its time its connection is closed, and no cancel is sent."""
    org = await organization(database)
    holder = await asyncpg.connect(database.owner_url)
    connection = await asyncpg.connect(database.runtime_url)
    await accept(connection, 0, [row(org)], now=datetime.now(UTC), seconds=20)  # its types are known from here on
    await shard_lock.hold(holder)
    with pytest.raises(DatabaseUnavailable, match="in time"):
        await accept(connection, 0, [row(org)], now=datetime.now(UTC), seconds=0.5)
    assert connection.is_closed()
    await shard_lock.until_waiting(holder, 1)  # the server knows of no cancel, and waits on
    await shard_lock.release(holder)
    await holder.close()
