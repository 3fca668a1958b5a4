"""Fetches over answers that are not as documented, pages that are refused, and resources with lists of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from slotwire.ingest.control import hole_rounds, meetings
from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.holes import HoleCause, note_hole
from slotwire.ingest.control.subscription_facts import WantedSubscription
from slotwire.ingest.foundation.reconcile_settings import ReconcileSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import COMMAND_LINE
from tests.support.altered_calendly import Answer
from tests.support.holes_setup import NOT_FOUND, HolesSetup, connected, contact, listing, recap

REFUSED: Answer = (400, {"title": "Invalid Argument", "message": "The supplied parameters are invalid."})


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[HolesSetup]:
    """An organization with the usual events."""
    async with connected(database) as made:
        yield made


def of_meeting(invitee: str) -> str:
    """Return the URI of an invitee's meeting."""
    return invitee.rpartition("/invitees/")[0]


def garbled(bad: list[str]) -> Any:
    """Alter four meetings: one is not found, one is forbidden, one has no status and one no start."""
    gone, forbidden, stateless, startless = map(of_meeting, bad)

    def alter(request: web.Request, status: int, document: Any) -> Answer | None:
        if request.path == "/scheduled_events":
            for meeting in document["collection"]:
                meeting["status"] = None if meeting["uri"] == stateless else meeting["status"]
                meeting["start_time"] = None if meeting["uri"] == startless else meeting["start_time"]
            return status, document
        if request.path.endswith("/invitees") and request.path.split("/")[2] in gone:
            return NOT_FOUND
        if request.path.endswith("/invitees") and request.path.split("/")[2] in forbidden:
            return 403, {"title": "Permission Denied", "message": "You do not have permission"}
        return None

    return alter


async def test_a_meeting_that_cannot_be_read_is_skipped_and_named(setup: HolesSetup) -> None:
    """Of seven meetings four cannot be read, each in another way: three are recovered, four are named."""
    invitees = await setup.in_the_dark(7)
    setup.between.alter = garbled(invitees[:4])
    report = await setup.fetch()
    assert report["skipped"] == 4
    reasons = {each["uri"]: each["reason"] for each in report["skipped_named"]}
    assert reasons == dict(
        zip(
            map(of_meeting, invitees[:4]),
            ["not_found", "permission", "unreadable: status", "unreadable: start_time"],
            strict=True,
        )
    )
    assert {subject for _, subject in await setup.told()} == set(invitees[4:])


async def test_a_backfill_skips_and_names_them_too(setup: HolesSetup) -> None:
    """The same four do not keep a backfill from the other three, nor from its end."""
    invitees = await setup.in_the_dark(7)
    setup.between.alter = garbled(invitees[:4])
    await setup.organizations.request_backfill(setup.of.org, setup.of.actions.clock.now())
    best = await setup.organizations.connections.for_organization(setup.of.org)
    async with setup.organizations.connections.acting(best) as calendly:
        done = await setup.organizations.run_backfill(setup.of.org, calendly)
    assert done is not None
    assert (done.complete, done.new, done.unreadable.count) == (True, 3, 4)
    assert set(done.unreadable.named) == set(map(of_meeting, invitees[:4]))
    assert await setup.of.actions.organizations.backfill(COMMAND_LINE, setup.of.org, lambda _: None) is None


