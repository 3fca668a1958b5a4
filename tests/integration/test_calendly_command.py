"""`slotwire calendly` as a person types it: reading, changing, refusing, all of it in the audit."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.drafts import BookingDetails
from tests.support.command import CommandResult, environment, slotwire
from tests.support.connections_setup import ConnectionsSetup, connections_setup


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ConnectionsSetup]:
    """A connected owner of an organization at a simulator."""
    async with connections_setup(database) as made:
        await made.connections.add(made.token())
        yield made


async def typed(setup: ConnectionsSetup, *arguments: str) -> CommandResult:
    """Run `slotwire calendly …` for the organization."""
    env = environment(setup.settings, SLOTWIRE_CALENDLY__API_URL=setup.settings.calendly.api_url)
    return await slotwire("calendly", *arguments, "--organization", setup.org(), env=env)


async def audited(setup: ConnectionsSetup) -> list[tuple[str, str]]:
    """Read what was called, and how that ended."""
    rows = await setup.pool.fetch(
        "SELECT target, result FROM slotwire.audit WHERE action = 'calendly.call' AND result <> 'started' ORDER BY id"
    )
    return [(row["target"], row["result"]) for row in rows]


async def test_lists_and_documents_are_read_as_they_came(setup: ConnectionsSetup) -> None:
    """A list page after page, an item a line, up to the limit; one document; each call is in the audit."""
    meetings = [setup.running.engine.book(BookingDetails(organization=setup.org())).event for _ in range(3)]
    listed = await typed(setup, "list-scheduled-events", f"organization={setup.org()}", "sort=start_time:asc")
    found = [json.loads(line) for line in listed.stdout.splitlines()]
    assert {each["uri"].rpartition("/")[2] for each in found} == {each.id for each in meetings if each is not None}
    assert all("calendar_event" in each for each in found), "what we have no field for is there, too"
    two = await typed(setup, "list-scheduled-events", f"organization={setup.org()}", "--limit", "2")
    assert len(two.stdout.splitlines()) == 2
    one = json.loads((await typed(setup, "get-scheduled-event", f"uuid={found[0]['uri']}", "--json")).stdout)
    assert one["resource"]["uri"] == found[0]["uri"]
    assert await audited(setup) == [("list-scheduled-events", "done")] * 2 + [("get-scheduled-event", "done")]


async def test_nothing_is_changed_without_being_told_to(setup: ConnectionsSetup) -> None:
    """A call that changes something says what it would do and as whom; with --write it does it."""
    [invitee] = setup.running.engine.book(BookingDetails(organization=setup.org())).invitees
    refused = await typed(setup, "create-invitee-no-show", f"invitee={invitee.uri}")
    assert refused.code == 1
    assert "POST /invitee_no_shows as https://api.calendly.com/users/" in refused.stderr
    assert "--write" in refused.stderr
    unmarked = setup.running.engine.bookings.invitee(invitee.id)
    assert unmarked is not None
    assert unmarked.no_show is None
    made = await typed(setup, "create-invitee-no-show", f"invitee={invitee.uri}", "--write", "--json")
    mark = json.loads(made.stdout)["resource"]["uri"]
    gone = await typed(setup, "delete-invitee-no-show", f"uuid={mark}", "--write")
    assert (gone.code, gone.stdout) == (0, "")
    assert await audited(setup) == [
        ("create-invitee-no-show", "refused"),
        ("create-invitee-no-show", "done"),
        ("delete-invitee-no-show", "done"),
    ]


async def test_a_meeting_of_several_is_canceled_only_for_everyone(setup: ConnectionsSetup) -> None:
    """The refusal says how many people would lose their booking; one person's meeting needs no more than --write."""
    engine = setup.running.engine
    group = next(each for each in engine.world.event_types.values() if each.limit > 1)
    first = engine.book(BookingDetails(organization=group.organization, event_type=group.id))
    assert first.event is not None
    engine.book(BookingDetails(event=first.event.id))
    org = ("create-scheduled-event-cancellation", f"uuid={first.event.id}", "reason=ill", "--write")
    refused = await typed(setup, *org)
    assert refused.code == 1
    assert "which 2 people have booked" in refused.stderr
    assert {each.status for each in engine.bookings.invitees_of(first.event.id)} == {"active"}
    assert (await typed(setup, *org, "--everyone")).code == 0
    assert {each.status for each in engine.bookings.invitees_of(first.event.id)} == {"canceled"}
    single = engine.book(BookingDetails(organization=setup.org())).event
    assert single is not None
    alone = await typed(setup, "create-scheduled-event-cancellation", f"uuid={single.id}", "--write")
    assert alone.code == 0, alone.stderr


async def test_what_cannot_be_called_is_told(setup: ConnectionsSetup) -> None:
    """An unknown call, a missing value, a body that is no JSON, nobody to call as: one clear line each."""
    for arguments, words in (
        (("list-event-type",), "list-event-types"),
        (("get-scheduled-event",), "it needs uuid"),
        (("create-contact", "--body", "{"), "--body is not JSON"),
        (("get-current-user", "me"), "a value has no name"),
        (("createwebhooks", "signing_key=hush"), "signing_key is a secret"),
    ):
        refused = await typed(setup, *arguments)
        assert refused.code == 1
        assert words in refused.stderr
    env = environment(setup.settings, SLOTWIRE_CALENDLY__API_URL=setup.settings.calendly.api_url)
    nobody = await slotwire("calendly", "get-current-user", env=env)
    assert "say as whom" in nobody.stderr


async def test_all_operations_are_listed() -> None:
    """Without a call each is named with what it takes and needs; with --json a line each. Nothing has to run."""
    lines = (await slotwire("calendly", "--json", env={})).stdout.splitlines()
    assert len(lines) == 77
    found = {each["operation"]: each for each in map(json.loads, lines)}
    assert found["list-contacts"]["scope"] == "contacts:read"
    shown = (await slotwire("calendly", env={})).stdout
    assert "post-invitee  (POST /invitees; scheduled_events:write)\n    --body" in shown


async def test_no_hook_is_shown(setup: ConnectionsSetup) -> None:
    """The addresses of subscriptions are capabilities: what is printed has their beginning only."""
    url = "http://127.0.0.1:1/hooks/calendly/CBwcd6ePabcdefghij0123456789ABCDEFGHIJKL"
    wanted = (f"url={url}", "events=invitee.created", f"organization={setup.org()}", "scope=organization")
    made = await typed(setup, "createwebhooks", *wanted, "--write")
    assert made.code == 0, made.stderr
    listed = await typed(setup, "list-webhook-subscriptions", f"organization={setup.org()}", "scope=organization")
    for shown in (made.stdout, listed.stdout):
        assert "/hooks/calendly/CBwcd6" in shown
        assert "abcdefghij" not in shown
