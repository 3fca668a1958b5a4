"""Who fills a hole, when, and how it goes on: claims, turns, failures, and holes that grow meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from slotwire.ingest.control import hole_rounds
from slotwire.ingest.control.hole_fetch import Turn
from slotwire.ingest.control.hole_records import (
    KEPT_HOLES,
    LEASE,
    ClaimLost,
    HoleRecord,
    backoff,
    claim,
    finish,
    keep,
    read_one,
    release,
)
from slotwire.ingest.control.holes import HoleCause, note_hole
from slotwire.ingest.control.subscription_facts import WantedSubscription
from slotwire.ingest.foundation.reconcile_settings import ReconcileSettings
from slotwire.ingest.local.databases import Database
from tests.support.organizations_setup import OrganizationsSetup, organizations_setup

SETTINGS = ReconcileSettings()
CREATED = "SELECT count(*) AS events FROM slotwire.events WHERE type = 'com.calendly.invitee.created.v1'"


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OrganizationsSetup]:
    """Two organizations at the simulator; the first is connected and subscribed."""
    async with organizations_setup(database) as made:
        await made.add()
        yield made


async def noted(
    setup: OrganizationsSetup, *, org: str | None = None, cause: HoleCause = HoleCause.RETRYING, later: int = 0
) -> UUID:
    """Note a hole of the last hour, so many seconds from now."""
    now = setup.actions.clock.now() + timedelta(seconds=later)
    [subscription] = await setup.organizations.subscriptions.live(org or setup.org)
    since = now - timedelta(hours=1)
    return await note_hole(
        setup.actions.pool, org or setup.org, cause=cause, since=since, now=now, subscription=subscription.id
    )


async def read(setup: OrganizationsSetup, hole: UUID) -> HoleRecord:
    """Read a hole."""
    return await read_one(setup.actions.pool, hole)


async def shown(setup: OrganizationsSetup) -> str:
    """Say what a claim is decided by."""
    holes = await setup.rows("SELECT org, cause, state, due_at, fetch_since, lease_until, epoch FROM slotwire.holes")
    connections = await setup.rows("SELECT org, state, reason, checked_at FROM slotwire.connections")
    return "\n".join(map(str, [setup.actions.clock.now(), *holes, *connections]))


async def test_only_one_process_claims_and_only_it_closes(setup: OrganizationsSetup) -> None:
    """Two claim at once: one has it. Taken for dead after its lease, it can keep, close and give back nothing."""
    pool, now = setup.actions.pool, setup.actions.clock.now()
    hole = await noted(setup)
    await noted(setup, cause=HoleCause.REFUSED)  # another hole of the organization is filled by the same fetch
    now += timedelta(seconds=1)
    both = await asyncio.gather(*(claim(pool, now) for _ in range(4)))
    claims = [each for each in both if each is not None]
    assert len(claims) == 1, await shown(setup)
    [held] = claims
    assert await claim(pool, now + LEASE - timedelta(seconds=1)) is None
    await keep(pool, held, now + timedelta(seconds=1))
    assert await claim(pool, now + LEASE) is None
    later = await claim(pool, now + LEASE + timedelta(seconds=1))
    assert later is not None
    assert (later.id, later.fetch_began_at) == (held.id, held.fetch_began_at)
    for late in (keep(pool, held, now), finish(pool, held, {}, now)):
        with pytest.raises(ClaimLost):
            await late
    await release(pool, held, due_at=now)
    assert (await read(setup, held.id)).state == "fetching"
    assert len(await finish(pool, later, {}, now)) == 2
    assert (await read(setup, hole)).state == "closed"


async def test_a_hole_that_grows_is_filled_again(setup: OrganizationsSetup) -> None:
    """Noticed again after its fetch began, or earlier than that reached, it stays open; and waits before the next."""
    pool = setup.actions.pool
    hole, early = await noted(setup), await noted(setup, cause=HoleCause.REFUSED)
    now = setup.actions.clock.now()
    held = await claim(pool, now, org=setup.org)
    assert held is not None, await shown(setup)
    other = early if held.id == hole else hole
    cause = HoleCause((await read(setup, held.id)).cause)
    await noted(setup, cause=cause, later=60)
    [subscription] = await setup.organizations.subscriptions.live(setup.org)
    await note_hole(
        pool,
        setup.org,
        cause=(await read(setup, other)).cause,
        since=now - timedelta(days=3),
        now=now - timedelta(seconds=1),
        subscription=subscription.id,
    )
    assert await finish(pool, held, {"told": True}, now) == ()
    grown, earlier = await read(setup, held.id), await read(setup, other)
    assert (grown.state, grown.attempts, grown.due_at, grown.report) == ("open", 1, now + backoff(0), {"told": True})
    assert (earlier.state, earlier.report) == ("open", None)
    again = await claim(pool, setup.actions.clock.now() + backoff(0) + timedelta(seconds=90))
    assert again is not None
    assert again.fetch_since == now - timedelta(days=3)
    assert len(await finish(pool, again, {}, now)) == 2


async def test_a_fetch_gives_way_and_goes_on(setup: OrganizationsSetup) -> None:
    """A turn of no length ends after each page; another organization's hole comes between; nothing is read twice."""
    orgs = list(setup.calendly.world.organizations)
    await setup.add(token=setup.token(orgs[1]))
    await setup.settled()
    await setup.simulate("faults", drop_rate=1.0)
    for org in orgs:
        for _ in range(3):
            await setup.simulate("book", organization=org)
    holes = [await noted(setup, org=org) for org in orgs]
    seen: list[str] = []
    while (held := await claim(setup.actions.pool, setup.actions.clock.now())) is not None:
        seen.append(held.org)
        assert await hole_rounds.fill(setup.organizations, held, SETTINGS, Turn(seconds=0)) in {"turn_over", "ended"}
    assert seen == [*orgs, *orgs], await shown(setup)
    assert [(await read(setup, hole)).state for hole in holes] == ["closed", "closed"]
    [row] = await setup.rows(CREATED)
    assert row["events"] == 6


