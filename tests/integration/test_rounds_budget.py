"""Rounds within Calendly's limits: calls counted at the simulator, on its clock."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pydantic import SecretStr

from slotwire.ingest.control import hole_rounds, round_records
from slotwire.ingest.control.backfill import BACKGROUND_RETRIES
from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.calendly_client.transport import open_calendly
from slotwire.ingest.control.claims import claim_due
from slotwire.ingest.control.holes import HoleCause, note_hole
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.control.round_schedule import SHARE
from slotwire.ingest.control.rounds import AT_ONCE, make_round, run, run_once
from slotwire.ingest.control.subscription_facts import WantedSubscription
from slotwire.ingest.foundation.reconcile_settings import ReconcileSettings
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.local.databases import Database
from tests.support.altered_calendly import altered_calendly
from tests.support.guarded_setup import GuardedSetup, guarded_setup
from tests.support.many_organizations import write_organizations
from tests.support.writing import writing

MINUTES = 12
RECONCILE = ReconcileSettings()


async def add_all(setup: GuardedSetup) -> None:
    """Add every organization of the simulator."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def add(org: str) -> None:
        owner = setup.calendly.world.members(org)[0].id
        token = next(each.value for each in setup.calendly.world.tokens if each.user == owner)
        async with limit:
            await setup.add(token=SecretStr(token))

    async with asyncio.TaskGroup() as group:
        for org in setup.calendly.world.organizations:
            group.create_task(add(org))


async def due_rounds(setup: GuardedSetup) -> int:
    """Make the rounds that are due now, as `slotwire control` does; return how many."""
    organizations, made = setup.organizations, 0
    while (due := await claim_due(organizations.pool, setup.clock)) is not None:
        await make_round(organizations, due.claim, due.uri)
        made += 1
    return made


def calls(setup: GuardedSetup) -> int:
    """Return how many REST calls were made so far."""
    return int(str(setup.calendly.gate.calls.summary()["calls"]))


async def test_listing_keeps_to_its_share_of_each_users_limit(database: Database) -> None:
    """A paid organization is listed every minute, a free one as often as its 50 calls allow."""
    async with guarded_setup(database, organizations=2) as setup:
        paid, free = setup.calendly.world.organizations
        await add_all(setup)
        people = [f"https://api.calendly.com/users/{user.id}" for user in setup.calendly.world.members(free)]
        for user in people[:2]:
            want = WantedSubscription(("invitee.created",), "user", user)
            await setup.organizations.subscriptions.want(free, want)
        await run_once(setup.organizations)
        await setup.act("organizations", organization=free, plan="free")
        await run_once(setup.organizations)
        before, made = calls(setup), Counter[str]()
        for _ in range(MINUTES * 2):
            await setup.advance(seconds=30)
            await due_rounds(setup)
        for call in setup.calendly.gate.calls.listing(before, 1_000, lambda _: True):
            made[call.organization or ""] += 1
        assert made[paid] == 2 * MINUTES  # whose token it is, and the list
        assert MINUTES / 2 < made[free] <= SHARE * 50 * MINUTES + 2
        rows = await setup.rows("SELECT org, rate_limit FROM slotwire.subscription_watch")
        assert {row["org"]: row["rate_limit"] for row in rows} == {paid: 500, free: 50}


async def test_whoever_falls_silent_is_due_at_once(database: Database) -> None:
    """An organization whose silence is unusual is looked at at once, and then sooner than others."""
    async with guarded_setup(database) as setup:
        await setup.add()
        await run_once(setup.organizations)
        assert await due_rounds(setup) == 0
        await round_records.note_silence(setup.actions.pool, [setup.org], setup.clock.now())
        assert await due_rounds(setup) == 1
        await setup.advance(seconds=15)
        assert await due_rounds(setup) == 1
        await round_records.note_silence(setup.actions.pool, [], setup.clock.now())
        await setup.advance(seconds=15)
        assert await due_rounds(setup) == 1
        await setup.advance(seconds=15)
        assert await due_rounds(setup) == 0


