"""Organizations end to end: a token becomes live events in one step, and nothing is left when one is given up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from slotwire.ingest.control import backfill_rounds, rounds
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, ConfigurationError, RequestRefused
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.models import KeyRequest
from slotwire.ingest.operate.organization_models import OrganizationAdded, RenameRequest
from slotwire.ingest.operate.roles import COMMAND_LINE, Role
from slotwire.schemas.events import ConnectionConnected, InviteeCreated
from tests.support.organizations_setup import OrganizationsSetup, organizations_setup

CREATED = "com.calendly.invitee.created.v1"


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OrganizationsSetup]:
    """Two organizations at the simulator, none here."""
    async with organizations_setup(database) as made:
        yield made


async def test_one_step_from_a_token_to_live_events(setup: OrganizationsSetup) -> None:
    """What was booked before, while and after an organization is added is in the log, each once."""
    before = [await setup.simulate("book") for _ in range(3)]

    async def book() -> list[Any]:
        return [await setup.simulate("book") for _ in range(12)]

    added, during = await asyncio.gather(setup.add(external_id="customer-1", backfill_days=0), book())
    assert (added.new, added.organization.external_id, len(added.subscriptions)) == (True, "customer-1", 1)
    assert await rounds.run_once(setup.organizations) == {setup.org: "unchanged"}
    assert await backfill_rounds.run_once(setup.organizations) == {setup.org: "done"}
    after = [await setup.simulate("book") for _ in range(2)]
    await setup.settled()
    told = Counter(
        row["subject"] for row in await setup.rows("SELECT subject FROM slotwire.events WHERE type = $1", CREATED)
    )
    booked = [each["invitees"][0] for each in (*before, *during, *after)]
    assert told == Counter(booked)
    tenants = await setup.rows("SELECT DISTINCT tenant FROM slotwire.events")
    assert [row["tenant"] for row in tenants] == ["customer-1"]


async def test_adding_twice_is_adding_once(setup: OrganizationsSetup) -> None:
    """Adding again with the same token makes no subscription, and there is one connection."""
    first = await setup.add()
    again = await setup.add(external_id="late")
    assert (again.new, again.connection_id) == (False, first.connection_id)
    assert [item.id for item in again.subscriptions] == [item.id for item in first.subscriptions]
    assert again.organization.external_id == "late"
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1


async def test_adding_again_keeps_what_was_wanted(setup: OrganizationsSetup) -> None:
    """A new token alone changes no wanted subscription; a new maximum age is applied, and given events replace."""
    first = await setup.add(events=("contact.created", "meeting_recap.created"), max_age_seconds=90_000)
    again = await setup.add()
    assert {item.id for item in again.subscriptions} == {item.id for item in first.subscriptions}
    older = await setup.add(max_age_seconds=100_000)
    assert {(item.scope, item.events, item.max_age_seconds) for item in older.subscriptions} == {
        ("organization", ("contact.created",), 100_000),
        ("user", ("meeting_recap.created",), 100_000),
    }
    other = await setup.add(events=("invitee.created",))
    assert ("organization", ("invitee.created",)) in {(item.scope, item.events) for item in other.subscriptions}
    issued = await setup.simulate("tokens", scopes=["users:read", "organizations:read", "webhooks:write"])
    with pytest.raises(RequestRefused, match="meeting_recaps:read, scheduled_events:read"):
        await setup.add(token=SecretStr(issued["token"]))  # it could not keep what is wanted


async def test_recaps_are_subscribed_for_the_tokens_user(setup: OrganizationsSetup) -> None:
    """Events of users only get a subscription of their own beside the organization's."""
    added = await setup.add(events=("invitee.created", "meeting_recap.created"))
    assert {(item.scope, item.events) for item in added.subscriptions} == {
        ("organization", ("invitee.created",)),
        ("user", ("meeting_recap.created",)),
    }