async def test_a_failed_fetch_goes_on_later(setup: OrganizationsSetup) -> None:
    """Calendly fails: the hole says so, waits longer each time, and is filled once Calendly answers."""
    hole = await noted(setup)
    await setup.simulate("faults", rest_error_rate=1.0)
    assert await hole_rounds.run_once(setup.organizations, SETTINGS) == {setup.org: ["failed"]}
    failed = await read(setup, hole)
    assert (failed.state, failed.attempts, failed.problem) == ("open", 1, "CalendlyError")
    assert failed.due_at > setup.actions.clock.now()
    assert backoff(1) == 2 * backoff(0)
    assert backoff(50) == backoff(49)
    await setup.simulate("faults", rest_error_rate=0.0)
    held = await claim(setup.actions.pool, failed.due_at)
    assert held is not None
    assert await hole_rounds.fill(setup.organizations, held, SETTINGS) == "ended"


async def test_a_disabled_subscriptions_hole_waits_for_the_new_one(setup: OrganizationsSetup) -> None:
    """What is fetched before the new hook is active could miss what came between; then it is claimed at once."""
    hole = await noted(setup, cause=HoleCause.SUBSCRIPTION_DISABLED)
    assert await claim(setup.actions.pool, setup.actions.clock.now()) is None
    replace = (
        "INSERT INTO slotwire.subscriptions (id, org, hook_id, scope, events, state, created_at)"
        " SELECT gen_random_uuid(), org, 'newer', scope, events, $1, created_at + interval '1 second'"
        " FROM slotwire.subscriptions WHERE hook_id <> 'newer'"
    )
    await setup.rows(replace, "creating")
    assert await claim(setup.actions.pool, setup.actions.clock.now()) is None
    await setup.rows("UPDATE slotwire.subscriptions SET state = 'active' WHERE hook_id = 'newer'")
    held = await claim(setup.actions.pool, setup.actions.clock.now())
    assert held is not None
    assert held.id == hole


async def test_an_organization_without_a_credential_is_unwatched(setup: OrganizationsSetup) -> None:
    """Its time without one is a hole from when the last one ended; it is filled when there is one again."""
    await setup.rows("UPDATE slotwire.connections SET state = 'error', reason = 'unreadable'")
    for _ in range(2):
        assert await hole_rounds.run_once(setup.organizations, SETTINGS) == {}
    [row] = await setup.rows(
        "SELECT h.id, h.cause, c.changed_at - h.since AS earlier"
        " FROM slotwire.holes h JOIN slotwire.connections c USING (org)"
    )
    assert (row["cause"], row["earlier"]) == ("unwatched", timedelta(minutes=5))
    await setup.add()
    assert await hole_rounds.run_once(setup.organizations, SETTINGS) == {setup.org: ["ended"]}
    assert (await read(setup, row["id"])).state == "closed"


async def test_what_nothing_writes_is_waited_for(database: Database) -> None:
    """Without a writer a fetch stops at the limit of unwritten rows, and goes on where it was."""
    async with organizations_setup(database, with_writer=False) as setup:
        await setup.add()
        await setup.simulate("faults", drop_rate=1.0)
        for _ in range(20):
            await setup.simulate("book", organization=setup.org)
        hole = await noted(setup)
        outcomes = await hole_rounds.run_once(setup.organizations, SETTINGS, Turn(patience=0.05))
        assert outcomes == {setup.org: ["unwritten"]}
        found = await read(setup, hole)
        assert (found.state, found.problem) == ("open", None)
        assert found.due_at > setup.actions.clock.now()


