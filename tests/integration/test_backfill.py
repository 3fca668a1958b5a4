"""Backfill: what REST tells becomes the events that webhooks would have brought, as fast as it is written."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from slotwire.ingest.control import backfill, backfill_rounds, rounds
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import COMMAND_LINE
from tests.support.organizations_setup import OrganizationsSetup, organizations_setup
from tests.support.writing import DELIVERIES, write_all, writing

CREATED = "com.calendly.invitee.created.v1"


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OrganizationsSetup]:
    """Two organizations at the simulator, none here."""
    async with organizations_setup(database) as made:
        yield made


async def test_a_backfill_repeats_no_event_of_a_webhook(setup: OrganizationsSetup) -> None:
    """Cancellations, no-shows and reschedules by REST have the ids that the webhooks gave them."""
    await setup.add()
    one, two, three = [(await setup.simulate("book"))["invitees"][0] for _ in range(3)]
    await setup.simulate("cancel", invitee=one)
    await setup.simulate("no-show", invitee=two)
    await setup.simulate("reschedule", invitee=three)
    await setup.settled()
    told = await setup.rows("SELECT event_id FROM slotwire.events ORDER BY 1")
    await setup.organizations.request_backfill(setup.org, setup.actions.clock.now())
    filled = await setup.actions.organizations.backfill(COMMAND_LINE, setup.org, lambda _: None)
    assert filled is not None
    assert (filled.meetings, filled.invitees, filled.new, filled.skipped) == (4, 4, 0, 0)
    assert await setup.rows("SELECT event_id FROM slotwire.events ORDER BY 1") == told
    assert await setup.actions.organizations.backfill(COMMAND_LINE, setup.org, lambda _: None) is None


async def test_a_backfill_gives_the_ids_of_webhooks(setup: OrganizationsSetup) -> None:
    """Bookings, a cancellation, a no-show and a reschedule without webhooks get the ids that webhooks give."""
    one, two, three = [(await setup.simulate("book"))["invitees"][0] for _ in range(3)]
    await setup.simulate("cancel", invitee=one)
    await setup.simulate("no-show", invitee=two)
    await setup.simulate("reschedule", invitee=three)
    await setup.add(backfill_days=1)
    filled = await setup.actions.organizations.backfill(COMMAND_LINE, setup.org, lambda _: None)
    assert filled is not None
    assert (filled.meetings, filled.skipped) == (4, 0)
    types = Counter(row["type"].split(".", 2)[2] for row in await setup.rows("SELECT type FROM slotwire.events"))
    assert types == {
        "invitee.created.v1": 4,
        "invitee.canceled.v1": 2,
        "invitee_no_show.created.v1": 1,
        "invitee.rescheduled.v1": 1,
        "connection.connected.v1": 1,
    }
    came = await setup.rows(f"SELECT DISTINCT origin, outcome FROM {DELIVERIES} AS came ORDER BY origin")
    assert [tuple(row) for row in came] == [("backfill", "stored"), ("own", "stored")]
    told = await setup.rows("SELECT DISTINCT origin FROM slotwire.events WHERE type LIKE '%invitee%'")
    assert [row["origin"] for row in told] == ["backfill"]


async def test_a_backfill_that_waits_for_the_writer_holds_up_no_subscription(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a writer a backfill stops at its limit of unwritten rows, again and again; rounds go on; then it ends."""
    monkeypatch.setattr(backfill, "MAX_UNWRITTEN", 4)
    monkeypatch.setattr(backfill, "ROWS_AT_ONCE", 2)
    async with organizations_setup(database, with_writer=False) as setup:
        booked = {(await setup.simulate("book", organization=setup.org))["invitees"][0] for _ in range(7)}
        await setup.add(backfill_days=0)
        held = "SELECT count(*) AS held FROM slotwire.deliveries WHERE origin = 'backfill'"
        for _ in range(2):  # a repetition lets nothing in beyond the limit
            assert await backfill_rounds.run_once(setup.organizations, patience=0.1) == {setup.org: "unwritten"}
            assert (await setup.rows(held))[0]["held"] == 4
        [known] = setup.calendly.engine.ledger.subscriptions()
        setup.calendly.engine.ledger.delete_subscription(known.id)
        waiting = asyncio.create_task(backfill_rounds.run_once(setup.organizations))
        assert await rounds.run_once(setup.organizations) == {setup.org: "changed"}  # replaced, while it waits
        assert not waiting.done()
        async with writing(setup.settings):
            assert await waiting == {setup.org: "done"}
        assert await backfill_rounds.run_once(setup.organizations) == {}
        await write_all(setup.settings)
        rows = await setup.rows("SELECT subject FROM slotwire.events WHERE type = $1", CREATED)
        assert sorted(row["subject"] for row in rows) == sorted(booked)


async def test_a_backfill_that_is_accepted_whole_is_not_repeated(database: Database) -> None:
    """What is accepted will be written: without a writer it says where it is, and it is not due again."""
    async with organizations_setup(database, with_writer=False) as setup:
        for _ in range(2):
            await setup.simulate("book", organization=setup.org)
        await setup.add(backfill_days=0)
        best = await setup.organizations.connections.for_organization(setup.org)
        async with setup.organizations.connections.acting(best) as calendly:
            done = await setup.organizations.run_backfill(setup.org, calendly, patience=0.1)
        assert done is not None
        assert (done.complete, done.unwritten, done.accepted_at, done.new) == (True, 2, 3, 0)
        assert await backfill_rounds.run_once(setup.organizations) == {}
        assert await write_all(setup.settings) == 3