async def test_removing_leaves_nothing_behind(setup: OrganizationsSetup) -> None:
    """Nothing is left at Calendly, no credential and no working key; the history stays, and adding revives it."""
    await setup.add(events=("invitee.created", "meeting_recap.created"))
    await setup.simulate("book")
    await setup.settled()
    await setup.actions.keys.create(COMMAND_LINE, KeyRequest(role=Role.READER, organization=setup.org))
    remembered = "INSERT INTO slotwire.agent_state VALUES ('crm', $1, 'k', '{}', $2) RETURNING org"
    for org in (setup.org, "ANOTHER"):
        await setup.rows(remembered, org, SystemClock().now())
    done = await setup.actions.organizations.remove(COMMAND_LINE, setup.org, force=False)
    assert (len(done.ended), done.left, len(done.connections), len(done.keys)) == (2, (), 1, 1)
    assert done.organization.ended_at is not None
    assert setup.calendly.engine.ledger.subscriptions() == ()
    assert await setup.rows("SELECT FROM slotwire.connections") == []
    assert [row["org"] for row in await setup.rows("SELECT org FROM slotwire.agent_state")] == ["ANOTHER"]
    assert await rounds.run_once(setup.organizations) == {}
    kinds = [row["type"] for row in await setup.rows("SELECT type FROM slotwire.events ORDER BY position")]
    assert kinds == [ConnectionConnected.type, InviteeCreated.type]
    again = await setup.actions.organizations.remove(COMMAND_LINE, setup.org, force=False)
    assert again.organization.ended_at == done.organization.ended_at
    assert (await setup.add()).organization.ended_at is None


async def test_subscriptions_that_cannot_be_deleted_are_reported(setup: OrganizationsSetup) -> None:
    """With a revoked token nothing can be deleted at Calendly: all of it is named and stays; `force` removes it."""
    added = await setup.add()
    await setup.simulate("tokens/state", token=setup.calendly.owner_token, state="revoked")
    done = await setup.actions.organizations.remove(COMMAND_LINE, setup.org, force=False)
    assert (done.ended, done.organization.ended_at, done.connections) == ((), None, ())
    [left] = done.left
    assert left.id == added.subscriptions[0].id
    assert "revoked" in left.why
    forced = await setup.actions.organizations.remove(COMMAND_LINE, setup.org, force=True)
    assert forced.organization.ended_at is not None
    assert len(forced.connections) == 1
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1  # Calendly still has it, as was said


async def test_everything_that_is_missing_is_reported_at_once(setup: OrganizationsSetup) -> None:
    """A member's token with too few scopes: role and scopes in one message, with what to select; nothing is stored."""
    member = next(each for each in setup.calendly.world.members(setup.org) if each.role == "user")
    issued = await setup.simulate("tokens", user=member.id, scopes=["users:read", "organizations:read"])
    with pytest.raises(RequestRefused) as caught:
        await setup.add(token=SecretStr(issued["token"]), events=("invitee.created", "contact.created"))
    assert caught.value.code == "token_not_enough"
    for word in ("'user'", "webhooks:write", "scheduled_events:read", "contacts:read"):
        assert word in caught.value.message
    assert "Integrations" in caught.value.remedy
    assert issued["token"] not in caught.value.message + caught.value.remedy
    assert await setup.rows("SELECT FROM slotwire.organizations") == []


async def test_a_wrong_organization_or_address_is_refused_before_anything(
    setup: OrganizationsSetup,
) -> None:
    """Another organization's token, an event that is none, and an address Calendly cannot reach store nothing."""
    other = next(org for org in setup.calendly.world.organizations if org != setup.org)
    with pytest.raises(RequestRefused) as caught:
        await setup.add(organization=other)
    assert caught.value.code == "token_of_another_organization"
    with pytest.raises(RequestRefused, match="no event"):
        await setup.add(events=("invitee.rescheduled",))
    calls = setup.calls
    real = setup.settings.model_copy(update={"calendly": CalendlySettings()})
    with pytest.raises(ConfigurationError, match="https addresses only"):
        await Organizations.from_settings(real, setup.actions.pool, setup.actions.clock, setup.actions.calendly).add(
            SecretStr("x")
        )
    assert setup.calls == calls
    assert await setup.rows("SELECT FROM slotwire.organizations") == []


async def test_an_external_id_belongs_to_one_organization(setup: OrganizationsSetup) -> None:
    """Two organizations cannot have one external id; the second is refused in words."""
    other = next(org for org in setup.calendly.world.organizations if org != setup.org)
    await setup.add(external_id="customer-1")
    with pytest.raises(RequestRefused, match="external id"):
        await setup.add(token=setup.token(other), external_id="customer-1")


