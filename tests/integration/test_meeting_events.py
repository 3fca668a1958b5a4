"""Events of the moments of scheduled events: by setting, once for each start, whoever tells and however late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from slotwire.ingest.control import meeting_rounds
from slotwire.ingest.control.meeting_events import MAX_LATE
from slotwire.ingest.control.meeting_rounds import PAGE, ROUND_SECONDS, MeetingTeller
from slotwire.ingest.foundation.meetings_settings import MeetingsSettings
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.schemas.events import MeetingEnded, MeetingStarted, MeetingStarting
from slotwire.schemas.ids import event_id
from slotwire.schemas.topics import SCHEDULED_EVENT
from tests.support.agent_setup import until
from tests.support.public_endpoint import settings_for
from tests.support.schedules_setup import EVENTS, HOST, ORGANIZATIONS, Bookings, bookings_of, invitee_of
from tests.support.writing import write_all

BEGIN = datetime(2026, 11, 23, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ON = MeetingsSettings(events=True)


@pytest.fixture
async def bookings(database: Database) -> AsyncIterator[Bookings]:
    """Organizations and bookings, at a time that the test moves."""
    async with bookings_of(database, BEGIN) as made:
        await made.add("ACME", "BETA")
        yield made


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Connections of `control`."""
    async with create_pool(database.url_of["control"], DatabaseSettings(pool_size=2), application="test") as opened:
        yield opened


async def told(bookings: Bookings) -> list[tuple[str, str, int]]:
    """What the log has: which moment of which meeting, and how many minutes after the beginning it was."""
    rows = await bookings.owner.fetch("SELECT type, key, time FROM slotwire.events ORDER BY time, type, key")
    return [
        (row["type"].split(".")[3], row["key"].removeprefix(EVENTS), int((row["time"] - BEGIN) / MINUTE))
        for row in rows
    ]


async def test_each_moment_is_told_once(database: Database, bookings: Bookings, pool: Pool) -> None:
    """Of two processes at once, and of two people in one meeting; moved meetings at the new time, canceled ones never.

    What was missed is told late, but nobody tells of a start that is over that it is near.
    """
    clock, settings = bookings.clock, settings_for(database)
    tellers = [MeetingTeller(pool, clock, ON) for _ in range(2)]
    await bookings.book("group", BEGIN + 30 * MINUTE)
    await bookings.book("group-2", BEGIN + 30 * MINUTE, meeting="group")
    await bookings.book("canceled", BEGIN + 30 * MINUTE)
    await bookings.book("edited", BEGIN + 30 * MINUTE)
    for minutes in (0, 15, 15, 30, 15):
        clock.advance(minutes * MINUTE)
        if minutes == 15:
            await bookings.cancel("canceled")
            await bookings.move("edited", BEGIN + 75 * MINUTE)
        await asyncio.gather(*(teller.run_once() for teller in tellers))
    await write_all(settings, clock=clock)
    first = [("starting", "group", 15), ("started", "group", 30), ("ended", "group", 60)]
    second = [("starting", "edited", 60), ("started", "edited", 75)]
    assert await told(bookings) == sorted([*first, *second], key=lambda each: each[2])

    row = await bookings.owner.fetchrow("SELECT * FROM slotwire.events WHERE type = $1 LIMIT 1", MeetingStarted.type)
    assert row is not None
    event = MeetingStarted.model_validate_json(row["data"])
    meeting, organization = EVENTS + "group", ORGANIZATIONS + "ACME"
    assert (row["key"], row["subject"], row["org"], row["origin"]) == (meeting, meeting, "ACME", "own")
    assert (event.uri, event.organization, event.hosts) == (meeting, organization, [HOST])
    assert event.invitees == [invitee_of("group"), invitee_of("group-2", "group")]
    found = await bookings.owner.fetchval("SELECT event_id FROM slotwire.events WHERE position = $1", row["position"])
    assert found == event_id(organization, "meeting.started", meeting, "2026-11-23T09:30:00Z")

    # Stopped for an hour, then told late; one of them was heard of late, and one was too long ago.
    await bookings.book("told-late", BEGIN + 20 * MINUTE, booked_at=BEGIN)
    await bookings.book("missed", BEGIN + 100 * MINUTE)
    clock.advance(65 * MINUTE)
    await MeetingTeller(pool, clock, ON).run_once()
    await write_all(settings, clock=clock)
    late = [("started", "told-late", 20), ("ended", "told-late", 50), ("ended", "edited", 105)]
    assert set(await told(bookings)) == {*first, *second, *late, ("started", "missed", 100), ("ended", "missed", 130)}
    clock.advance(MAX_LATE)
    await bookings.book("ago", BEGIN, booked_at=BEGIN)
    await MeetingTeller(pool, clock, ON).run_once()
    await write_all(settings, clock=clock)
    assert not [each for each in await told(bookings) if each[1] == "ago"]
    assert {cls.topic for cls in (MeetingStarting, MeetingStarted, MeetingEnded)} == {SCHEDULED_EVENT}


