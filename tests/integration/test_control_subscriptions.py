"""Subscriptions against the simulator and a real database: nothing is promised that Calendly does not have."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import webhook_subscriptions
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.catalogue import DEFAULT_EVENTS
from slotwire.ingest.control.subscription_facts import OVERLAP, SubscriptionRecord, WantedSubscription
from slotwire.ingest.control.subscription_plan import UNFINISHED_AFTER
from slotwire.ingest.control.subscription_records import read_one, read_page
from slotwire.ingest.control.subscriptions import ReconcileResult, Subscriptions
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, ConfigurationError, RequestRefused, SecretUnreadable
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import (
    CalendlySettings,
    DatabaseSettings,
    HttpSettings,
    Settings,
    VaultSettings,
)
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.keys.signing_keys import load_keys
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from slotwire.ingest.simulator.model import uri
from slotwire.schemas.ids import OrganizationUri, last_segment
from tests.support.management_api import write_organization
from tests.support.scripted_calendly import connected

PLAIN = WantedSubscription(DEFAULT_EVENTS)
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Setup:
    """What each test starts from."""

    manager: Subscriptions
    calendly: CalendlyTransport
    running: Simulator
    clock: ManualClock
    settings: Settings

    @property
    def org(self) -> str:
        """The simulated organization."""
        return last_segment(self.running.organization)

    async def at_calendly(self) -> list[webhook_subscriptions.WebhookSubscriptionResource]:
        """What Calendly has."""
        found = webhook_subscriptions.of_organization(self.calendly, OrganizationUri(self.running.organization))
        return [item async for item in found]

    async def made(self, want: WantedSubscription = PLAIN, manager: Subscriptions | None = None) -> SubscriptionRecord:
        """Want a subscription, reconcile, and return the one that serves."""
        manager = manager or self.manager
        await manager.want(self.org, want)
        result = await manager.reconcile(self.calendly, OrganizationUri(self.running.organization))
        return result.serving[want]

    async def round(self) -> ReconcileResult:
        """Reconcile, as the manager does in its rounds."""
        return await self.manager.reconcile(
            self.calendly, OrganizationUri(self.running.organization), skip_in_progress=True
        )

    async def verified(self) -> ReconcileResult:
        """Make a round after the overlap in which nothing was delivered."""
        self.clock.advance(OVERLAP)
        return await self.round()

    async def deleted(self, subscription: SubscriptionRecord) -> SubscriptionRecord:
        """End a subscription."""
        return await self.manager.delete(self.calendly, subscription, OrganizationUri(self.running.organization))


def key() -> SecretStr:
    """Make a server key."""
    return SecretStr(encode_base64url(secrets.token_bytes(32)))


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[Setup]:
    """A database of the test's own, a simulator with two organizations, and a manager between them."""
    async with simulator(Options(seed="control", organizations=2)) as running:
        settings = Settings(
            public_url="http://127.0.0.1:9",
            http=HttpSettings(hook_keys=(key(),)),
            vault=VaultSettings(keys=(SecretStr("k1:" + key().get_secret_value()),)),
            calendly=CalendlySettings(api_url=running.url),
        )
        clock = ManualClock(NOW)
        async with (
            create_pool(database.runtime_url, DatabaseSettings(), application="test") as pool,
            connected(
                settings.calendly, SecretStr(running.owner_token), retries=CallRetries(attempts=2, first_wait_seconds=0)
            ) as calendly,
        ):
            await write_organization(database, last_segment(running.organization))
            yield Setup(Subscriptions.from_settings(settings, pool, clock), calendly, running, clock, settings)


async def test_a_creation_is_at_calendly_and_its_key_signs(setup: Setup) -> None:
    """After a creation Calendly lists our address, and the key we load is the one Calendly signs with."""
    made = await setup.made(WantedSubscription(DEFAULT_EVENTS, max_age_seconds=60))
    [theirs] = await setup.at_calendly()
    assert (made.state, made.provider_uri) == ("active", theirs.uri)
    assert theirs.callback_url.get_secret_value() == setup.manager.hooks.url(made.hook_id)
    assert set(theirs.events) == set(DEFAULT_EVENTS) == set(made.events)

    async with setup.manager.pool.acquire() as connection:
        found = await load_keys(connection, setup.manager.vault, made.hook_id)
    assert found is not None
    [known] = setup.running.engine.ledger.subscriptions()
    assert known.signing_key is not None
    assert [item.decode() for item in found.keys.values()] == [known.signing_key]
    assert (found.organization, found.org) == (setup.running.organization, setup.org)
    assert found.max_age == timedelta(seconds=60)
    assert (found.subscription_id, found.state, found.ended_at) == (made.id, "active", None)
    assert known.signing_key not in repr(found)