async def test_adding_again_does_not_rename(setup: OrganizationsSetup) -> None:
    """Another external id is refused with the command that changes it, and nothing is stored; the same one is fine."""
    await setup.add(external_id="customer-1")
    assert (await setup.add(external_id="customer-1")).organization.external_id == "customer-1"
    before = await setup.rows("SELECT to_jsonb(o) AS org FROM slotwire.organizations o")
    with pytest.raises(RequestRefused, match="has another external id") as caught:
        await setup.add(external_id="customer-2", events=("contact.created",))
    assert caught.value.code == "external_id_set"
    assert f"slotwire organizations rename {setup.org} NAME" in caught.value.remedy
    assert await setup.rows("SELECT to_jsonb(o) AS org FROM slotwire.organizations o") == before
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1


async def test_a_removed_organization_keeps_its_external_id(setup: OrganizationsSetup) -> None:
    """Added again it has the name it had, and a refused name does not bring it back."""
    await setup.add(external_id="customer-1")
    await setup.actions.organizations.remove(COMMAND_LINE, setup.org, force=False)
    with pytest.raises(RequestRefused, match="has another external id"):
        await setup.add(external_id="customer-2")
    [row] = await setup.rows("SELECT ended_at, external_id FROM slotwire.organizations")
    assert (row["ended_at"] is None, row["external_id"]) == (False, "customer-1")
    assert (await setup.add()).organization.external_id == "customer-1"


async def test_two_first_names_at_once(setup: OrganizationsSetup) -> None:
    """Of two callers that name an organization at the same time one does; the other is told, and changes nothing."""
    await setup.add()
    found = await asyncio.gather(*(setup.add(external_id=name) for name in ("one", "two")), return_exceptions=True)
    [refused] = [item for item in found if isinstance(item, RequestRefused)]
    [added] = [item for item in found if isinstance(item, OrganizationAdded)]
    assert refused.code == "external_id_set"
    [row] = await setup.rows("SELECT external_id FROM slotwire.organizations")
    assert row["external_id"] == added.organization.external_id


async def test_events_after_a_new_name_carry_it(setup: OrganizationsSetup) -> None:
    """A renamed organization's next events have the new `ce_tenant`, those before keep theirs."""
    await setup.add(external_id="customer-1")
    for name in ("customer-2", None):
        await setup.simulate("book")
        await setup.settled()
        request = RenameRequest(external_id=name)
        renamed = await setup.actions.organizations.rename(COMMAND_LINE, setup.org, request)
        assert renamed.external_id == name
    await setup.simulate("book")
    await setup.settled()
    told = await setup.rows("SELECT tenant FROM slotwire.events WHERE type = $1 ORDER BY position", InviteeCreated.type)
    assert [row["tenant"] for row in told] == ["customer-1", "customer-2", None]


async def test_a_name_of_another_organization_is_taken(setup: OrganizationsSetup) -> None:
    """An admin that reaches all organizations is told so; nothing changes."""
    other = next(org for org in setup.calendly.world.organizations if org != setup.org)
    await setup.add(external_id="customer-1")
    await setup.add(token=setup.token(other), external_id="customer-2")
    with pytest.raises(RequestRefused, match="already used"):
        await setup.actions.organizations.rename(COMMAND_LINE, other, RenameRequest(external_id="customer-1"))
    names = await setup.rows("SELECT external_id FROM slotwire.organizations ORDER BY external_id")
    assert [row["external_id"] for row in names] == ["customer-1", "customer-2"]


async def test_after_an_upgrade_of_the_plan_a_round_subscribes(setup: OrganizationsSetup) -> None:
    """A plan without webhooks is refused with the remedy; the organization stays, and a later round subscribes it."""
    await setup.simulate("organizations", organization=setup.org, webhooks=False)
    with pytest.raises(CalendlyError) as caught:
        await setup.add()
    assert caught.value.problem is CalendlyProblem.PLAN
    assert "can upgrade" in caught.value.remedy
    assert await rounds.run_once(setup.organizations) == {setup.org: "failed"}
    await setup.simulate("organizations", organization=setup.org, webhooks=True)
    assert await rounds.run_once(setup.organizations) == {setup.org: "changed"}
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1


