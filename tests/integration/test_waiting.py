"""What came without its counterpart: published or counted after a while, and joined all the same when it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson

from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import Settings, WaitingSettings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.waiting import PAGE, Waiting, run, run_once
from slotwire.schemas.ids import event_id
from tests.support.public_endpoint import invitee_body, make_hook, new_invitee, running_endpoint, settings_for


class Rounds:
    """A clock that is ahead, and tells how often it was asked: once at the start of each round."""

    def __init__(self) -> None:
        self._asked = 0
        self._more = asyncio.Event()

    def now(self) -> datetime:
        """Return a time when all waits are over."""
        self._asked += 1
        self._more.set()
        return datetime.now(UTC) + LATER

    async def after(self, rounds: int) -> None:
        """Wait until so many rounds have begun and ended from now on."""
        goal = self._asked + rounds + 1
        while self._asked < goal:
            self._more.clear()
            await self._more.wait()


WAIT = WaitingSettings(publish_after_seconds=900, interval_seconds=60)
MARKED = "2026-11-23T09:59:58.500000Z"
CLEARED = "2026-11-23T10:00:00Z"
LATER = timedelta(minutes=16)


@asynccontextmanager
async def pooled(settings: Settings) -> AsyncIterator[Pool]:
    """Open a pool as `slotwire control` does."""
    async with create_pool(settings.database_url.get_secret_value(), settings.database, application="test") as pool:
        yield pool


async def rows(database: Database, query: str) -> list[dict[str, Any]]:
    """Ask the database as its owner."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        return [dict(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def marked(invitee: str, number: int = 1) -> bytes:
    """Tell a mark that was set before the clear."""
    mark = {"uri": f"https://api.calendly.com/invitee_no_shows/{number}", "created_at": MARKED}
    return invitee_body("invitee_no_show.created", invitee=invitee, no_show=mark)


def cleared(invitee: str, at: str = CLEARED) -> bytes:
    """Tell a clear."""
    return invitee_body("invitee_no_show.deleted", invitee=invitee, told_at=at, no_show=None)


async def test_a_clear_without_a_mark_is_published_once_under_its_second(database: Database) -> None:
    """Not before the wait is over, once however often one looks, from the clear's own body; a copy is a duplicate."""
    settings = settings_for(database)
    hook, invitee, now = await make_hook(settings, database), new_invitee(), datetime.now(UTC)
    async with running_endpoint(settings) as endpoint, pooled(settings) as pool:
        await endpoint.deliver(hook, cleared(invitee))
        early = await run_once(pool, WAIT, now=now)
        both = await asyncio.gather(*(run_once(pool, WAIT, now=now + LATER) for _ in range(2)))
        late = await run_once(pool, WAIT, now=now + 2 * LATER)
        assert (await endpoint.deliver(hook, cleared(invitee))).status_code == 200
    assert early == late == Waiting(0, 0, 0)
    assert sum(each.published for each in both) == 1
    created, published = await rows(database, "SELECT * FROM slotwire.events ORDER BY position")
    assert created["type"] == "com.calendly.invitee.created.v1"
    assert published["event_id"] == event_id(hook.organization, "invitee_no_show.deleted", invitee, CLEARED)
    data = orjson.loads(published["data"])
    assert (data["cleared_mark"], data["cleared_at"], data["uri"]) == (None, CLEARED, invitee)
    assert data["booking"] == {"state": "active", "revision": 2, "no_show": False, "chain_root": invitee}
    assert published["recorded_at"] == now + LATER
    deliveries = await rows(database, "SELECT id, outcome, event_id FROM slotwire.deliveries ORDER BY id")
    assert [(each["outcome"], each["event_id"]) for each in deliveries] == [
        ("stored", None),
        ("duplicate", published["event_id"]),
    ]
    assert published["delivery_id"] == deliveries[0]["id"]
    [booking] = await rows(database, "SELECT waits_since, revision FROM slotwire.bookings")
    assert booking == {"waits_since": None, "revision": 2}


async def test_a_mark_that_comes_after_its_clear_was_published_binds_to_it(database: Database) -> None:
    """The late mark is told as set and cleared; no second `deleted` follows."""
    settings = settings_for(database)
    hook, invitee = await make_hook(settings, database), new_invitee()
    async with running_endpoint(settings) as endpoint, pooled(settings) as pool:
        await endpoint.deliver(hook, cleared(invitee))
        await run_once(pool, WAIT, now=datetime.now(UTC) + LATER)
        await endpoint.deliver(hook, marked(invitee))
        after = await run_once(pool, WAIT, now=datetime.now(UTC) + LATER)
    assert after == Waiting(0, 0, 0)
    events = await rows(database, "SELECT type, data FROM slotwire.events ORDER BY position")
    assert [(each["type"].split(".")[2:4], orjson.loads(each["data"])["booking"]["no_show"]) for each in events] == [
        (["invitee", "created"], False),
        (["invitee_no_show", "deleted"], False),
        (["invitee_no_show", "created"], False),
    ]
    [booking] = await rows(database, "SELECT marks, clears FROM slotwire.bookings")
    assert [each["cleared_at"] for each in orjson.loads(booking["marks"])] == ["2026-11-23T10:00:00+00:00"]
    assert [each["alone"] for each in orjson.loads(booking["clears"])] == [True]