async def test_no_key_is_in_clear_in_the_database(setup: Setup, database: Database) -> None:
    """A copy of the database holds neither the signing key nor the hook's address."""
    made = await setup.made()
    [known] = setup.running.engine.ledger.subscriptions()
    owner = await asyncpg.connect(database.owner_url)
    try:
        stored = await owner.fetchval(
            "SELECT (SELECT string_agg(k::text, ' ') FROM slotwire.signing_keys k)"
            " || (SELECT string_agg(s::text, ' ') FROM slotwire.subscriptions s)"
        )
        sealed = await owner.fetchval("SELECT sealed FROM slotwire.signing_keys")
    finally:
        await owner.close()
    assert known.signing_key is not None
    assert known.signing_key not in stored
    assert known.signing_key.encode() not in sealed
    assert setup.manager.hooks.hook(made.hook_id) not in stored


async def test_an_unknown_hook_is_none_and_a_foreign_key_is_an_error(setup: Setup) -> None:
    """A hook nobody has is None; a key that the vault cannot open is an error, not a no."""
    made = await setup.made()
    other = Vault.from_settings(VaultSettings(keys=(SecretStr("k1:" + key().get_secret_value()),)))
    async with setup.manager.pool.acquire() as connection:
        assert await load_keys(connection, setup.manager.vault, setup.manager.hooks.mint()) is None
        with pytest.raises(SecretUnreadable):
            await load_keys(connection, other, made.hook_id)


async def test_wanting_twice_makes_one(setup: Setup) -> None:
    """Wanting the same again finds the serving subscription, and a round has nothing to do."""
    first = await setup.made()
    assert (await setup.made()).id == first.id
    result = await setup.round()
    assert (result.created, result.deleted, result.orphans) == ([], [], 0)
    assert len(await setup.at_calendly()) == 1


async def test_other_events_replace_without_a_gap(setup: Setup) -> None:
    """Other events make a new subscription before the old one is deleted; the old address stays known."""
    first = await setup.made(WantedSubscription(("invitee.created",)))
    second = await setup.made(WantedSubscription(("invitee.created", "invitee.canceled")))
    assert second.id != first.id
    assert len(await setup.at_calendly()) == 2  # until the second one is verified
    assert [item.id for item in (await setup.verified()).deleted] == [first.id]
    [theirs] = await setup.at_calendly()
    assert theirs.uri == second.provider_uri
    ended = await read_one(setup.manager.pool, first.id, setup.org)
    assert ended.state == "ended"


async def test_outstanding_deliveries_delay_the_deletion(setup: Setup) -> None:
    """While Calendly retries to the old subscription both exist; afterwards a round deletes the old one."""
    first = await setup.made(WantedSubscription(("invitee.created",)))
    [known] = setup.running.engine.ledger.subscriptions()
    setup.running.engine.ledger.put_subscription(replace(known, retry_started_at=NOW))
    second = await setup.made(WantedSubscription(("invitee.canceled",)))
    assert (await setup.verified()).deleted == []
    assert {item.uri for item in await setup.at_calendly()} == {first.provider_uri, second.provider_uri}
    [known, _] = setup.running.engine.ledger.subscriptions()
    setup.running.engine.ledger.put_subscription(replace(known, retry_started_at=None))
    assert [item.id for item in (await setup.round()).deleted] == [first.id]
    assert [item.uri for item in await setup.at_calendly()] == [second.provider_uri]


async def test_users_and_groups_have_their_own(setup: Setup) -> None:
    """A user's and a group's subscription exist beside the organization's; unwanted, only theirs is ended."""
    user = uri("users", setup.running.world.members(setup.org)[0].id)
    group = uri(
        "groups", next(each.id for each in setup.running.world.groups.values() if each.organization == setup.org)
    )
    whole = await setup.made()
    wants = (
        WantedSubscription(("meeting_recap.created",), "user", user),
        WantedSubscription(("invitee.created",), "group", group),
    )
    recaps, grouped = [await setup.made(want) for want in wants]
    assert (recaps.scope, recaps.subject, grouped.scope, grouped.subject) == ("user", user, "group", group)
    [theirs] = [item for item in setup.running.engine.ledger.subscriptions() if item.scope == "user"]
    assert tuple(theirs.events) == ("meeting_recap.created",)
    await setup.manager.unwant(setup.org, "user", user)
    # What is known here is asked for in its own scope; so it is found, and dropped.
    assert [item.id for item in (await setup.round()).deleted] == [recaps.id]
    assert {item.id for item in await setup.manager.live(setup.org)} == {whole.id, grouped.id}


