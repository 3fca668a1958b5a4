"""`slotwire reconcile` as an operator types it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from slotwire.ingest.control.holes import HoleCause, note_hole
from slotwire.ingest.local.databases import Database
from tests.support.command import CommandResult, environment, slotwire
from tests.support.organizations_setup import OrganizationsSetup, organizations_setup


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OrganizationsSetup]:
    """An organization that is connected and subscribed."""
    async with organizations_setup(database, organizations=1) as made:
        await made.add()
        yield made


async def typed(setup: OrganizationsSetup, *words: str) -> CommandResult:
    """Type a command."""
    env = environment(setup.settings) | {"SLOTWIRE_CALENDLY__API_URL": setup.calendly.url}
    return await slotwire(*words, env=env)


async def test_it_fetches_what_was_missed_and_says_so(setup: OrganizationsSetup) -> None:
    """The bookings whose deliveries were dropped are recovered; the report is printed, and kept with the hole."""
    await setup.simulate("faults", drop_rate=1.0)
    for _ in range(3):
        await setup.simulate("book")
    await setup.simulate("faults", drop_rate=0.0)
    done = await typed(setup, "reconcile", setup.org)
    assert done.code == 0, done.stderr
    assert "recovered: 3 com.calendly.invitee.created.v1" in done.stdout
    assert "cannot be proven: no-show marks that were set and cleared again" in done.stdout
    again = await typed(
        setup, "reconcile", "--since", (datetime.now(UTC) - timedelta(days=2)).strftime("%Y-%m-%d"), "--json"
    )
    found = json.loads(again.stdout)
    assert (found["state"], found["cause"], found["report"]["recovered"]) == ("closed", "asked", {})
    assert found["report"]["calls_saved"] == 3
    assert (await typed(setup, "reconcile", "--list")).stderr.strip() == "no holes that are not filled"
    listed = await typed(setup, "reconcile", setup.org, "--list", "--ended", "--json")
    assert [json.loads(line)["state"] for line in listed.stdout.splitlines()] == ["closed", "closed"]


async def test_a_hole_of_an_organization_that_nobody_watches_is_shown(setup: OrganizationsSetup) -> None:
    """Without a usable credential nothing can be fetched: the error says so, and the hole stays open."""
    now = setup.actions.clock.now()
    await setup.rows("UPDATE slotwire.connections SET state = 'revoked', reason = 'refused'")
    await note_hole(setup.actions.pool, setup.org, cause=HoleCause.UNWATCHED, since=now, now=now, subscription=None)
    refused = await typed(setup, "reconcile", setup.org)
    assert refused.code == 1
    assert "slotwire connections add" in refused.stderr
    listed = await typed(setup, "reconcile", "--list")
    assert listed.stdout.count("unwatched") == 1
    assert listed.stdout.count(" open ") == 2


async def test_a_time_to_come_is_refused(setup: OrganizationsSetup) -> None:
    """Nothing can have been missed since then, and no hole is noted."""
    refused = await typed(setup, "reconcile", setup.org, "--since", "2099-01-01")
    assert refused.code == 1
    assert "still to come" in refused.stderr
    assert await setup.rows("SELECT FROM slotwire.holes") == []
