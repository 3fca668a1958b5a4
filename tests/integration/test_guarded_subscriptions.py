"""Subscriptions that Calendly disabled, lost or refuses: noticed, told, mended, on the simulator's clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import SecretStr

from slotwire.ingest.control import hole_rounds, rounds
from slotwire.ingest.control.claims import CLAIM, OrganizationClaimLost, claim_due, claimed, keep
from slotwire.ingest.control.subscription_facts import WantedSubscription
from slotwire.ingest.errors import CalendlyError, RequestRefused
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.connection_models import ConnectionRequest
from slotwire.ingest.operate.doctor_organizations import organizations
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.operate.subscription_models import SubscriptionRequest
from slotwire.schemas.ids import OrganizationUri
from tests.support.guarded_setup import LOST, RESTORED, GuardedSetup, guarded_setup

ROUTING = "routing_form_submission.created"


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[GuardedSetup]:
    """One organization, not added yet."""
    async with guarded_setup(database) as found:
        yield found


async def findings(setup: GuardedSetup) -> dict[str, bool]:
    """Return what `subscriptions check` says: each finding, and whether it is mended by itself."""
    found = await setup.actions.subscriptions.findings(COMMAND_LINE, setup.org)
    return {item.finding.value: item.applied for item in found.findings}


async def doctor(setup: GuardedSetup) -> str:
    """Return what `slotwire doctor` says about organizations."""
    async with setup.actions.pool.acquire() as connection:
        return (await organizations(connection, setup.settings)).message


async def test_a_day_of_failures_is_healed_within_one_round(setup: GuardedSetup) -> None:
    """After 24 h of 500s the round after it replaces the subscription, tells both events once, and has both audited."""
    await setup.add()
    [first] = setup.at_calendly()
    assert await setup.round() == "unchanged"
    setup.receiver.status = 500
    await setup.act("book")
    began = setup.clock.now()
    assert await setup.round() == "unchanged"
    assert await findings(setup) == {"retrying": True}
    for _ in range(24):
        await setup.advance(hours=1)
    assert setup.at_calendly()[0].state == "disabled"
    setup.receiver.status = 204
    assert await setup.round() == "changed"
    now = setup.clock.now()
    old, new = setup.at_calendly()
    assert (old.id, new.state) == (first.id, "active")
    (lost, why), (restored, how) = await setup.told()
    assert (lost, restored) == (LOST, RESTORED)
    assert (why["reason"], why["organization"]) == ("disabled", setup.calendly.organization)
    assert why["retry_started_at"] == began.isoformat().replace("+00:00", "Z")
    assert how["replaces"] == why["subscription_id"]
    assert how["subscription_id"] != why["subscription_id"]
    noticed = [why["noticed_at"], how["lost_at"], how["restored_at"]]
    assert noticed == [now.isoformat().replace("+00:00", "Z")] * 3
    assert await setup.audited() == {f"subscriptions.{verb}": 1 for verb in ("disabled", "create", "restored")}
    # What may be missing is to be fetched, from before the first failure.
    holes = await setup.rows("SELECT cause, since FROM slotwire.holes ORDER BY cause")
    assert {row["cause"] for row in holes} == {"retrying", "subscription_disabled"}
    assert all(row["since"] <= began - timedelta(minutes=5) for row in holes)
    # The old one goes when neither had a delivery for the overlap; nothing is told twice.
    assert await setup.round() == "unchanged"
    assert await findings(setup) == {"replacing": True}
    await setup.advance(hours=24)
    assert await setup.round() == "changed"
    assert [item.id for item in setup.at_calendly()] == [new.id]
    assert (await findings(setup), len(await setup.told())) == ({}, 2)


async def test_a_410_is_healed_within_one_round(setup: GuardedSetup) -> None:
    """One delivery answered 410 deletes the subscription; the next round makes another, and tells both events once."""
    await setup.add()
    setup.receiver.statuses = [410]
    await setup.act("book")
    assert setup.at_calendly() == []
    assert await findings(setup) == {"gone": True}
    assert await setup.round() == "changed"
    [new] = setup.at_calendly()
    (lost, why), (restored, how) = await setup.told()
    assert (lost, restored, why["reason"]) == (LOST, RESTORED, "gone")
    assert how["replaces"] == why["subscription_id"]
    assert await setup.audited() == {f"subscriptions.{verb}": 1 for verb in ("disabled", "create", "restored")}
    [hole] = await setup.rows("SELECT cause FROM slotwire.holes")
    assert hole["cause"] == "subscription_gone"
    assert (await setup.round(), setup.at_calendly()) == ("unchanged", [new])


async def test_what_something_deletes_again_is_contested(setup: GuardedSetup) -> None:
    """A second loss without a failure ends the replacements, until somebody resumes them."""
    await setup.add()
    for made in (1, 0, 0):
        for item in setup.at_calendly():
            setup.calendly.engine.ledger.delete_subscription(item.id)
        await setup.round()
        assert len(setup.at_calendly()) == made
        await setup.advance(minutes=1)
    assert await findings(setup) == {"contested": False}
    assert "something deletes the subscriptions of" in await doctor(setup)
    assert [kind for kind, _ in await setup.told()] == [LOST, RESTORED, LOST]
    await setup.advance(hours=25)  # not by itself, however long ago
    await setup.round()
    assert setup.at_calendly() == []
    with pytest.raises(RequestRefused) as caught:
        await setup.actions.subscriptions.create(COMMAND_LINE, setup.org, SubscriptionRequest())
    assert caught.value.code == "contested"
    assert (await setup.actions.subscriptions.resume(COMMAND_LINE, setup.org)).resumed == 1
    await setup.round()
    assert len(setup.at_calendly()) == 1
    assert (await setup.audited())["subscriptions.contested"] == 1


async def test_a_replacement_leaves_out_what_the_plan_refuses(setup: GuardedSetup) -> None:
    """When the plan lost routing forms, the replacement has the bookings, says what is missing, and asks again."""
    await setup.add()
    await setup.act("organizations", organization=setup.org, plan="free")
    setup.calendly.engine.ledger.delete_subscription(setup.at_calendly()[0].id)
    assert await setup.round() == "changed"
    [new] = setup.at_calendly()
    assert ROUTING not in new.events
    assert "invitee.created" in new.events
    (_, _), (_, how) = await setup.told()
    assert how["missing_events"] == [ROUTING]
    found = await setup.actions.subscriptions.findings(COMMAND_LINE, setup.org)
    [item] = found.findings
    assert (item.finding, item.events, item.applied, item.remedy) == ("plan_lost", (ROUTING,), False, "grant")
    await setup.act("organizations", organization=setup.org, plan="professional")
    assert (await setup.round(), len(setup.at_calendly())) == ("unchanged", 1)
    await setup.advance(hours=24)
    assert await setup.round() == "changed"
    assert ROUTING in setup.at_calendly()[-1].events


async def test_each_refused_family_is_found(setup: GuardedSetup) -> None:
    """With a token that may read bookings and event types only, exactly these are subscribed to."""
    events = ("invitee.created", ROUTING, "event_type.created", "contact.created")
    await setup.add(events=events)
    answer = await setup.http.post(
        "/simulator/tokens",
        json={
            "scopes": [
                *("users:read", "organizations:read", "webhooks:write"),
                *("scheduled_events:read", "event_types:read"),
            ]
        },
    )
    token = SecretStr(answer.json()["token"])
    await setup.actions.connections.add(COMMAND_LINE, setup.org, ConnectionRequest(token=token))
    setup.calendly.engine.ledger.delete_subscription(setup.at_calendly()[0].id)
    assert await setup.round() == "changed"
    await setup.advance(hours=24)
    [row] = await setup.rows("SELECT refused_for_scope FROM slotwire.wanted_subscriptions")
    assert set(row["refused_for_scope"]) == {ROUTING, "contact.created"}
    assert {frozenset(item.events) for item in setup.at_calendly()} >= {
        frozenset({"invitee.created", "event_type.created"})
    }


async def test_who_left_leaves_no_silent_subscription(setup: GuardedSetup) -> None:
    """A subscription whose creator left the organization is replaced by one of a user who is still there."""
    await setup.add()
    owner, admin = setup.calendly.world.members(setup.org)[:2]
    token = next(each.value for each in setup.calendly.world.tokens if each.user == admin.id)
    await setup.actions.connections.add(COMMAND_LINE, setup.org, ConnectionRequest(token=SecretStr(token)))
    connections = await setup.rows("SELECT id FROM slotwire.connections WHERE user_uri LIKE '%' || $1", owner.id)
    await setup.actions.connections.delete(COMMAND_LINE, setup.org, connections[0]["id"])
    setup.calendly.world.users[owner.id] = replace(owner, organization="ELSEWHERE")
    assert [await setup.round(), await setup.round()] == ["unchanged", "changed"]  # first it is asked who is there
    [old, new] = setup.at_calendly()
    assert (old.creator, new.creator) == (owner.id, admin.id)
    await setup.advance(hours=24)
    await setup.round()
    assert setup.at_calendly() == [new]


async def test_after_a_restore_deletions_are_proposed(setup: GuardedSetup) -> None:
    """On another server than before nothing is deleted at Calendly, until somebody confirms it."""
    await setup.add()
    await setup.rows("UPDATE slotwire.deletions SET server = 'another/00000001'")
    user = f"https://api.calendly.com/users/{setup.calendly.world.members(setup.org)[0].id}"
    want = WantedSubscription(("invitee.created",), "user", user)
    await setup.organizations.subscriptions.want(setup.org, want)
    assert (await setup.round(), len(setup.at_calendly())) == ("changed", 2)
    await setup.organizations.subscriptions.unwant(setup.org, "user", user)
    assert (await setup.round(), len(setup.at_calendly())) == ("unchanged", 2)
    assert await findings(setup) == {"unwanted": False}
    assert "nothing is deleted at Calendly" in await doctor(setup)
    assert (await setup.actions.subscriptions.confirm_deletions(COMMAND_LINE)).changed
    assert not (await setup.actions.subscriptions.confirm_deletions(COMMAND_LINE)).changed
    assert (await setup.round(), len(setup.at_calendly())) == ("changed", 1)


async def test_one_process_at_a_time_changes_an_organization(setup: GuardedSetup) -> None:
    """While a claim is held nobody else gets it; one that was taken over changes nothing more, and deletes nothing."""
    await setup.add()
    manager, uri = setup.organizations.subscriptions, OrganizationUri(setup.calendly.organization)
    pool = manager.pool
    async with claimed(pool, setup.clock, setup.org) as first:
        assert await setup.round() == "elsewhere"
        assert await claim_due(pool, setup.clock) is None
        await setup.advance(seconds=CLAIM.total_seconds())
        async with claimed(pool, setup.clock, setup.org, patience=None) as second:
            assert second.epoch == first.epoch + 1
            [item] = await manager.live(setup.org)
            for change in (
                keep(pool, setup.clock, first),
                manager.store.end(first, item),
                manager.store.begin_deletion(first, item),
                manager.store.note_retrying(first, item, setup.clock.now()),
                manager.store.lose(first, item, uri, "disabled", None),
                manager.store.restore(first, item, item, uri, ()),
            ):
                with pytest.raises(OrganizationClaimLost):
                    await change
        assert (await manager.live(setup.org), await setup.told()) == ((item,), [])
    due = await claim_due(pool, setup.clock)
    assert due is not None
    assert due.claim.org == setup.org


async def test_two_processes_share_the_rounds(database: Database) -> None:
    """Of two processes that make rounds at once each organization is claimed by one, and all are mended once."""
    async with guarded_setup(database, organizations=3) as setup:
        for org in setup.calendly.world.organizations:
            owner = setup.calendly.world.members(org)[0].id
            token = next(each.value for each in setup.calendly.world.tokens if each.user == owner)
            await setup.add(token=SecretStr(token))
        for item in setup.at_calendly():
            setup.calendly.engine.ledger.delete_subscription(item.id)
        both = await asyncio.gather(*(rounds.run_once(setup.organizations) for _ in range(2)))
        for org in setup.calendly.world.organizations:
            assert min(done[org] for done in both) == "changed"
        assert len(setup.at_calendly()) == 3
        assert [kind for kind, _ in await setup.told()].count(LOST) == 3


async def test_another_key_is_a_replacement(setup: GuardedSetup) -> None:
    """A rotation makes a subscription with another key at once; the old one goes when the new one is verified."""
    await setup.add()
    [old] = setup.at_calendly()
    [item] = (await setup.actions.signing_keys.rotate(COMMAND_LINE, setup.org)).subscriptions
    _, new = setup.at_calendly()
    assert (new.signing_key != old.signing_key, new.url != old.url, item.by is not None) == (True, True, True)
    again = await setup.actions.signing_keys.rotate(COMMAND_LINE, setup.org)
    assert [each.subscription_id for each in again.subscriptions] == [item.by]  # the newest, and the old one not again
    await setup.advance(hours=24)
    await setup.round()
    [left] = setup.at_calendly()
    assert left.id not in {old.id, new.id}
    assert await setup.told() == []  # nothing was lost
    await setup.rows("UPDATE slotwire.subscriptions SET app_signed = true")
    assert (await setup.actions.signing_keys.rotate(COMMAND_LINE, setup.org)).subscriptions == ()
    assert setup.at_calendly() == [left]


async def test_without_a_connection_nobody_watches(setup: GuardedSetup) -> None:
    """An organization whose only token was revoked is shown as unwatched, and as served by nothing that is known."""
    await setup.add()
    await setup.round()
    await setup.act("tokens/state", token=setup.calendly.owner_token, state="revoked")
    await setup.advance(minutes=1)
    assert [await setup.round(), await setup.round()] == ["failed", "paused"]
    [row] = await setup.rows("SELECT findings, unserved FROM slotwire.subscription_watch")
    assert (row["findings"], row["unserved"]) == (["unwatched organization"], 1)


async def test_calendly_failing_stops_nothing_else(setup: GuardedSetup) -> None:
    """While Calendly fails, a round fails and changes nothing; the next one that gets through goes on."""
    await setup.add()
    await setup.act("faults", rest_error_rate=1.0)
    with pytest.raises(CalendlyError):
        await setup.actions.subscriptions.findings(COMMAND_LINE, setup.org)
    await setup.act("faults", rest_error_rate=0.0)
    assert await setup.round() == "unchanged"


async def test_replacements_do_not_wait_for_a_fetch(database: Database) -> None:
    """While a fetch is held up, as it has no turn and nothing writes what it brings, what is lost is replaced."""
    async with guarded_setup(database, organizations=3) as setup:
        orgs = list(setup.calendly.world.organizations)
        for org in orgs:
            owner = setup.calendly.world.members(org)[0].id
            token = next(each.value for each in setup.calendly.world.tokens if each.user == owner)
            await setup.add(token=SecretStr(token))
        await setup.advance(minutes=1)
        for item in setup.at_calendly():
            setup.calendly.engine.ledger.delete_subscription(item.id)
        for org in orgs:  # each has something to write, whichever is fetched first
            await setup.act("book", organization=org)
        await rounds.run_once(setup.organizations)
        await setup.advance(minutes=1)
        fetch = asyncio.create_task(hole_rounds.run_once(setup.organizations, setup.settings.reconcile))
        try:
            async with asyncio.timeout(60):
                while not await setup.rows("SELECT FROM slotwire.holes WHERE state = 'fetching'"):  # noqa: ASYNC110 - another task gives no signal here
                    await asyncio.sleep(0.02)
            await setup.advance(hours=25)
            for item in setup.at_calendly():
                setup.calendly.engine.ledger.delete_subscription(item.id)
            assert set((await rounds.run_once(setup.organizations)).values()) == {"changed"}
            assert (fetch.done(), len(setup.at_calendly())) == (False, 3)
        finally:
            fetch.cancel()
            await asyncio.wait({fetch})
