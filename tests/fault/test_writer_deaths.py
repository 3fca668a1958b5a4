"""The writer's process when it dies again and again, loses an answer, or reads what kills it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import orjson
import pytest

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.writer import Appended, Writer
from tests.support.door import add_organization, let_in
from tests.support.public_endpoint import invitee_body, new_invitee, settings_for
from tests.support.writing import DELIVERIES

STARTS = 12
"""More than any of these tests needs."""
FLOOD = 5_000
KILLS = 15
LATE = "late"
MORTAL = """
import asyncio, os, sys
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.settings import load_settings
from slotwire.ingest.log import writer
from slotwire.ingest.log.normalize import normalize

def deadly(delivery):
    if b"deadly" in delivery.body:
        os._exit(9)
    return normalize(delivery)

writer.normalize = deadly

async def main():
    it = writer.Writer(load_settings(), 0, SystemClock())
    await it.take_over()
    while await it.step():
        pass
    await it.close()

asyncio.run(main())
"""


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """A connection of the owner, with organization A made known."""
    connection = await asyncpg.connect(database.owner_url)
    await add_organization(connection)
    yield connection
    await connection.close()


async def starts_until_written(database: Database, folder: Path) -> int:
    """Start a writer whose process ends at a deadly body, until one comes to its end; return how many started."""
    program = folder / "mortal.py"
    program.write_text(MORTAL)
    env = {**os.environ, "SLOTWIRE_DATABASE_URL": database.runtime_url, "SLOTWIRE_LOG__LEVEL": "error"}
    for start in range(1, STARTS):
        child = await asyncio.create_subprocess_exec(sys.executable, str(program), env=env, cwd=Path.cwd())
        async with asyncio.timeout(60):
            code = await child.wait()
        if code == 0:
            return start
        assert code == 9
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("restarts", [0, 3], ids=["at once", "after harmless restarts"])
@pytest.mark.parametrize("place", [0, 150], ids=["first", "in the middle"])
async def test_a_delivery_that_ends_the_process_is_quarantined_by_the_fourth_start(
    database: Database, owner: Connection, tmp_path: Path, *, place: int, restarts: int
) -> None:
    """It ends the process three times, wherever it stands; then it is put aside unread, and its neighbours go on."""
    for _ in range(restarts):
        writer = Writer(settings_for(database), 0, SystemClock())
        await writer.take_over()
        await writer.close()
    bodies = [invitee_body() for _ in range(200)]
    bodies[place] = invitee_body(name="deadly")
    positions = await let_in(owner, *bodies)
    assert await starts_until_written(database, tmp_path) <= 4
    rows = await owner.fetch(f"SELECT position, outcome FROM {DELIVERIES} AS d ORDER BY position")
    assert Counter(row["outcome"] for row in rows) == {"stored": 199, "quarantined": 1}
    assert [row["position"] for row in rows if row["outcome"] == "quarantined"] == [positions[place]]
    [kept] = await owner.fetch("SELECT reason, detail, body FROM slotwire.quarantine")
    assert (kept["reason"], kept["detail"], kept["body"]) == ("defect", "it ended the process", bodies[place])


async def test_two_that_end_the_process_are_both_found(database: Database, owner: Connection, tmp_path: Path) -> None:
    """Each costs its three deaths at the most; what is between and behind them is written."""
    bodies = [invitee_body(name="deadly" if number in {3, 120} else "Ada") for number in range(200)]
    await let_in(owner, *bodies)
    assert await starts_until_written(database, tmp_path) <= 7
    rows = await owner.fetch(f"SELECT outcome, position FROM {DELIVERIES} AS d ORDER BY position")
    assert [number for number, row in enumerate(rows) if row["outcome"] == "quarantined"] == [3, 120]
    assert sum(row["outcome"] == "stored" for row in rows) == 198


class Unanswered(Writer):
    """Loses the answer of each append: its backend is ended after the commit, before the client has read it."""

    async def _call(self, name: str, *arguments: object) -> object:
        found = await super()._call(name, *arguments)
        if name == "append":
            raise DatabaseUnavailable("the answer was lost", reason="unreachable")
        return found


async def test_an_append_whose_answer_was_lost_is_neither_repeated_nor_skipped(
    database: Database, owner: Connection
) -> None:
    """The next take-over tells that it is there, whatever the writer believed; bookings are at their revision."""
    invitees = [new_invitee() for _ in range(20)]
    for each in invitees:
        await let_in(owner, invitee_body(invitee=each), invitee_body("invitee.canceled", invitee=each))
        writer = Unanswered(settings_for(database), 0, SystemClock())
        await writer.take_over()
        for _ in range(2):  # after a lost answer one by one
            with suppress(DatabaseUnavailable):
                await writer.step()
            await writer.take_over()
        assert await writer.step() == []
        await writer.close()
    outcomes = await owner.fetch(f"SELECT outcome FROM {DELIVERIES} AS d")
    assert [row["outcome"] for row in outcomes] == ["stored"] * 40
    log = await owner.fetch("SELECT subject, data FROM slotwire.events ORDER BY position")
    assert [row["subject"] for row in log] == [each for each in invitees for _ in range(2)]
    assert [orjson.loads(row["data"])["booking"]["revision"] for row in log] == [1, 2] * 20
    assert await owner.fetchval("SELECT count(*) FROM slotwire.bookings WHERE revision = 2") == 20


async def test_a_backend_ended_in_the_middle_leaves_all_or_nothing(database: Database, owner: Connection) -> None:
    """The server ends the writer's session again and again while it appends: each delivery is settled once."""
    writer = Writer(settings_for(database), 0, SystemClock())
    kills = accepted = 0

    async def write() -> None:
        nonlocal accepted
        all_written = True
        while kills < KILLS or not all_written:
            if all_written:  # whoever kills is slower than the writer
                accepted += len(await let_in(owner, *(invitee_body() for _ in range(500))))
            all_written = False
            with suppress(DatabaseUnavailable):
                await writer.take_over()
                while await writer.step():
                    pass
                all_written = True

    killer = await asyncpg.connect(database.runtime_url)  # the writer's own role: others are not shown its state
    task = asyncio.ensure_future(write())
    while kills < KILLS:
        kills += await killer.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'slotwire-writer'"
            " AND datname = current_database() AND state = 'active' AND query LIKE '%slotwire.append%'"
        )
    async with asyncio.timeout(60):
        await task
    await killer.close()
    await writer.close()
    sys.stderr.write(f"{kills} kills, {accepted} deliveries\n")
    rows = await owner.fetch(f"SELECT outcome, event_id FROM {DELIVERIES} AS d")
    assert Counter(row["outcome"] for row in rows) == {"stored": accepted}
    assert len({row["event_id"] for row in rows}) == accepted
    assert await owner.fetchval("SELECT count(*) FROM slotwire.events") == accepted