async def test_a_mark_that_comes_in_time_leaves_nothing_to_publish(database: Database) -> None:
    """Within the wait the mark takes its clear, in the transaction that tells it."""
    settings = settings_for(database)
    hook, invitee = await make_hook(settings, database), new_invitee()
    async with running_endpoint(settings) as endpoint, pooled(settings) as pool:
        await endpoint.deliver(hook, cleared(invitee))
        [waiting] = await rows(database, "SELECT waits_since FROM slotwire.bookings")
        await endpoint.deliver(hook, marked(invitee))
        after = await run_once(pool, WAIT, now=datetime.now(UTC) + LATER)
    assert waiting["waits_since"] is not None
    assert after == Waiting(0, 0, 0)
    events = await rows(database, "SELECT type FROM slotwire.events ORDER BY position")
    assert [each["type"].split(".")[3] for each in events] == ["created", "created", "deleted"]


async def test_more_than_a_page_is_published_in_one_round(database: Database) -> None:
    """Clears are read page by page until none is left; one whose body cannot be read holds up nobody and is counted."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint, pooled(settings) as pool:
        invitees = [new_invitee() for _ in range(PAGE // 2)]
        told = [cleared(invitee, f"2026-11-23T10:00:0{n}Z") for invitee in invitees for n in range(3)]
        await asyncio.gather(*(endpoint.deliver(hook, body) for body in told))
        await rows(
            database,
            "UPDATE slotwire.deliveries SET body = 'no longer JSON'"
            " WHERE id = (SELECT id FROM slotwire.deliveries ORDER BY id LIMIT 1)",
        )
        found = await run_once(pool, WAIT, now=datetime.now(UTC) + LATER)
    assert found == Waiting(len(told) - 1, 1, 0)
    [count] = await rows(
        database, "SELECT count(*) AS n FROM slotwire.events WHERE type = 'com.calendly.invitee_no_show.deleted.v1'"
    )
    assert count["n"] == len(told) - 1
    assert REGISTRY.get_sample_value("slotwire_waiting", {"kind": "clear"}) == 1


async def test_a_waiting_half_is_counted_until_the_other_one_comes(database: Database) -> None:
    """Either half alone shows after the wait, and is joined however late the other one is."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    for turned in (False, True):
        old, new = new_invitee(), new_invitee()
        halves = [
            invitee_body("invitee.canceled", invitee=old, rescheduled=True, new_invitee=new),
            invitee_body("invitee.created", invitee=new, old_invitee=old),
        ]
        first, second = reversed(halves) if turned else halves
        async with running_endpoint(settings) as endpoint, pooled(settings) as pool:
            await endpoint.deliver(hook, first)
            soon = await run_once(pool, WAIT, now=datetime.now(UTC))
            overdue = await run_once(pool, WAIT, now=datetime.now(UTC) + LATER)
            gauge = REGISTRY.get_sample_value("slotwire_waiting", {"kind": "reschedule"})
            await endpoint.deliver(hook, second)
            joined = await run_once(pool, WAIT, now=datetime.now(UTC) + LATER)
        assert (soon.reschedules, overdue.reschedules, gauge, joined.reschedules) == (0, 1, 1, 0)
    moved = await rows(database, "SELECT type FROM slotwire.events WHERE type LIKE '%rescheduled%'")
    assert len(moved) == 2


async def test_a_round_that_fails_is_followed_by_the_next(database: Database) -> None:
    """Postgres out of reach is logged; the loop goes on and publishes when it is back."""
    settings = settings_for(database)
    hook, invitee = await make_hook(settings, database), new_invitee()
    quick = WaitingSettings(publish_after_seconds=0.001, interval_seconds=0.01)
    clock = Rounds()
    async with running_endpoint(settings) as endpoint:
        await endpoint.deliver(hook, cleared(invitee))
    async with pooled(settings) as pool, asyncio.timeout(30):
        await rows(database, "ALTER TABLE slotwire.deliveries RENAME TO away")
        chore = asyncio.create_task(run(pool, quick, clock))
        await clock.after(1)
        await rows(database, "ALTER TABLE slotwire.away RENAME TO deliveries")
        await clock.after(2)
        chore.cancel()
        await asyncio.gather(chore, return_exceptions=True)
    assert chore.cancelled()
    events = await rows(database, "SELECT type FROM slotwire.events ORDER BY position")
    assert [each["type"].split(".")[3] for each in events] == ["created", "deleted"]