async def test_a_fetch_that_can_read_nothing_fails(setup: HolesSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past so many refusals in a row no meeting is to blame: the fetch fails, and the hole stays open."""
    monkeypatch.setattr(meetings, "MAX_SKIPPED_IN_A_ROW", 3)
    await setup.in_the_dark(3)
    setup.between.alter = lambda request, *_: NOT_FOUND if request.path.endswith("/invitees") else None
    now = setup.of.actions.clock.now()
    await note_hole(setup.of.actions.pool, setup.of.org, cause=HoleCause.REFUSED, since=now, now=now, subscription=None)
    assert await hole_rounds.run_once(setup.organizations, ReconcileSettings()) == {setup.of.org: ["failed"]}
    monkeypatch.setattr(meetings, "MAX_SKIPPED_IN_A_ROW", 4)
    await setup.of.rows("UPDATE slotwire.holes SET due_at = now()")
    assert await hole_rounds.run_once(setup.organizations, ReconcileSettings()) == {setup.of.org: ["ended"]}


async def test_windows_are_bounded_and_a_refused_page_begins_one_again(
    setup: HolesSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of two, windows of two pages, and every third page token refused: each booking is there once."""
    monkeypatch.setattr(pages, "PAGE_SIZE", 2)
    monkeypatch.setattr(meetings, "WINDOW_PAGES", 2)
    invitees = await setup.in_the_dark(11)
    tokens: list[str] = []

    def alter(request: web.Request, *_: object) -> Answer | None:
        if request.path != "/scheduled_events" or "page_token" not in request.query:
            return None
        tokens.append(request.query["page_token"])
        return REFUSED if len(tokens) % 3 == 0 else None

    setup.between.alter = alter
    report = await setup.fetch()
    assert await setup.told() == Counter(("invitee.created", each) for each in invitees)
    assert len(tokens) >= 3
    assert setup.between.asked.count("/scheduled_events") > 6
    assert report["skipped"] == 0


async def test_an_endlessly_refused_page_fails(setup: HolesSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list whose second page is always refused is begun again a few times, and then the fetch fails."""
    monkeypatch.setattr(pages, "PAGE_SIZE", 1)
    start = (setup.of.actions.clock.now() + timedelta(days=1)).isoformat()
    await setup.in_the_dark(3, start=start)
    setup.between.alter = lambda request, *_: REFUSED if "page_token" in request.query else None
    now = setup.of.actions.clock.now()
    await note_hole(setup.of.actions.pool, setup.of.org, cause=HoleCause.REFUSED, since=now, now=now, subscription=None)
    assert await hole_rounds.run_once(setup.organizations, ReconcileSettings()) == {setup.of.org: ["failed"]}


async def test_a_neighbour_before_the_look_back_is_read_by_its_uri(setup: HolesSetup) -> None:
    """A meeting of three days ago moved: with a look-back of a day only its name is met, and it is read by that."""
    start = (setup.of.actions.clock.now() - timedelta(days=3)).isoformat()
    [older] = await setup.in_the_dark(1, start=start)
    await setup.of.simulate("faults", drop_rate=1.0)
    newer = (await setup.of.simulate("reschedule", invitee=older))["invitees"][1]
    await setup.of.simulate("faults", drop_rate=0.0)
    report = await setup.fetch(ReconcileSettings(look_back_days=1))
    assert report["meetings"] == 1
    halves = [("invitee.created", older), ("invitee.canceled", older), ("invitee.created", newer)]
    assert await setup.told() == Counter(halves)
    rescheduled = await setup.of.rows("SELECT subject FROM slotwire.events WHERE type LIKE 'io.%rescheduled%'")
    assert [row["subject"] for row in rescheduled] == [newer]


async def test_a_neighbour_that_is_not_shown_cannot_be_proven(setup: HolesSetup) -> None:
    """Calendly does not have it: the report names it, and the fetch ends."""
    start = (setup.of.actions.clock.now() - timedelta(days=3)).isoformat()
    [older] = await setup.in_the_dark(1, start=start)
    await setup.of.simulate("faults", drop_rate=1.0)
    await setup.of.simulate("reschedule", invitee=older)
    await setup.of.simulate("faults", drop_rate=0.0)
    setup.between.alter = lambda request, *_: NOT_FOUND if request.path.endswith(older.rpartition("/")[2]) else None
    report = await setup.fetch(ReconcileSettings(look_back_days=1))
    assert {each["kind"]: each["named"] for each in report["unprovable"]}["neighbours"] == [older]


async def test_a_known_mark_out_of_reach_is_named(setup: HolesSetup) -> None:
    """A no-show of a meeting before the look-back may have been cleared: nobody can tell, and the report says so."""
    start = (setup.of.actions.clock.now() - timedelta(days=3)).isoformat()
    invitee = (await setup.of.simulate("book", organization=setup.of.org, start=start))["invitees"][0]
    await setup.of.simulate("no-show", invitee=invitee)
    await setup.of.settled()
    await setup.of.simulate("faults", drop_rate=1.0)
    await setup.of.simulate("clear-no-show", invitee=invitee)
    await setup.of.simulate("faults", drop_rate=0.0)
    report = await setup.fetch(ReconcileSettings(look_back_days=1))
    assert {each["kind"]: each["named"] for each in report["unprovable"]}["marks_out_of_reach"] == [invitee]
    assert ("invitee_no_show.deleted", invitee) not in await setup.told()


async def test_contacts_are_compared_with_the_last_that_is_known(database: Database) -> None:
    """One unchanged, one changed, one new, one gone: an event for each but the first, and none the second time."""
    async with connected(database, "invitee.created", "contact.created", "contact.updated", "contact.deleted") as setup:
        known = [contact(name, minutes=0) for name in ("Same", "Changed", "Gone")]
        for each in known:
            await setup.deliver("contact.created", each)
        changed = contact("Changed", minutes=5, company="Other")
        fresh = {**contact("Fresh", minutes=9), "created_at": "2036-11-20T14:09:00.000000Z"}
        setup.between.alter = listing(fresh, changed, known[0])
        since = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
        before = await setup.told()
        expected = Counter(
            (f"contact.{event}", f"https://api.calendly.com/contacts/{name}")
            for event, name in (("updated", "Changed"), ("created", "Fresh"), ("deleted", "Gone"))
        )
        report = await setup.fetch(since=since)
        assert sum(report["recovered"].values()) == 3
        assert (await setup.told()) - before == expected
        assert (await setup.fetch(since=since))["recovered"] == {}
        assert (await setup.told()) - before == expected
        gone = await setup.of.rows("SELECT inferred FROM slotwire.events WHERE type LIKE '%contact.deleted%'")
        assert [row["inferred"] for row in gone] == [True]
        kinds = {each["kind"]: each["named"] for each in report["unprovable"]}
        assert kinds["updates_between"] == ["contacts"]


async def test_a_contact_that_was_fetched_is_known_when_its_delivery_comes(database: Database) -> None:
    """A retry that comes after the fetch has the same event, though REST added a field."""
    async with connected(database, "invitee.created", "contact.created", "contact.updated", "contact.deleted") as setup:
        older = contact("Late", minutes=0)
        await setup.deliver("contact.created", older)
        changed = contact("Late", minutes=5, company="Other")
        setup.between.alter = listing(changed)
        await setup.fetch(since=datetime(2026, 11, 20, 12, 0, tzinfo=UTC))
        before = await setup.told()
        await setup.deliver("contact.updated", changed)
        assert await setup.told() == before
        assert before["contact.updated", changed["uri"]] == 1


async def test_a_list_that_may_not_be_read_does_not_end_the_fetch(database: Database) -> None:
    """Contacts that the token may not read are named, and the bookings are recovered all the same."""
    async with connected(database, "invitee.created", "contact.created") as setup:
        invitees = await setup.in_the_dark(2)
        refusal = {"title": "Permission Denied", "message": "no", "required_scopes": ["contacts:read"]}
        setup.between.alter = lambda request, *_: (403, refusal) if request.path == "/contacts" else None
        report = await setup.fetch()
        assert await setup.told() == Counter(("invitee.created", each) for each in invitees)
        assert {each["kind"]: each["named"] for each in report["unprovable"]}["not_readable"] == ["contacts"]


async def test_event_types_are_told_when_they_change(database: Database) -> None:
    """An event type that nobody has told of is new to us only if it was made in the hole; else it was changed."""
    events = ("invitee.created", "event_type.created", "event_type.updated", "event_type.deleted")
    async with connected(database, *events) as setup:

        def alter(request: web.Request, status: int, document: Any) -> Answer | None:
            if request.path != "/event_types":
                return None
            first, second, *_ = document["collection"]
            made = {**first, "created_at": "2036-01-01T00:00:00.000000Z", "updated_at": "2036-01-01T00:00:00.000000Z"}
            changed = {
                **second,
                "created_at": "2020-01-01T00:00:00.000000Z",
                "updated_at": "2036-01-01T00:00:00.000000Z",
            }
            old = {**second, "uri": second["uri"] + "0", "created_at": "2020-01-01T00:00:00.000000Z"}
            return status, {"collection": [made, changed, {**old, "updated_at": "2020-01-01T00:00:00.000000Z"}]}

        setup.between.alter = alter
        await setup.fetch()
        assert Counter(kind for kind, _ in await setup.told()) == {"event_type.created": 1, "event_type.updated": 1}


async def test_recaps_are_read_where_they_are_wanted_the_newest_first(database: Database) -> None:
    """Recaps of a user who wants them: one unchanged, one changed, two new, one gone; the last changed comes first."""
    recaps = ("meeting_recap.created", "meeting_recap.updated", "meeting_recap.deleted")
    async with connected(database, "invitee.created") as setup:
        known = [recap(name, minutes=0) for name in ("Same", "Changed", "Gone")]
        for each in known:
            await setup.deliver("meeting_recap.created", each)
        shown = [known[0], recap("Fresh", minutes=7), recap("Changed", minutes=9), recap("Newest", minutes=11)]
        setup.between.alter = listing(*shown, at="/meeting_recaps")
        since, before = datetime(2026, 11, 20, 12, 0, tzinfo=UTC), await setup.told()
        assert (await setup.fetch(since=since))["recovered"] == {}
        assert "/meeting_recaps" not in setup.between.asked, "nobody wants them"
        owner = setup.of.calendly.world.members(setup.of.org)[0]
        want = WantedSubscription(recaps, "user", f"https://api.calendly.com/users/{owner.id}")
        await setup.of.organizations.subscriptions.want(setup.of.org, want)
        report = await setup.fetch(since=since)
        told = [("created", "Newest"), ("updated", "Changed"), ("created", "Fresh"), ("deleted", "Gone")]
        rows = await setup.of.rows(
            "SELECT type, subject, inferred FROM slotwire.events WHERE origin = 'reconcile' ORDER BY position"
        )
        assert [(row["type"].split(".")[3], row["subject"].rpartition("/")[2], row["inferred"]) for row in rows] == [
            (kind, name, kind == "deleted") for kind, name in told
        ]
        assert sum(report["recovered"].values()) == len((await setup.told()) - before) == 4
        assert {each["kind"]: each["named"] for each in report["unprovable"]}["updates_between"] == ["meeting recaps"]
        assert (await setup.fetch(since=since))["recovered"] == {}