async def test_closed_holes_are_bounded(setup: OrganizationsSetup) -> None:
    """Of an organization's closed holes the newest thousand are kept."""
    await setup.rows(
        "INSERT INTO slotwire.holes"
        " (id, org, cause, since, noticed_at, last_noticed_at, due_at, state, report, closed_at)"
        " SELECT gen_random_uuid(), $1, 'asked', at, at, at, at, 'closed', '{}', at"
        " FROM generate_series(1, $2::int) AS n,"
        " LATERAL (SELECT timestamptz '2026-01-01' + n * interval '1 s' AS at) AS t",
        *(setup.org, KEPT_HOLES + 5),
    )
    await noted(setup)
    assert await hole_rounds.run_once(setup.organizations, SETTINGS) == {setup.org: ["ended"]}
    [row] = await setup.rows("SELECT count(*) AS kept, min(noticed_at) AS oldest FROM slotwire.holes")
    assert row["kept"] == KEPT_HOLES
    assert row["oldest"].second == 7


async def test_only_the_meetings_of_subscribed_hosts_are_read(setup: OrganizationsSetup) -> None:
    """Where one user's bookings are wanted and not the organization's, nobody else's become events."""
    first, *rest = setup.calendly.world.offers(setup.org)
    other = next(each for each in rest if each.owner != first.owner)
    wanted = WantedSubscription(("invitee.created",), "user", f"https://api.calendly.com/users/{first.owner}")
    await setup.organizations.subscriptions.unwant(setup.org)
    await setup.organizations.subscriptions.want(setup.org, wanted)
    await setup.simulate("faults", drop_rate=1.0)
    hers = (await setup.simulate("book", organization=setup.org, event_type=first.id))["invitees"][0]
    await setup.simulate("book", organization=setup.org, event_type=other.id)
    await noted(setup)
    assert await hole_rounds.run_once(setup.organizations, SETTINGS) == {setup.org: ["ended"]}
    rows = await setup.rows("SELECT subject FROM slotwire.events WHERE type LIKE 'com.%'")
    assert [row["subject"] for row in rows] == [hers]


async def test_an_organization_that_is_removed_leaves_no_hole_open(setup: OrganizationsSetup) -> None:
    """What nobody will fetch any more is not waited for; what was filled stays with its report."""
    await noted(setup)
    assert await hole_rounds.run_once(setup.organizations, SETTINGS) == {setup.org: ["ended"]}
    await noted(setup, cause=HoleCause.REFUSED)
    await setup.organizations.remove(setup.org)
    assert [row["state"] for row in await setup.rows("SELECT state FROM slotwire.holes")] == ["closed"]


async def test_two_processes_fill_what_is_noted(setup: OrganizationsSetup) -> None:
    """Two replicas run beside each other: whatever is noted is filled, each event is there once, and both stop."""
    orgs = list(setup.calendly.world.organizations)
    await setup.add(token=setup.token(orgs[1]))
    await setup.settled()
    await setup.simulate("faults", drop_rate=1.0)
    for org in orgs * 2:
        await setup.simulate("book", organization=org)
    settings = ReconcileSettings(interval_seconds=1)
    replicas = [asyncio.create_task(hole_rounds.run(setup.organizations, settings)) for _ in range(2)]
    holes = [
        await noted(setup, org=org, cause=cause) for org in orgs for cause in (HoleCause.RETRYING, HoleCause.REFUSED)
    ]
    async with asyncio.timeout(60):
        while {(await read(setup, hole)).state for hole in holes} != {"closed"}:  # noqa: ASYNC110 - it gives no signal
            await asyncio.sleep(0.05)
    for replica in replicas:
        replica.cancel()
    await asyncio.wait(replicas)
    assert all(replica.cancelled() for replica in replicas)
    [row] = await setup.rows(CREATED)
    assert row["events"] == 4


async def test_a_fetch_that_is_cancelled_is_given_back(setup: OrganizationsSetup) -> None:
    """A process that stops does not keep its claim: the next one goes on at once."""
    hole = await noted(setup)
    held = await claim(setup.actions.pool, setup.actions.clock.now())
    assert held is not None
    filling = asyncio.create_task(hole_rounds.fill(setup.organizations, held, SETTINGS))
    await asyncio.sleep(0)
    filling.cancel()
    await asyncio.wait([filling])
    assert filling.cancelled()
    assert (await read(setup, hole)).state == "open"
    assert await hole_rounds.run_once(setup.organizations, SETTINGS) == {setup.org: ["ended"]}
