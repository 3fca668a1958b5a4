"""Whose turn it is: what one append takes of a backlog, in rows, in bytes and of each tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.backlog import MAX_BYTES, MAX_ROWS
from slotwire.ingest.log.parts import MAX_PARTS, STEP_PARTS, count_parts
from slotwire.ingest.log.writer import Writer
from slotwire.ingest.receive.accept import accept, retry_row
from tests.support.door import SECONDS, add_organization, let_in
from tests.support.public_endpoint import invitee_body, settings_for

LARGE = 900_000


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """A connection of the owner, with three organizations made known."""
    connection = await asyncpg.connect(database.owner_url)
    for org in "ABC":
        await add_organization(connection, org)
    yield connection
    await connection.close()


async def turns(database: Database, owner: Connection) -> list[str]:
    """Write everything; return whose deliveries each append settled, in their order."""
    writer, found, seen = Writer(settings_for(database), 0, SystemClock()), list[str](), 0
    await writer.take_over()
    while await writer.step():
        rows = await owner.fetch(
            "SELECT d.org FROM slotwire.results r JOIN slotwire.deliveries d USING (shard, position)"
            " ORDER BY r.settled_at, r.position OFFSET $1",
            seen,
        )
        found.append("".join(row["org"] for row in rows))
        seen += len(rows)
    await writer.close()
    return found


def large() -> bytes:
    """Write a body that fills most of an append."""
    return invitee_body(text_reminder_number="x" * LARGE)


async def test_an_append_takes_so_many_rows_and_not_one_more(database: Database, owner: Connection) -> None:
    """A hundred at once; the next one comes with the next append."""
    await let_in(owner, *(invitee_body() for _ in range(MAX_ROWS + 1)))
    assert [len(each) for each in await turns(database, owner)] == [MAX_ROWS, 1]


async def test_large_bodies_of_one_tenant_do_not_hold_back_the_small_ones_of_another(
    database: Database, owner: Connection
) -> None:
    """A small one behind eight large ones goes with the first append; the third tenant's large one takes its turn."""
    await let_in(owner, *(large() for _ in range(6)))
    await let_in(owner, *(large() for _ in range(2)), org="B")
    await let_in(owner, invitee_body(), large(), org="C")
    found = await turns(database, owner)
    assert "C" in found[0]
    assert all(sum(1 for _ in each) <= 3 for each in found)
    assert sorted("".join(found)) == sorted("AAAAAABBCC")
    assert "B" in "".join(found[:3])
    assert "".join(found).rindex("C") < "".join(found).rindex("A")


async def test_retries_of_large_bodies_are_counted_with_the_bodies_they_point_at(
    database: Database, owner: Connection
) -> None:
    """A retry has no body of its own; the ones it stands for are read a few at a time all the same."""
    bodies = [b"[" + b" " * LARGE for _ in range(4)]
    await let_in(owner, *bodies)
    await turns(database, owner)
    waiting = await owner.fetch("SELECT delivery_id FROM slotwire.quarantine")
    now = datetime.now(UTC)
    rows = [retry_row("A", each["delivery_id"], now) for each in waiting]
    await accept(owner, 0, rows, now=now, seconds=SECONDS)
    writer = Writer(settings_for(database), 0, SystemClock())
    await writer.take_over()
    steps = 0
    while await writer.step():
        steps += 1
    await writer.close()
    assert steps >= len(bodies) * LARGE // (2 * MAX_BYTES)
    assert await owner.fetchval("SELECT count(*) FROM slotwire.results") == 8


def costly() -> bytes:
    """Write a small body that has as many parts as a body may have."""
    empty = invitee_body(unheard_of=[])
    room = MAX_PARTS - count_parts(empty)
    return empty.replace(b'"unheard_of":[]', b'"unheard_of":[' + b",".join([b"1"] * room) + b"]")


async def test_an_append_takes_so_many_parts_and_the_rest_waits_its_turn(database: Database, owner: Connection) -> None:
    """Small bodies that cost as much as a body can: the oldest and two more, and each other tenant's beside them."""
    assert STEP_PARTS == 2 * MAX_PARTS
    await let_in(owner, *(costly() for _ in range(7)))
    assert await turns(database, owner) == ["AAA", "AAA", "A"]


async def test_a_flood_of_the_worst_bodies_costs_others_no_more_than_its_share(
    database: Database, owner: Connection
) -> None:
    """Behind thirty of the worst bodies of A, B and C are served in the first append, and in every one as they come."""
    writer = Writer(settings_for(database), 0, SystemClock())
    await let_in(owner, *(costly() for _ in range(30)))
    await writer.take_over()
    for _ in range(5):
        small = [*await let_in(owner, invitee_body(), org="B"), *await let_in(owner, invitee_body(), org="C")]
        await writer.step()
        settled = await owner.fetchval("SELECT count(*) FROM slotwire.results WHERE position = ANY ($1)", small)
        assert settled == len(small)
    of_a = await owner.fetchval(
        "SELECT count(*) FROM slotwire.results r JOIN slotwire.deliveries d USING (shard, position) WHERE d.org = 'A'"
    )
    assert 5 <= of_a <= 5 * (1 + STEP_PARTS // MAX_PARTS)
    await writer.close()


async def test_deliveries_whose_events_are_too_much_together_are_appended_in_halves(
    database: Database, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are written once, none is blamed, and each append has at most what it may have."""
    monkeypatch.setattr("slotwire.ingest.log.batch.MAX_APPEND_BYTES", 10_000)
    await let_in(owner, *(invitee_body() for _ in range(20)))
    writer = Writer(settings_for(database), 0, SystemClock())
    await writer.take_over()
    appended = await writer.step()
    await writer.close()
    assert len(appended) > 1
    assert sum(len(each.rows) for each in appended) == 20
    assert all(sum(len(row.data) for row in each.rows) <= 10_000 for each in appended)
    assert await owner.fetchval("SELECT count(*) FROM slotwire.quarantine") == 0