async def test_rounds_restore_what_is_wanted(setup: OrganizationsSetup) -> None:
    """A subscription deleted at Calendly is created again; an organization that cannot act does not stop the others."""
    other = next(org for org in setup.calendly.world.organizations if org != setup.org)
    await setup.add()
    await setup.add(token=setup.token(other))
    for known in setup.calendly.engine.ledger.subscriptions():
        setup.calendly.engine.ledger.delete_subscription(known.id)
    await setup.simulate("tokens/state", token=setup.calendly.owner_token, state="revoked")
    assert await rounds.run_once(setup.organizations) == {setup.org: "failed", other: "changed"}
    assert await rounds.run_once(setup.organizations) == {setup.org: "paused", other: "unchanged"}
    [known] = setup.calendly.engine.ledger.subscriptions()
    assert known.organization == other
    noted = await setup.rows("SELECT org, action, result FROM slotwire.audit WHERE actor = 'control' ORDER BY id")
    assert [tuple(row) for row in noted] == [
        (other, f"subscriptions.{verb}", result)
        for verb in ("disabled", "create", "restored")
        for result in ("started", "done")
    ]
    await setup.settled()
    revoked = await setup.rows("SELECT org FROM slotwire.events WHERE type = 'io.slotwire.connection.revoked.v1'")
    assert [row["org"] for row in revoked] == [setup.org]


async def test_a_subscription_unwanted_meanwhile_is_not_created(setup: OrganizationsSetup) -> None:
    """A round that read a wanted subscription before it was removed creates nothing, at Calendly or here."""
    await setup.add()
    organizations = setup.organizations
    for known in setup.calendly.engine.ledger.subscriptions():
        setup.calendly.engine.ledger.delete_subscription(known.id)
    other = await asyncpg.connect(setup.database.owner_url)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM slotwire.organizations FOR UPDATE")
            going = asyncio.create_task(rounds.run_once(organizations))
            async with asyncio.timeout(60):
                while not await other.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                    await asyncio.wait({going}, timeout=0.02)
            await other.execute("DELETE FROM slotwire.wanted_subscriptions")
        assert await going == {setup.org: "unchanged"}
    finally:
        await other.close()
    assert setup.calendly.engine.ledger.subscriptions() == ()
    assert await setup.rows("SELECT FROM slotwire.subscriptions WHERE state <> 'ended'") == []


async def test_a_round_outlives_a_database_that_refuses(setup: OrganizationsSetup) -> None:
    """A database failure counts as its organization's failure: the round ends, and the process goes on."""
    await setup.add()
    await setup.rows("REVOKE SELECT ON slotwire.wanted_subscriptions FROM slotwire_control")
    await setup.rows("GRANT SELECT (org) ON slotwire.wanted_subscriptions TO slotwire_control")
    assert await rounds.run_once(setup.organizations) == {setup.org: "failed"}
    await setup.rows("GRANT SELECT ON slotwire.wanted_subscriptions TO slotwire_control")
    assert await rounds.run_once(setup.organizations) == {setup.org: "unchanged"}


async def test_fifty_organizations_and_no_foreign_call(database: Database) -> None:
    """Fifty tokens side by side: each acts for its own organization only, and each booking is its own one's."""
    async with organizations_setup(database, organizations=50) as setup:
        orgs = list(setup.calendly.world.organizations)
        gate = asyncio.Semaphore(8)

        async def add(org: str) -> OrganizationAdded:
            async with gate:
                return await setup.add(token=setup.token(org), backfill_days=0)

        added = await asyncio.gather(*(add(org) for org in orgs))
        assert [item.organization.organization for item in added] == orgs
        booked = {(await setup.simulate("book", organization=org))["invitees"][0]: org for org in orgs}
        assert await rounds.run_once(setup.organizations) == dict.fromkeys(orgs, "unchanged")
        assert await backfill_rounds.run_once(setup.organizations) == dict.fromkeys(orgs, "done")
        await setup.settled()
        rows = await setup.rows("SELECT subject, org FROM slotwire.events WHERE type = $1", CREATED)
        assert {row["subject"]: row["org"] for row in rows} == booked
        assert setup.calendly.gate.calls.foreign() == ()
        assert setup.calls > 50 * 5
        # Two customers' secrets swapped: each opens in its own row only, and nobody's data is asked for.
        await _swap_secrets(setup, orgs[0], orgs[1])
        results = await rounds.run_once(setup.organizations)
        assert {org for org, result in results.items() if result != "unchanged"} == set(orgs[:2])
        assert setup.calendly.gate.calls.foreign() == ()


async def _swap_secrets(setup: OrganizationsSetup, one: str, two: str) -> None:
    connection = await asyncpg.connect(setup.database.owner_url)
    try:
        await connection.execute(
            "UPDATE slotwire.connections c SET sealed = d.sealed FROM slotwire.connections d"
            " WHERE (c.org, d.org) IN (($1, $2), ($2, $1))",
            one,
            two,
        )
    finally:
        await connection.close()