async def test_a_lost_answer_is_found_again(setup: Setup) -> None:
    """When Calendly subscribed but its answer was lost, the next application adopts what is there."""
    made = await setup.made()
    await _as_if_the_answer_was_lost(setup)
    assert (await setup.made()).id == made.id
    assert (await read_one(setup.manager.pool, made.id, setup.org)).state == "active"
    assert len(await setup.at_calendly()) == 1


async def test_a_creation_that_never_arrived_is_ended(setup: Setup) -> None:
    """A creation that Calendly does not list is left alone while it may be in progress, then ended."""
    made = await setup.made()
    await _as_if_the_answer_was_lost(setup)
    [theirs] = await setup.at_calendly()
    await webhook_subscriptions.delete(setup.calendly, theirs.uri)

    setup.clock.advance(UNFINISHED_AFTER)
    assert (await setup.round()).created == []  # another process may be creating it
    assert (await setup.made()).id != made.id
    assert (await read_one(setup.manager.pool, made.id, setup.org)).state == "creating"

    setup.clock.advance(timedelta(microseconds=1))
    await setup.round()
    ended = await read_one(setup.manager.pool, made.id, setup.org)
    assert (ended.state, ended.ended_at) == ("ended", setup.clock.now())


async def test_a_subscription_lost_at_calendly_is_created_again(setup: Setup) -> None:
    """A subscription deleted at Calendly behind our back is ended here, and a round makes a new one."""
    made = await setup.made()
    assert made.provider_uri is not None
    await webhook_subscriptions.delete(setup.calendly, made.provider_uri)
    [second] = (await setup.round()).created
    assert second.id != made.id
    assert (await read_one(setup.manager.pool, made.id, setup.org)).state == "ended"


async def test_a_disabled_one_is_replaced(setup: Setup) -> None:
    """A subscription that Calendly disabled is replaced by a new one, then deleted: it delivers nothing any more."""
    made = await setup.made()
    [known] = setup.running.engine.ledger.subscriptions()
    setup.running.engine.ledger.put_subscription(replace(known, state="disabled", retry_started_at=NOW))
    result = await setup.round()
    assert ([len(result.created), len(result.deleted)]) == ([1, 0])
    assert [item.id for item in (await setup.verified()).deleted] == [made.id]
    [theirs] = await setup.at_calendly()
    assert theirs.state == "active"


async def test_an_orphan_is_deleted_and_a_newcomer_is_not(setup: Setup, database: Database) -> None:
    """What leads here without a row of ours is deleted at Calendly; one whose row was written meanwhile stays."""
    made = await setup.made()
    owner = await asyncpg.connect(database.owner_url)
    try:
        await owner.execute("DELETE FROM slotwire.subscriptions")
    finally:
        await owner.close()
    result = await setup.round()
    assert (result.orphans, len(result.created)) == (0, 1)  # not before the new one is verified
    assert (await setup.verified()).orphans == 1
    assert made.provider_uri not in {item.uri for item in await setup.at_calendly()}
    # As a process sees it that listed ours before another one wrote its row.
    blind = replace(setup.manager, pool=cast("Pool", _Blind(setup.manager.pool)))
    there = [item.uri for item in await setup.at_calendly()]
    with pytest.raises(RequestRefused, match="in progress all the time"):
        await blind.reconcile(setup.calendly, OrganizationUri(setup.running.organization), skip_in_progress=True)
    assert [item.uri for item in await setup.at_calendly()] == there


async def test_another_public_address_is_another_subscription(setup: Setup) -> None:
    """When the service moved, what sends to the old address is replaced."""
    old = await setup.made()
    moved = replace(
        setup.manager,
        hooks=HookAddresses.from_settings(setup.settings.model_copy(update={"public_url": "http://127.0.0.1:10"})),
    )
    new = await setup.made(manager=moved)
    assert new.id != old.id
    setup.clock.advance(OVERLAP)
    await setup.made(manager=moved)
    assert [item.uri for item in await setup.at_calendly()] == [new.provider_uri]


