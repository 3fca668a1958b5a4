"""Bookings as an operator sees them: lists, and one's way from the POST to the topic, by HTTP and by command."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.booking_models import MAX_TIMELINE
from slotwire.ingest.operate.roles import Role
from slotwire.schemas.ids import last_segment
from tests.support.command import CommandResult, environment, slotwire
from tests.support.management_api import EPOCH, ManagementApi, management_api, write_booking, write_deliveries
from tests.support.public_endpoint import (
    Endpoint,
    Hook,
    invitee_body,
    make_hook,
    new_invitee,
    running_endpoint,
    settings_for,
)
from tests.support.writing import write_all


@dataclass(frozen=True)
class Setup:
    """An endpoint and a management API on one database, with one organization."""

    database: Database
    settings: Settings
    api: ManagementApi
    endpoint: Endpoint
    hook: Hook
    org: str
    env: dict[str, str]

    async def told(self, *bodies: bytes) -> None:
        """Deliver bodies, one after another, and write them."""
        for body in bodies:
            assert (await self.endpoint.deliver(self.hook, body)).status_code == 200
        await write_all(self.settings)

    async def timeline(self, invitee: str, key: str | None = None) -> dict[str, object]:
        """Read one booking's way."""
        answer = await self.api.client.get(
            f"{self.api.url}/v1/bookings/timeline",
            params={"invitee": invitee},
            headers={"Authorization": f"Bearer {key or await self.api.key(Role.READER)}"},
        )
        return {"status": answer.status_code, **answer.json()}

    async def execute(self, sql: str, *arguments: object) -> None:
        """Change the database as its owner."""
        connection = await asyncpg.connect(self.database.owner_url)
        try:
            await connection.execute(sql, *arguments)
        finally:
            await connection.close()

    async def type(self, *arguments: str) -> CommandResult:
        """Run `slotwire bookings`."""
        return await slotwire("bookings", *arguments, env=self.env)


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[Setup]:
    """Everything that looks at the bookings of one organization."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint, management_api(settings) as api:
        yield Setup(database, settings, api, endpoint, hook, last_segment(hook.organization), environment(settings))


def moved() -> tuple[str, str, list[bytes]]:
    """Write the deliveries of a booking that is made and then moved: the old one, the new one, and all bodies."""
    old, new = new_invitee(), new_invitee()
    return (
        old,
        new,
        [
            invitee_body(invitee=old),
            invitee_body("invitee.canceled", invitee=old, rescheduled=True, new_invitee=new),
            invitee_body(invitee=new, old_invitee=old, created_at="2026-11-23T09:30:00.000000Z"),
        ],
    )


async def test_a_timeline_tells_the_way_of_one_booking(setup: Setup) -> None:
    """Deliveries in order of arrival with copies, events with revisions, and the chain of reschedules."""
    old, new, bodies = moved()
    await setup.told(bodies[0], *bodies)
    found = await setup.timeline(old)
    assert (found["status"], found["complete"]) == (200, True)
    assert isinstance(found["booking"], dict)
    assert (found["booking"]["state"], found["booking"]["new_invitees"]) == ("canceled", [new])
    deliveries, events, chain = found["deliveries"], found["events"], found["chain"]
    assert isinstance(deliveries, list)
    assert isinstance(events, list)
    assert isinstance(chain, list)
    assert [(each["event_name"], each["outcome"]) for each in deliveries] == [
        ("invitee.created", "stored"),
        ("invitee.created", "duplicate"),
        ("invitee.canceled", "stored"),
    ]
    assert [each["type"].split(".", 3)[-1] for each in events] == ["created.v1", "canceled.v1"]
    assert [each["revision"] for each in events] == sorted(each["revision"] for each in events)
    assert [each["invitee"] for each in chain] == [old, new]
    other = await setup.timeline(new)
    assert isinstance(other["events"], list)
    assert [each["type"] for each in other["events"]] == [
        "com.calendly.invitee.created.v1",
        "io.slotwire.invitee.rescheduled.v1",
    ]


async def test_a_timeline_says_how_far_each_event_is(setup: Setup) -> None:
    """Waiting until the relay's mirror has passed it, then published; parked when Kafka refused it."""
    uri = new_invitee()
    await setup.told(invitee_body(invitee=uri), invitee_body("invitee.canceled", invitee=uri))

    async def progress() -> list[tuple[str, str | None]]:
        events = (await setup.timeline(uri))["events"]
        assert isinstance(events, list)
        return [(each["progress"], each["parked_reason"]) for each in events]

    assert await progress() == [("waiting", None), ("waiting", None)]
    mirror = (
        "INSERT INTO slotwire.relay_mirror SELECT 0, (SELECT log_id FROM slotwire.log), position, event_id, $2"
        " FROM slotwire.events WHERE type LIKE $1"
    )
    await setup.execute(mirror, "%created.v1", EPOCH)
    assert await progress() == [("published", None), ("waiting", None)]
    await setup.execute(
        "INSERT INTO slotwire.parked_events SELECT event_id, shard, position, 'message_too_large', $2"
        " FROM slotwire.events WHERE type LIKE $1",
        "%canceled.v1",
        EPOCH,
    )
    assert await progress() == [("published", None), ("parked", "message_too_large")]


