"""Holes fill themselves: what happened while nobody took deliveries is in the log once, without a command."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from slotwire.ingest.control import hole_rounds, rounds
from slotwire.ingest.control.hole_records import HoleRecord, read_one
from slotwire.ingest.control.holes import HoleCause, note_hole
from slotwire.ingest.foundation.reconcile_settings import ReconcileSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.sender import DeliveryPolicy
from tests.support.organizations_setup import OrganizationsSetup, organizations_setup

SETTINGS = ReconcileSettings()


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OrganizationsSetup]:
    """An organization that is connected and subscribed."""
    async with organizations_setup(database) as made:
        await made.add()
        yield made


async def noted(setup: OrganizationsSetup, *, cause: HoleCause = HoleCause.RETRYING) -> UUID:
    """Note a hole since an hour ago."""
    now = setup.actions.clock.now()
    [subscription] = await setup.organizations.subscriptions.live(setup.org)
    return await note_hole(
        setup.actions.pool,
        setup.org,
        cause=cause,
        since=now - timedelta(hours=1),
        now=now,
        subscription=subscription.id,
    )


async def filled(setup: OrganizationsSetup, hole: UUID) -> HoleRecord:
    """Fill the holes that are due, and return one of them, which is closed by it."""
    assert await hole_rounds.run_once(setup.organizations, SETTINGS) == {setup.org: ["ended"]}
    found = await read_one(setup.actions.pool, hole)
    assert (found.state, found.progress, found.report is None) == ("closed", {}, False)
    return found


async def dark(setup: OrganizationsSetup, *, drop_rate: float = 1.0) -> None:
    """Let the simulator drop deliveries from now on."""
    await setup.settled()
    await setup.simulate("faults", drop_rate=drop_rate)


async def told(setup: OrganizationsSetup) -> Counter[tuple[str, str]]:
    """Read the log: how often each event about each subject is there."""
    ours = ["io.slotwire.subscription.%", "io.slotwire.connection.%"]
    rows = await setup.rows("SELECT type, subject FROM slotwire.events WHERE NOT type LIKE ANY ($1)", ours)
    return Counter((row["type"].split(".", 2)[2].removesuffix(".v1"), row["subject"]) for row in rows)


class Story:
    """Bookings that are made and changed at the simulator, and the events that follow from them."""

    def __init__(self, setup: OrganizationsSetup) -> None:
        self._setup = setup
        self.expected: Counter[tuple[str, str]] = Counter()

    async def book(self, count: int, *, days: int | None = None) -> list[str]:
        """Book meetings in the future, or so many days from now: no-shows are of meetings that were."""
        when = {} if days is None else {"start": (self._setup.actions.clock.now() + timedelta(days=days)).isoformat()}
        asked = {"organization": self._setup.org, **when}
        found = [(await self._setup.simulate("book", **asked))["invitees"][0] for _ in range(count)]
        self.expected.update(("invitee.created", each) for each in found)
        return found

    async def cancel(self, invitees: list[str]) -> None:
        """Cancel bookings."""
        for each in invitees:
            await self._setup.simulate("cancel", invitee=each)
        self.expected.update(("invitee.canceled", each) for each in invitees)

    async def move(self, invitees: list[str]) -> list[str]:
        """Reschedule bookings; return what they became."""
        newer = [(await self._setup.simulate("reschedule", invitee=each))["invitees"][1] for each in invitees]
        self.expected.update(("invitee.canceled", each) for each in invitees)
        self.expected.update((kind, each) for each in newer for kind in ("invitee.created", "invitee.rescheduled"))
        return newer

    async def mark(self, invitees: list[str]) -> None:
        """Mark as no-shows."""
        for each in invitees:
            await self._setup.simulate("no-show", invitee=each)
        self.expected.update(("invitee_no_show.created", each) for each in invitees)

    async def clear(self, invitees: list[str]) -> None:
        """Clear their marks."""
        for each in invitees:
            await self._setup.simulate("clear-no-show", invitee=each)
        self.expected.update(("invitee_no_show.deleted", each) for each in invitees)


async def in_the_dark(setup: OrganizationsSetup, bookings: int) -> Story:
    """Let half of the bookings be known, then everything happen to both halves that can, with nobody listening."""
    story, part = Story(setup), bookings // 12
    known = [*await story.book(3 * part, days=-3), *await story.book(bookings // 2 - 3 * part)]
    await story.mark(known[: 2 * part])
    await dark(setup)
    fresh = [*await story.book(2 * part, days=-1), *await story.book(bookings // 2 - 2 * part)]
    await story.clear(known[:part])
    await story.mark(known[2 * part : 3 * part])
    await story.cancel(known[3 * part : 4 * part])
    await story.move(await story.move(known[4 * part : 5 * part]))
    await story.mark(fresh[:part])
    await story.cancel(fresh[2 * part : 3 * part])
    await story.move(fresh[3 * part : 4 * part])
    for each in fresh[part : 2 * part]:  # which leaves nothing to see
        await setup.simulate("no-show", invitee=each)
        await setup.simulate("clear-no-show", invitee=each)
    await setup.simulate("routing-form", organization=setup.org)
    await dark(setup, drop_rate=0)
    return story


@pytest.mark.parametrize("bookings", [60, pytest.param(500, marks=pytest.mark.soak)])
async def test_what_happened_in_the_dark_is_there_once(bookings: int, setup: OrganizationsSetup) -> None:
    """Bookings made, moved, canceled, marked and cleared with nobody listening: each event once, by itself."""
    await setup.simulate("faults", rate_limit=100_000)
    story = await in_the_dark(setup, bookings)
    before = await told(setup)
    assert sum(before.values()) < sum(story.expected.values())
    closed = await filled(setup, await noted(setup))
    found = await told(setup)
    submitted = [key for key in found if key[0] == "routing_form_submission.created"]
    assert len(submitted) == 1
    assert found == story.expected + Counter(submitted)
    report: Any = closed.report
    assert sum(report["recovered"].values()) == sum(found.values()) - sum(before.values())
    assert (report["skipped"], report["quarantined"]) == (0, 0)
    kinds = {each["kind"]: each["count"] for each in report["unprovable"]}
    assert kinds == {"marks_set_and_cleared": 0, "meetings_out_of_reach": 0}
    cleared = await setup.rows(
        "SELECT inferred, origin, data FROM slotwire.events WHERE type = 'com.calendly.invitee_no_show.deleted.v1'"
    )
    assert {(row["inferred"], row["origin"]) for row in cleared} == {(True, "reconcile")}
    assert await hole_rounds.run_once(setup.organizations, SETTINGS) == {}


@pytest.mark.parametrize("bookings", [60, pytest.param(1_000, marks=pytest.mark.soak)])
async def test_one_in_twenty_that_is_lost_is_found(bookings: int, setup: OrganizationsSetup) -> None:
    """Of all deliveries one in twenty never comes, whatever it is about: a fetch finds all, each once."""
    story, part = Story(setup), bookings // 6
    await setup.simulate("faults", drop_rate=0.05)
    was = await story.book(2 * part, days=-2)
    await story.mark(was[:part])
    comes = await story.book(bookings - len(was))
    await story.cancel(comes[:part])
    await story.move(await story.move(comes[part : 2 * part]))
    await setup.settled()
    await setup.simulate("faults", drop_rate=0.0)
    before = await told(setup)
    assert sum(story.expected.values()) - sum(before.values()) > 0
    await filled(setup, await noted(setup))
    assert await told(setup) == story.expected


async def test_a_message_that_is_dropped_while_its_hook_stays_active_is_noticed(setup: OrganizationsSetup) -> None:
    """One message fails for a day while others arrive: the next round notes it, and the fetch finds the booking."""
    setup.calendly.engine.sender.policy = DeliveryPolicy(first_retry_seconds=3_600)  # none comes while others arrive
    await setup.simulate("faults", wrong_signature_rate=1.0)
    lost = (await setup.simulate("book", organization=setup.org, wait_seconds=60))["invitees"][0]
    await setup.simulate("faults", wrong_signature_rate=0.0)
    await setup.simulate("book", organization=setup.org, wait_seconds=60)
    await setup.settled()
    assert set((await rounds.run_once(setup.organizations)).values()) <= {"unchanged", "changed"}
    await setup.simulate("faults", wrong_signature_rate=1.0)
    await setup.simulate("clock", advance_seconds=25 * 3600)
    await setup.settled()
    [subscription] = setup.calendly.engine.ledger.subscriptions()
    assert (subscription.state, subscription.retry_started_at) == ("active", None)
    assert ("invitee.created", lost) not in await told(setup)
    [hole] = await setup.rows("SELECT id, cause FROM slotwire.holes")
    assert hole["cause"] == "retrying"
    await filled(setup, hole["id"])
    assert (await told(setup))["invitee.created", lost] == 1


async def test_what_comes_while_nothing_is_made_is_fetched_again_and_again(setup: OrganizationsSetup) -> None:
    """Something deletes the subscription: nobody makes another until told, and each round's bookings come by REST."""
    story = Story(setup)
    await story.book(1)
    await setup.settled()
    for each in setup.calendly.engine.ledger.subscriptions():
        setup.calendly.engine.ledger.delete_subscription(each.id)
    now = setup.actions.clock.now()
    await setup.rows("UPDATE slotwire.wanted_subscriptions SET contested_at = $1 RETURNING org", now)
    for _ in range(2):
        await story.book(2)
        await rounds.run_once(setup.organizations)
        assert await hole_rounds.run_once(setup.organizations, SETTINGS) == {setup.org: ["ended"]}
        assert await told(setup) == story.expected
    assert setup.calendly.engine.ledger.subscriptions() == ()