async def test_many_at_one_time_come_in_by_pages(database: Database, bookings: Bookings, pool: Pool) -> None:
    """At the limit of a page and past it, each organization's in its place; a second round finds nothing to tell.

    Of a meeting of three that a page would cut, one event has all three.
    """
    clock = bookings.clock
    teller = MeetingTeller(pool, clock, ON)
    await teller.run_once()
    for number in range(PAGE - 1):
        await bookings.book(f"m{number}", BEGIN + MINUTE, org=("ACME", "BETA")[number % 2])
    for name in ("x1", "x2", "x3"):
        await bookings.book(name, BEGIN + MINUTE, meeting="n-cut")
    await bookings.book("y", BEGIN + MINUTE, org="BETA")
    clock.advance(MINUTE)
    for _ in range(2):
        await teller.run_once()
    counted = "SELECT org, count(*) FROM slotwire.deliveries WHERE origin = 'own' GROUP BY org ORDER BY org"
    rows = [tuple(row) for row in await bookings.owner.fetch(counted)]
    assert rows == [("ACME", PAGE // 2 + 1), ("BETA", PAGE // 2)]
    await write_all(settings_for(database), clock=clock)
    assert len(await told(bookings)) == PAGE + 1
    row = await bookings.owner.fetchrow("SELECT data FROM slotwire.events WHERE key = $1", EVENTS + "n-cut")
    assert row is not None
    assert MeetingStarted.model_validate_json(row["data"]).invitees == [
        invitee_of(name, "n-cut") for name in ("x1", "x2", "x3")
    ]


async def _forgotten(bookings: Bookings) -> bool:
    return not await bookings.owner.fetchval("SELECT count(*) FROM slotwire.meetings_told")


async def test_without_the_setting_none_is_told(bookings: Bookings, pool: Pool) -> None:
    """And once it is set again, what came in between is not told either."""
    clock = bookings.clock
    await MeetingTeller(pool, clock, ON).run_once()
    off = asyncio.create_task(meeting_rounds.run(pool, clock, MeetingsSettings()))
    try:
        await until(lambda: _forgotten(bookings))
    finally:
        off.cancel()
    await bookings.book("between", BEGIN + MINUTE)
    clock.advance(2 * MINUTE)
    await MeetingTeller(pool, clock, ON).run_once()
    assert await bookings.owner.fetchval("SELECT count(*) FROM slotwire.deliveries") == 0


async def test_a_clock_that_was_ahead_does_not_silence_what_comes(
    database: Database, bookings: Bookings, pool: Pool
) -> None:
    """Set forward by days and back: what comes from then on is told, and what was told meanwhile is not told again."""
    clock = bookings.clock
    teller = MeetingTeller(pool, clock, ON)
    await teller.run_once()
    await bookings.book("later", BEGIN + 90 * MINUTE)
    assert teller.pause() == ROUND_SECONDS
    clock.advance(timedelta(hours=2))
    await teller.run_once()
    clock.advance(-timedelta(hours=2))
    await bookings.book("soon", BEGIN + MINUTE)
    await bookings.move("later", BEGIN + MINUTE + timedelta(milliseconds=200))
    clock.advance(MINUTE - timedelta(milliseconds=300))
    await teller.run_once()
    assert teller.pause() == pytest.approx(0.3), "the next round begins when the first one starts"
    clock.advance(MINUTE)
    await teller.run_once()
    await write_all(settings_for(database), clock=clock)
    times = {(each[0], each[2]) for each in await told(bookings) if each[1] == "later"}
    assert times == {("started", 1), ("started", 90), ("ended", 120)}
    assert ("started", "soon", 1) in await told(bookings)