async def test_deleting_is_at_calendly_first_and_twice_is_once(setup: Setup) -> None:
    """A deletion ends the subscription on both sides and stops wanting it; deleting again changes nothing."""
    made = await setup.made()
    ended = await setup.deleted(made)
    assert (ended.state, ended.ended_at) == ("ended", NOW)
    assert await setup.at_calendly() == []
    assert (await setup.round()).created == []
    setup.clock.advance(timedelta(hours=1))
    assert await setup.deleted(ended) == ended


async def test_deleting_an_unfinished_creation_finds_it_by_its_address(setup: Setup) -> None:
    """A creation whose answer was lost is deleted at Calendly too, found by its address."""
    made = await setup.made()
    await _as_if_the_answer_was_lost(setup)
    await setup.deleted(await read_one(setup.manager.pool, made.id, setup.org))
    assert await setup.at_calendly() == []


async def test_a_refused_creation_leaves_no_open_row(setup: Setup) -> None:
    """When Calendly says no, our row is ended at once and nothing waits for it."""
    # The simulator takes loopback addresses only, as Calendly takes https only.
    refused = setup.settings.model_copy(update={"public_url": "https://hooks.example.com"})
    manager = replace(setup.manager, hooks=HookAddresses.from_settings(refused))
    with pytest.raises(CalendlyError) as caught:
        await setup.made(manager=manager)
    assert caught.value.problem is CalendlyProblem.INVALID
    assert [item.state for item in await read_page(setup.manager.pool, setup.org, after=None, limit=10)] == ["ended"]


async def test_calendly_is_not_asked_for_what_it_cannot_reach(setup: Setup) -> None:
    """A callback that the real Calendly cannot reach is refused before any call."""
    real = replace(setup.manager, api_url="https://api.calendly.com")
    with pytest.raises(ConfigurationError, match="https addresses only"):
        await setup.made(manager=real)
    assert await read_page(setup.manager.pool, None, after=None, limit=10) == ()


async def test_the_list_tells_what_calendly_says(setup: Setup) -> None:
    """Each subscription is listed with Calendly's own state: active, or none if it is gone."""
    kept = await setup.made()
    user = uri("users", setup.running.world.members(setup.org)[0].id)
    gone = await setup.made(WantedSubscription(("invitee.created",), "user", user))
    assert gone.provider_uri is not None
    await webhook_subscriptions.delete(setup.calendly, gone.provider_uri)
    ours = await read_page(setup.manager.pool, setup.org, after=None, limit=10)
    organization = OrganizationUri(setup.running.organization)
    listed = await setup.manager.compare_with_calendly(setup.calendly, organization, ours)
    said = {item.subscription.id: item.found.state if item.found else None for item in listed}
    assert said == {kept.id: "active", gone.id: None}


async def test_a_page_goes_on_where_the_last_one_ended(setup: Setup) -> None:
    """Pages of one, followed by place, give every subscription once, oldest first."""
    made = []
    for event in DEFAULT_EVENTS[:3]:
        made.append((await setup.made(WantedSubscription((event,)))).id)
        setup.clock.advance(timedelta(seconds=1))
    seen, after = [], None
    while page := await read_page(setup.manager.pool, setup.org, after=after, limit=1):
        seen.append(page[0].id)
        after = (page[0].created_at, page[0].id)
    assert seen == made


async def test_nobody_reads_a_subscription_of_another_organization(setup: Setup) -> None:
    """A subscription is read only under its own organization."""
    made = await setup.made()
    for subscription_id, org in ((made.id, "SOMEBODY"), (uuid4(), setup.org)):
        with pytest.raises(RequestRefused) as caught:
            await read_one(setup.manager.pool, subscription_id, org)
        assert caught.value.code == "not_found"


async def _as_if_the_answer_was_lost(setup: Setup) -> None:
    await setup.manager.pool.execute("UPDATE slotwire.subscriptions SET state = 'creating', provider_uri = NULL")


class _Blind:
    """A pool that shows no subscriptions in the list, as to a process that read it before they were written."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def fetch(self, statement: str, *arguments: object) -> Any:
        return [] if "state <> 'ended' ORDER BY" in statement else await self._pool.fetch(statement, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)