async def test_a_timeline_is_cut_where_it_says(setup: Setup) -> None:
    """With `MAX_TIMELINE` deliveries it is complete; one more, and it says that there are more."""
    uri = new_invitee()
    await setup.told(invitee_body(invitee=uri))
    events = (await setup.timeline(uri))["events"]
    assert isinstance(events, list)
    await write_deliveries(setup.database, setup.org, MAX_TIMELINE - 1, outcome="duplicate", event_id=events[0]["id"])
    assert (await setup.timeline(uri))["complete"] is True
    await write_deliveries(
        setup.database, setup.org, 1, outcome="duplicate", event_id=events[0]["id"], first=MAX_TIMELINE
    )
    found = await setup.timeline(uri)
    assert isinstance(found["deliveries"], list)
    assert (found["complete"], len(found["deliveries"])) == (False, MAX_TIMELINE)


async def test_nobody_sees_anothers_booking(setup: Setup) -> None:
    """A key of another organization gets the answer for a booking that is not there."""
    uri = new_invitee()
    await setup.told(invitee_body(invitee=uri))
    other = last_segment((await make_hook(settings_for(setup.database), setup.database)).organization)
    key = await setup.api.key(Role.READER, other)
    assert (await setup.timeline(uri, key))["status"] == 404
    assert (await setup.api.ask("GET", "/v1/bookings", key)).json()["items"] == []


async def test_the_list_is_filtered_and_paged(setup: Setup) -> None:
    """By state, by what waits, by organization; page by page, each once."""
    uris = sorted(f"https://api.calendly.com/scheduled_events/E/invitees/{number}" for number in range(5))
    for number, uri in enumerate(uris):
        await write_booking(setup.database, setup.org, uri, waits_since=EPOCH if number == 3 else None)
    key, found, cursor = await setup.api.key(Role.READER), list[str](), ""
    while True:
        page = (await setup.api.ask("GET", f"/v1/bookings?state=active&limit=2{cursor}", key)).json()
        found += [item["invitee"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == uris
    [waiting] = (await setup.api.ask("GET", "/v1/bookings?waiting=true", key)).json()["items"]
    assert waiting["invitee"] == uris[3]
    assert (await setup.api.ask("GET", "/v1/bookings?state=canceled", key)).json()["items"] == []
    assert (await setup.api.ask("GET", "/v1/bookings?organization=NOBODY", key)).json()["items"] == []


async def test_the_commands_list_and_draw(setup: Setup) -> None:
    """`list` gives a line a booking; `show` draws its way, each line whole where there is no terminal."""
    old, new, bodies = moved()
    await setup.told(bodies[0], *bodies)
    listed = await setup.type("list", "--state", "canceled", "--json")
    assert [json.loads(line)["invitee"] for line in listed.stdout.splitlines()] == [old]
    table = await setup.type("list")
    assert table.stdout.splitlines()[0].startswith("STATE")
    drawn = await setup.type("show", old)
    assert drawn.code == 0, drawn.stderr
    lines = [line.rstrip() for line in drawn.stdout.splitlines()]
    assert lines[0] == old
    assert [line for line in lines if "invitee.created" in line and "POST" in line and "duplicate" in line]
    assert any("invitee.canceled.v1" in line and "not on" in line and "calendly.invitee yet" in line for line in lines)
    assert lines[-2].endswith(f"{old}  ◀ this one")
    assert lines[-1].endswith(new)
    as_json = json.loads((await setup.type("show", old, "--json")).stdout)
    assert as_json["booking"]["invitee"] == old


async def test_a_booking_that_is_not_there(setup: Setup) -> None:
    """Refused with what to type instead."""
    ran = await setup.type("show", "https://api.calendly.com/scheduled_events/E/invitees/NOBODY")
    assert (ran.code, ran.stdout) == (1, "")
    assert "slotwire bookings list" in ran.stderr


async def test_a_booking_of_two_organizations_is_listed_twice_and_read_by_name(setup: Setup) -> None:
    """No page loses the second one, and its timeline is read once its organization is named."""
    other = await make_hook(setup.settings, setup.database)
    uris = sorted(new_invitee() for _ in range(3))
    for uri in uris:
        body = invitee_body(invitee=uri)
        await setup.told(body)
        assert (await setup.endpoint.deliver(other, body)).status_code == 200
    await write_all(setup.settings)
    orgs = sorted([setup.org, last_segment(other.organization)])
    key, seen, cursor = await setup.api.key(Role.READER), list[tuple[str, str]](), ""
    while True:
        page = (await setup.api.ask("GET", f"/v1/bookings?limit=1{cursor}", key)).json()
        seen += [(item["invitee"], item["organization"]) for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [(uri, org) for uri in uris for org in orgs]
    ambiguous = await setup.timeline(uris[0])
    assert (ambiguous["status"], ambiguous["code"]) == (400, "organization_missing")
    shown = await setup.type("show", uris[0], "--organization", orgs[1], "--json")
    assert json.loads(shown.stdout)["booking"]["organization"] == orgs[1]