@asynccontextmanager
async def everything(setup: GuardedSetup, *, fetched: int) -> AsyncIterator[None]:
    """Make rounds and fetches beside each other while the block runs, as `slotwire control` does.

    After so many calls of a fetch none is answered, so that it does not end before the block, however slow that is.
    """
    async with altered_calendly(setup.calendly.url) as between:

        async def hold(_: object) -> None:
            if len(between.asked) > fetched:
                await asyncio.Event().wait()

        between.holding = hold
        settings = setup.settings.model_copy(update={"calendly": CalendlySettings(api_url=between.url)})
        pool, clock = setup.actions.pool, setup.clock
        async with open_calendly(settings.calendly, Budgets(pool, clock, settings.calendly)) as calendly:
            retries = replace(BACKGROUND_RETRIES, answer_seconds=3_600.0)
            patient = Organizations.from_settings(settings, pool, clock, calendly, retries=retries)
            rounds, fetches = run(setup.organizations, settings.subscriptions), hole_rounds.run(patient, RECONCILE)
            tasks = [asyncio.create_task(chore) for chore in (rounds, fetches)]
            try:
                yield
                assert not [task for task in tasks if task.done()]
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)


async def until(setup: GuardedSetup, query: str) -> None:
    """Wait until a query of the owner's finds a row."""
    async with asyncio.timeout(600):
        while not await setup.rows(query):  # noqa: ASYNC110 - other tasks give no signal here
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("organizations", [2 * AT_ONCE, pytest.param(1_000, marks=pytest.mark.soak)])
async def test_all_that_is_disabled_is_replaced_before_a_long_fetch_ends(
    organizations: int, database: Database
) -> None:
    """While one organization has much to fetch, every subscription is disabled at once: none waits for its end."""
    async with guarded_setup(database, organizations=organizations, still=False) as setup, writing(setup.settings):
        now = setup.clock.now()
        await write_organizations(setup.settings, database, setup.calendly.world, now)
        await run_once(setup.organizations)
        await setup.act("faults", drop_rate=1.0)
        bookings = max(90, 3 * organizations)  # a call each, of which Calendly allows a user 500 a minute
        for _ in range(bookings):
            await setup.act("book", organization=setup.org)
        await note_hole(
            setup.actions.pool, setup.org, cause=HoleCause.NO_DATABASE, since=now, now=now, subscription=None
        )
        async with everything(setup, fetched=bookings - 10):
            await until(setup, "SELECT FROM slotwire.holes WHERE state = 'fetching'")
            for item in setup.at_calendly():
                setup.calendly.engine.ledger.put_subscription(replace(item, state="disabled"))
            began = time.monotonic()
            await setup.advance(minutes=2)
            await until(
                setup,
                "SELECT FROM slotwire.subscriptions HAVING"
                f" count(*) FILTER (WHERE lost_reason = 'disabled') = {organizations} AND"
                f" count(DISTINCT org) FILTER (WHERE state = 'active' AND lost_at IS NULL) = {organizations}",
            )
            seconds = time.monotonic() - began
            [fetch] = await setup.rows("SELECT state FROM slotwire.holes WHERE cause = 'no_database'")
        assert fetch["state"] == "fetching"
        active = [item for item in setup.at_calendly() if item.state == "active"]
        assert len(active) == organizations
        sys.stdout.write(f"{organizations} disabled at once: all replaced after {seconds:.1f} s\n")


@pytest.mark.soak
async def test_a_thousand_organizations_in_one_process(database: Database) -> None:
    """One process lists 1,000 organizations with two calls each, and replaces 1,000 lost subscriptions in one round."""
    async with guarded_setup(database, organizations=1_000) as setup:
        await add_all(setup)
        before, used, began = calls(setup), time.process_time(), time.monotonic()
        done = Counter((await run_once(setup.organizations)).values())
        cost = time.process_time() - used
        assert (done, calls(setup) - before) == ({"unchanged": 1_000}, 2_000)
        told = f"{cost:.1f} s of CPU with the simulator's, {time.monotonic() - began:.1f} s"
        sys.stdout.write(f"1,000 rounds: 2,000 calls, {told}\n")
        for item in setup.at_calendly():
            setup.calendly.engine.ledger.delete_subscription(item.id)
        before, used, began = calls(setup), time.process_time(), time.monotonic()
        done = Counter((await run_once(setup.organizations)).values())
        cost, made = time.process_time() - used, calls(setup) - before
        assert (done, len(setup.at_calendly())) == ({"changed": 1_000}, 1_000)
        assert made <= 6_000  # whose token it is, the lists before and after, and the creation
        told = f"{cost:.1f} s of CPU with the simulator's, {time.monotonic() - began:.1f} s"
        sys.stdout.write(f"1,000 replacements: {made} calls, {told}\n")
        await setup.advance(minutes=2)
        assert await due_rounds(setup) == 1_000
