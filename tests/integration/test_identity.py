"""One fact, one event: whatever tells it, how often, in which words of the envelope, and through which subscription."""

from __future__ import annotations

import random
from typing import Any

import asyncpg
import orjson
import pytest

from slotwire.ingest.local.databases import Database
from tests.support.fuzzing import shuffled
from tests.support.public_endpoint import invitee_body, make_hook, running_endpoint, settings_for
from tests.support.writing import DELIVERIES, write_all
from tools.expected import FOLDER, expected_file

SCENARIOS = [
    "invitee.created/all_fields",
    "invitee.canceled/by_host",
    "invitee_no_show.created/marked",
    "routing_form_submission.created/led_to_booking",
    "event_type.updated/renamed",
    "contact.deleted/tombstone",
    "meeting_recap.created/unknown_fields",
    "meeting_recap.updated/share_link_added",
]


async def rows(database: Database, query: str) -> list[Any]:
    """Ask the database as its owner."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


def told_again(body: bytes, *, at: str, by: str) -> bytes:
    """Tell a delivery as another subscription would: another envelope, the keys in another order."""
    told = orjson.loads(body) | {"created_at": at, "created_by": by}
    return orjson.dumps(shuffled(told, random.Random(4)))  # noqa: S311 - no secret


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_one_delivery_through_two_subscriptions_is_one_event(scenario: str, database: Database) -> None:
    """Shuffled keys, other envelope times, another key and hook: the same events once, both deliveries kept."""
    path = FOLDER / f"{scenario}.json"
    body = path.read_bytes()
    other = told_again(body, at="2026-11-23T11:59:07.000000Z", by="https://api.calendly.com/users/SOMEBODY")
    settings = settings_for(database)
    first = await make_hook(settings, database)
    second = await make_hook(settings, database, organization=first.organization)
    async with running_endpoint(settings) as endpoint:
        answers = [await endpoint.deliver(hook, sent) for hook, sent in ((first, body), (second, other), (first, body))]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    await write_all(settings)
    deliveries = await rows(database, f"SELECT * FROM {DELIVERIES} AS d ORDER BY position")
    assert [row["outcome"] for row in deliveries] == ["stored", "duplicate", "duplicate"]
    assert [row["body"] for row in deliveries] == [body, other, body]
    assert [row["subscription_id"] for row in deliveries[:2]] == [first.subscription_id, second.subscription_id]
    events = await rows(database, "SELECT * FROM slotwire.events ORDER BY position")
    expected = orjson.loads(expected_file(path).read_bytes())["events"]
    assert [row["type"] for row in events] == [event["type"] for event in expected]
    assert {row["event_id"] for row in deliveries} == {events[-1]["event_id"]}


async def test_updates_of_one_time_are_as_many_events_as_they_say_different_things(database: Database) -> None:
    """A share link that leaves `updated_at` where it was, two contacts without any: two events each, copies none."""
    settings = settings_for(database)
    first = await make_hook(settings, database)
    second = await make_hook(settings, database, organization=first.organization)
    recaps = [(FOLDER / f"meeting_recap.updated/{name}.json").read_bytes() for name in ("summary", "share_link_added")]
    contact = {"uri": "https://api.calendly.com/contacts/C"}
    envelope = {"event": "contact.updated", "created_at": "2026-11-23T09:00:00Z"}
    contacts = [orjson.dumps(envelope | {"payload": contact | {"name": name}}) for name in ("Ada", "Grace")]
    told = [*recaps, *contacts]
    copies = [told_again(body, at="2026-11-26T09:59:00Z", by="https://api.calendly.com/users/B") for body in told]
    async with running_endpoint(settings) as endpoint:
        for hook, bodies in ((first, told), (second, copies), (first, told)):
            for body in bodies:
                assert (await endpoint.deliver(hook, body)).status_code == 200
    await write_all(settings)
    deliveries = await rows(database, f"SELECT * FROM {DELIVERIES} AS d ORDER BY position")
    assert [row["outcome"] for row in deliveries] == ["stored"] * 4 + ["duplicate"] * 8
    assert len({row["event_id"] for row in deliveries}) == 4
    events = await rows(database, "SELECT data FROM slotwire.events ORDER BY position")
    links = [orjson.loads(row["data"])["extra"].get("share_url") for row in events[:2]]
    assert links == [None, "https://calendly.com/r/1"]


async def test_one_clear_through_two_subscriptions_is_one_event(database: Database) -> None:
    """A clear names no mark and has the envelope's time only: told in two seconds, the mark is cleared once."""
    settings = settings_for(database)
    first = await make_hook(settings, database)
    second = await make_hook(settings, database, organization=first.organization)
    uri = "https://api.calendly.com/scheduled_events/E/invitees/I"
    mark = {"uri": "https://api.calendly.com/invitee_no_shows/N", "created_at": "2026-11-23T09:00:01.500000Z"}
    marked = invitee_body("invitee_no_show.created", invitee=uri, no_show=mark)
    async with running_endpoint(settings) as endpoint:
        await endpoint.deliver(first, marked)
        for hook, at in ((first, "2026-11-23T09:00:04Z"), (second, "2026-11-23T09:00:05Z")):
            clear = invitee_body("invitee_no_show.deleted", invitee=uri, told_at=at)
            assert (await endpoint.deliver(hook, clear)).status_code == 200
    await write_all(settings)
    events = await rows(database, "SELECT type, data FROM slotwire.events ORDER BY position")
    assert [row["type"].split(".", 2)[2] for row in events] == [
        "invitee.created.v1",
        "invitee_no_show.created.v1",
        "invitee_no_show.deleted.v1",
    ]
    assert orjson.loads(events[-1]["data"])["cleared_mark"] == mark["uri"]


async def test_two_invitees_of_one_group_event_are_two_bookings(database: Database) -> None:
    """They share the scheduled event, and nothing else: each has its booking, its event, its key."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    event = "https://api.calendly.com/scheduled_events/GROUP"
    uris = [f"{event}/invitees/{name}" for name in ("ONE", "TWO")]
    async with running_endpoint(settings) as endpoint:
        for uri in uris:
            assert (await endpoint.deliver(hook, invitee_body(invitee=uri))).status_code == 200
        assert (await endpoint.deliver(hook, invitee_body("invitee.canceled", invitee=uris[0]))).status_code == 200
    await write_all(settings)
    bookings = await rows(database, "SELECT * FROM slotwire.bookings ORDER BY invitee")
    assert [(row["invitee"], row["state"]) for row in bookings] == list(zip(uris, ("canceled", "active"), strict=True))
    assert {row["scheduled_event"] for row in bookings} == {event}
    created = await rows(database, "SELECT * FROM slotwire.events WHERE type LIKE '%invitee.created.v1'")
    assert sorted(row["subject"] for row in created) == uris
    assert len({row["key"] for row in created}) == len({row["event_id"] for row in created}) == 2