async def _flooded(database: Database, owner: Connection, flood: int) -> list[list[str]]:
    """Write a flood of one tenant with a delivery of another one behind it, by a new leader for every two appends.

    Returns:
        Whose deliveries each append settled, up to the end.
    """
    await add_organization(owner, "B")
    for start in range(0, flood, 500):
        await let_in(owner, *(invitee_body() for _ in range(min(500, flood - start))))
    appends: list[list[str]] = []
    late = False
    while True:
        writer = Writer(settings_for(database), 0, SystemClock())
        await writer.take_over()
        written: list[Appended] = []
        for _ in range(2):
            if not late and len(appends) == 6:
                await let_in(owner, invitee_body(name=LATE), org="B")
                late = True
            step = await writer.step()
            appends.append([row.org for each in step for row in each.rows])
            written += step
        await writer.close()
        if not written:
            return appends


async def _settled_once(owner: Connection, flood: int) -> None:
    rows = await owner.fetch("SELECT outcome, count(*) AS n FROM slotwire.results GROUP BY outcome")
    assert [(row["outcome"], row["n"]) for row in rows] == [("stored", flood + 1)]
    head = await owner.fetchrow("SELECT position FROM slotwire.heads ORDER BY version DESC LIMIT 1")
    assert head is not None
    assert head["position"] == await owner.fetchval("SELECT max(position) FROM slotwire.deliveries")
    assert await owner.fetchval("SELECT count(*) FROM slotwire.events") == flood + 1


async def test_who_comes_into_a_flood_is_served_by_the_next_append(database: Database, owner: Connection) -> None:
    """Five thousand of one tenant, a new leader for every two appends: another tenant's is settled by the next two."""
    appends = await _flooded(database, owner, FLOOD)
    sys.stderr.write(f"{len(appends) // 2} leaders, {FLOOD + 1} deliveries\n")
    assert "B" in [org for append in appends[6:8] for org in append]
    assert sum(append.count("B") for append in appends) == 1
    await _settled_once(owner, FLOOD)


@pytest.mark.soak
async def test_who_comes_into_a_flood_of_a_hundred_thousand(database: Database, owner: Connection) -> None:
    """The long form."""
    appends = await _flooded(database, owner, 100_000)
    sys.stderr.write(f"{len(appends) // 2} leaders, 100001 deliveries\n")
    assert "B" in [org for append in appends[6:8] for org in append]
    await _settled_once(owner, 100_000)
