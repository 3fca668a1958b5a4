"""What came without its counterpart: published or counted after a while, and joined all the same when it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.backlog import MAX_BYTES
from slotwire.ingest.log.batch import OverdueClear
from slotwire.ingest.log.delivery import Delivery
from slotwire.ingest.log.normalize import Fact
from slotwire.ingest.log.writer import CLEARS_PAGE, Appended, Writer
from slotwire.ingest.receive.accept import accept, retry_row
from slotwire.ingest.relay.status import RelayStatus
from slotwire.schemas.ids import event_id, last_segment
from tests.support.door import add_organization, let_in
from tests.support.management_api import write_quarantine
from tests.support.public_endpoint import invitee_body, make_hook, new_invitee, running_endpoint, settings_for
from tests.support.writing import DELIVERIES, all_overdue

MARKED = "2026-11-23T09:59:58.500000Z"
CLEARED = "2026-11-23T10:00:00Z"
WAIT = timedelta(minutes=15)
LATER = timedelta(minutes=16)


@dataclass(frozen=True)
class Look:
    """What the writer found: events it published alone, and what waits on."""

    published: int
    clears: int
    reschedules: int


async def look(settings: Settings, now: datetime) -> Look:
    """Write what was accepted, then see to what has waited too long, as the writer does now and then."""
    writer = Writer(settings, 0, ManualClock(now))
    try:
        await writer.take_over()
        while await writer.step():
            pass
        appended = await all_overdue(writer, now - WAIT)
    finally:
        await writer.close()
    return Look(sum(len(each.rows) for each in appended), waiting("clear"), waiting("reschedule"))


def waiting(kind: str, *, shard: int = 0) -> int:
    """Read what the writer of a shard says of those that wait."""
    return int(REGISTRY.get_sample_value("slotwire_waiting", {"shard": str(shard), "kind": kind}) or 0)


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
    async with running_endpoint(settings) as endpoint:
        await endpoint.deliver(hook, cleared(invitee))
        early = await look(settings, now)
        due = await look(settings, now + LATER)
        late = await look(settings, now + 2 * LATER)
        assert (await endpoint.deliver(hook, cleared(invitee))).status_code == 200
        await look(settings, now + 2 * LATER)
    assert early == late == Look(0, 0, 0)
    assert due == Look(1, 0, 0)
    created, published = await rows(database, "SELECT * FROM slotwire.events ORDER BY position")
    assert created["type"] == "com.calendly.invitee.created.v1"
    assert published["event_id"] == event_id(hook.organization, "invitee_no_show.deleted", invitee, CLEARED)
    data = orjson.loads(published["data"])
    assert (data["cleared_mark"], data["cleared_at"], data["uri"]) == (None, CLEARED, invitee)
    assert data["booking"] == {"state": "active", "revision": 2, "no_show": False, "chain_root": invitee}
    assert published["recorded_at"] == now + LATER
    deliveries = await rows(database, f"SELECT id, outcome, event_id FROM {DELIVERIES} AS d ORDER BY position")
    assert [(each["outcome"], each["event_id"]) for each in deliveries] == [
        ("stored", None),
        ("duplicate", published["event_id"]),
    ]
    assert published["delivery_id"] == deliveries[0]["id"]
    [booking] = await rows(database, "SELECT waits_since, revision FROM slotwire.bookings")
    assert booking == {"waits_since": None, "revision": 2}


async def test_a_clear_that_was_retried_is_published_too(database: Database) -> None:
    """A clear out of quarantine has its body and its time of arrival there: its wait is over when it is retried."""
    settings = settings_for(database)
    hook, invitee, now = await make_hook(settings, database), new_invitee(), datetime.now(UTC)
    org = last_segment(hook.organization)
    [quarantined] = await write_quarantine(database, org, [cleared(invitee)], reason="stale")
    connection = await asyncpg.connect(database.runtime_url)
    try:
        await accept(connection, 0, [retry_row(org, quarantined, now)], now=now, seconds=20)
    finally:
        await connection.close()
    assert await look(settings, now) == Look(1, 0, 0)
    assert await look(settings, now + LATER) == Look(0, 0, 0)
    [_, published] = await rows(database, "SELECT * FROM slotwire.events ORDER BY position")
    assert published["event_id"] == event_id(hook.organization, "invitee_no_show.deleted", invitee, CLEARED)
    assert (published["delivery_id"], published["origin"]) == (quarantined, "retry")


async def test_a_mark_that_comes_after_its_clear_was_published_binds_to_it(database: Database) -> None:
    """The late mark is told as set and cleared; no second `deleted` follows."""
    settings = settings_for(database)
    hook, invitee = await make_hook(settings, database), new_invitee()
    async with running_endpoint(settings) as endpoint:
        await endpoint.deliver(hook, cleared(invitee))
        await look(settings, datetime.now(UTC) + LATER)
        await endpoint.deliver(hook, marked(invitee))
        after = await look(settings, datetime.now(UTC) + LATER)
    assert after == Look(0, 0, 0)
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
    async with running_endpoint(settings) as endpoint:
        await endpoint.deliver(hook, cleared(invitee))
        await look(settings, datetime.now(UTC))
        [waiting] = await rows(database, "SELECT waits_since FROM slotwire.bookings")
        await endpoint.deliver(hook, marked(invitee))
        after = await look(settings, datetime.now(UTC) + LATER)
    assert waiting["waits_since"] is not None
    assert after == Look(0, 0, 0)
    events = await rows(database, "SELECT type FROM slotwire.events ORDER BY position")
    assert [each["type"].split(".")[3] for each in events] == ["created", "created", "deleted"]


async def test_more_than_a_page_is_published_in_one_round(database: Database) -> None:
    """Clears are read page by page until none is left; one whose body cannot be read holds up nobody and is counted."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint:
        invitees = [new_invitee() for _ in range(CLEARS_PAGE // 2)]
        told = [cleared(invitee, f"2026-11-23T10:00:0{n}Z") for invitee in invitees for n in range(3)]
        await asyncio.gather(*(endpoint.deliver(hook, body) for body in told))
        await look(settings, datetime.now(UTC))
        await rows(
            database,
            "UPDATE slotwire.deliveries SET body = 'no longer JSON'"
            " WHERE id = (SELECT id FROM slotwire.deliveries ORDER BY id LIMIT 1)",
        )
        found = await look(settings, datetime.now(UTC) + LATER)
    assert found == Look(len(told) - 1, 1, 0)
    [count] = await rows(
        database, "SELECT count(*) AS n FROM slotwire.events WHERE type = 'com.calendly.invitee_no_show.deleted.v1'"
    )
    assert count["n"] == len(told) - 1
    assert waiting("clear") == 1


class Paging(Writer):
    """Notes how many bytes of clears each append has."""

    pages: list[int]

    async def _append(self, facts: Sequence[Fact | OverdueClear], deliveries: Sequence[Delivery]) -> list[Appended]:
        if not deliveries:
            self.pages.append(sum(len(each.delivery.body) for each in facts))
        return await super()._append(facts, deliveries)


@pytest.mark.parametrize(
    ("sizes", "pages"),
    [
        ((MAX_BYTES // 2, MAX_BYTES // 2, 5_000), [MAX_BYTES, 5_000]),
        ((MAX_BYTES // 2, MAX_BYTES // 2 - 1, 5_000), [MAX_BYTES + 4_999]),
        ((MAX_BYTES, MAX_BYTES, MAX_BYTES), [MAX_BYTES] * 3),
    ],
    ids=["at the limit", "a byte below it", "each as large as it"],
)
async def test_a_page_of_clears_ends_at_its_bytes(
    database: Database, sizes: Sequence[int], pages: Sequence[int]
) -> None:
    """A clear is read while those before it have less than the limit; so a page never holds a hundred large bodies."""
    owner = await asyncpg.connect(database.owner_url)
    writer = Paging(settings_for(database), 0, ManualClock(datetime.now(UTC) + LATER))
    writer.pages = []
    try:
        await add_organization(owner)
        for number, size in enumerate(sizes):
            body = cleared(f"https://api.calendly.com/scheduled_events/E/invitees/{number}")
            await let_in(owner, body.ljust(size))
        await writer.take_over()
        while await writer.step():
            pass
        assert sum(len(each.rows) for each in await all_overdue(writer, datetime.now(UTC))) == len(sizes)
    finally:
        await writer.close()
        await owner.close()
    assert writer.pages == pages


async def test_many_clears_do_not_hold_up_what_comes_in(database: Database) -> None:
    """Between two pages the next delivery is written; every clear is published once all the same."""
    owner = await asyncpg.connect(database.owner_url)
    writer = Writer(settings_for(database), 0, ManualClock(datetime.now(UTC) + LATER))
    order: list[str] = []
    try:
        await add_organization(owner)
        for number in range(3):
            body = cleared(f"https://api.calendly.com/scheduled_events/E/invitees/{number}")
            await let_in(owner, body.ljust(MAX_BYTES))
        await writer.take_over()
        while await writer.step():
            pass
        async for page in writer.publish_overdue(datetime.now(UTC)):
            order += [row.type for each in page for row in each.rows]
            if len(order) == 1:
                await let_in(owner, invitee_body(invitee=new_invitee()))
            order += [row.type for each in await writer.step() for row in each.rows]
    finally:
        await writer.close()
        await owner.close()
    clear = "com.calendly.invitee_no_show.deleted.v1"
    assert order == [clear, "com.calendly.invitee.created.v1", clear, clear]


async def test_what_waits_is_told_by_shard_and_by_its_leader_only(database: Database) -> None:
    """Another shard of the same process changes nothing; a process that no longer leads the shard says nothing."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    old, new = new_invitee(), new_invitee()
    async with running_endpoint(settings) as endpoint:
        await endpoint.deliver(hook, invitee_body("invitee.canceled", invitee=old, rescheduled=True, new_invitee=new))
        assert (await look(settings, datetime.now(UTC) + LATER)).reschedules == 1
    status = RelayStatus()
    status.stand_by(1)
    assert (waiting("reschedule"), waiting("reschedule", shard=1)) == (1, 0)
    status.stand_by(0)
    assert waiting("reschedule") == 0


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
        async with running_endpoint(settings) as endpoint:
            await endpoint.deliver(hook, first)
            soon = await look(settings, datetime.now(UTC))
            overdue = await look(settings, datetime.now(UTC) + LATER)
            await endpoint.deliver(hook, second)
            joined = await look(settings, datetime.now(UTC) + LATER)
        assert (soon.reschedules, overdue.reschedules, joined.reschedules) == (0, 1, 0)
    moved = await rows(database, "SELECT type FROM slotwire.events WHERE type LIKE '%rescheduled%'")
    assert len(moved) == 2
