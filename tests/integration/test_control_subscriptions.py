"""Subscriptions against the simulator and a real database: nothing is promised that Calendly does not have."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from ingest.control.calendly_client import webhook_subscriptions
from ingest.control.calendly_client.transport import RetryPolicy, Transport, connect
from ingest.control.catalogue import DEFAULT_EVENTS
from ingest.control.hooks import HookAddresses
from ingest.control.server_keys import encode_base64url
from ingest.control.signing_keys import load_keys
from ingest.control.subscription_plan import UNFINISHED_AFTER
from ingest.control.subscriptions import Subscriptions, Wanted, read_one, read_page
from ingest.control.vault import Vault
from ingest.errors import CalendlyError, CalendlyProblem, ConfigurationError, RequestRefused, SecretUnreadable
from ingest.foundation.clock import ManualClock
from ingest.foundation.postgres import create_pool
from ingest.foundation.settings import CalendlySettings, DatabaseSettings, HttpSettings, Settings, VaultSettings
from ingest.local.databases import Database
from ingest.simulator.app import Options, Simulator, simulator
from schemas.ids import OrganizationUri, last_segment, shard_of

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Ground:
    """What a test stands on."""

    manager: Subscriptions
    calendly: Transport
    running: Simulator
    clock: ManualClock
    settings: Settings

    @property
    def org(self) -> str:
        """The simulated organization."""
        return last_segment(self.running.organization)

    async def at_calendly(self) -> list[webhook_subscriptions.WebhookSubscription]:
        """What Calendly has."""
        found = webhook_subscriptions.of_organization(self.calendly, OrganizationUri(self.running.organization))
        return [item async for item in found]

    @asynccontextmanager
    async def as_other(self, token: str) -> AsyncIterator[Transport]:
        """Speak to Calendly with another token."""
        async with connect(self.settings.calendly, SecretStr(token), retries=RetryPolicy(attempts=1)) as calendly:
            yield calendly


def key() -> SecretStr:
    """Make a server key."""
    return SecretStr(encode_base64url(secrets.token_bytes(32)))


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
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
            connect(
                settings.calendly, SecretStr(running.owner_token), retries=RetryPolicy(attempts=2, first_wait_seconds=0)
            ) as calendly,
        ):
            yield Ground(Subscriptions.from_settings(settings, pool, clock), calendly, running, clock, settings)


async def test_a_creation_is_at_calendly_and_its_key_signs(ground: Ground) -> None:
    """After a creation Calendly lists our address, and the key we load is the one Calendly signs with."""
    made = await ground.manager.create(ground.calendly, Wanted(external_id="customer-1", max_age_seconds=60))
    [theirs] = await ground.at_calendly()
    assert made.new
    assert (made.subscription.state, made.subscription.provider_uri) == ("active", theirs.uri)
    assert theirs.callback_url.get_secret_value() == ground.manager.hooks.url(made.subscription.hook_id)
    assert set(theirs.events) == set(DEFAULT_EVENTS) == set(made.subscription.events)

    async with ground.manager.pool.acquire() as connection:
        found = await load_keys(connection, ground.manager.vault, made.subscription.hook_id)
    assert found is not None
    [known] = ground.running.engine.ledger.subscriptions()
    assert known.signing_key is not None
    assert [item.decode() for item in found.keys] == [known.signing_key]
    assert (found.organization, found.org) == (ground.running.organization, ground.org)
    assert found.shard == shard_of(ground.running.organization, 1)
    assert (found.external_id, found.max_age) == ("customer-1", timedelta(seconds=60))
    assert (found.subscription_id, found.state, found.ended_at) == (made.subscription.id, "active", None)
    assert known.signing_key not in repr(found)


async def test_no_key_is_in_clear_in_the_database(ground: Ground, database: Database) -> None:
    """A copy of the database holds neither the signing key nor the hook's address."""
    made = await ground.manager.create(ground.calendly, Wanted())
    [known] = ground.running.engine.ledger.subscriptions()
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
    assert ground.manager.hooks.hook(made.subscription.hook_id) not in stored


async def test_an_unknown_hook_is_none_and_a_foreign_key_is_an_error(ground: Ground) -> None:
    """A hook nobody has is None; a key that the vault cannot open is an error, not a no."""
    made = await ground.manager.create(ground.calendly, Wanted())
    other = Vault.from_settings(VaultSettings(keys=(SecretStr("k1:" + key().get_secret_value()),)))
    async with ground.manager.pool.acquire() as connection:
        assert await load_keys(connection, ground.manager.vault, ground.manager.hooks.mint()) is None
        with pytest.raises(SecretUnreadable):
            await load_keys(connection, other, made.subscription.hook_id)


async def test_creating_twice_makes_one(ground: Ground) -> None:
    """A second creation of the same finds the first; `another` makes a second one beside it."""
    first = await ground.manager.create(ground.calendly, Wanted())
    again = await ground.manager.create(ground.calendly, Wanted())
    assert (again.new, again.subscription.id) == (False, first.subscription.id)
    another = await ground.manager.create(ground.calendly, Wanted(another=True))
    assert another.new
    assert len(await ground.at_calendly()) == 2


async def test_other_events_are_another_subscription(ground: Ground) -> None:
    """A subscription with other events does not do what is wanted."""
    await ground.manager.create(ground.calendly, Wanted(events=("invitee.created",)))
    second = await ground.manager.create(ground.calendly, Wanted(events=("invitee.canceled", "invitee.created")))
    assert second.new
    assert second.subscription.events == ("invitee.created", "invitee.canceled")


async def test_a_lost_answer_is_found_again(ground: Ground) -> None:
    """When Calendly subscribed but its answer was lost, the next creation adopts what is there."""
    made = await ground.manager.create(ground.calendly, Wanted())
    await _as_if_the_answer_was_lost(ground)
    again = await ground.manager.create(ground.calendly, Wanted())
    assert (again.new, again.subscription) == (False, made.subscription)
    assert len(await ground.at_calendly()) == 1


async def test_a_creation_that_never_arrived_is_ended(ground: Ground) -> None:
    """A creation Calendly never heard of is left alone while it may be under way, then ended."""
    made = await ground.manager.create(ground.calendly, Wanted())
    await _as_if_the_answer_was_lost(ground)
    [theirs] = await ground.at_calendly()
    await webhook_subscriptions.delete(ground.calendly, theirs.uri)

    ground.clock.advance(UNFINISHED_AFTER)
    second = await ground.manager.create(ground.calendly, Wanted())
    assert second.new
    assert (await read_one(ground.manager.pool, made.subscription.id, ground.org)).state == "creating"

    ground.clock.advance(timedelta(microseconds=1))
    await ground.manager.create(ground.calendly, Wanted())
    ended = await read_one(ground.manager.pool, made.subscription.id, ground.org)
    assert (ended.state, ended.ended_at) == ("ended", ground.clock.now())


async def test_what_calendly_lost_is_made_anew(ground: Ground) -> None:
    """A subscription deleted at Calendly behind our back is ended here, and a new one is made."""
    made = await ground.manager.create(ground.calendly, Wanted())
    assert made.subscription.provider_uri is not None
    await webhook_subscriptions.delete(ground.calendly, made.subscription.provider_uri)
    second = await ground.manager.create(ground.calendly, Wanted())
    assert second.new
    assert (await read_one(ground.manager.pool, made.subscription.id, ground.org)).state == "ended"


async def test_another_public_address_is_another_subscription(ground: Ground) -> None:
    """When the service moved, the subscription that sends to the old address does not do what is wanted."""
    await ground.manager.create(ground.calendly, Wanted())
    moved = replace(
        ground.manager,
        hooks=HookAddresses.from_settings(ground.settings.model_copy(update={"public_url": "http://127.0.0.1:10"})),
    )
    assert (await moved.create(ground.calendly, Wanted())).new


async def test_deleting_is_at_calendly_first_and_twice_is_once(ground: Ground) -> None:
    """A deletion ends both sides; deleting again changes nothing."""
    made = await ground.manager.create(ground.calendly, Wanted())
    ended = await ground.manager.delete(ground.calendly, made.subscription.id, ground.org)
    assert (ended.state, ended.ended_at) == ("ended", NOW)
    assert await ground.at_calendly() == []
    ground.clock.advance(timedelta(hours=1))
    assert await ground.manager.delete(ground.calendly, made.subscription.id, ground.org) == ended


async def test_deleting_an_unfinished_creation_finds_it_by_its_address(ground: Ground) -> None:
    """A creation whose answer was lost is deleted at Calendly too, found by its address."""
    made = await ground.manager.create(ground.calendly, Wanted())
    await _as_if_the_answer_was_lost(ground)
    await ground.manager.delete(ground.calendly, made.subscription.id, ground.org)
    assert await ground.at_calendly() == []


async def test_a_token_of_another_organization_ends_nothing(ground: Ground) -> None:
    """A foreign token is refused before anything is deleted: its 404 would look like success."""
    made = await ground.manager.create(ground.calendly, Wanted())
    foreign = next(
        token.value
        for token in ground.running.world.tokens
        if ground.running.world.users[token.user].organization != ground.org
    )
    async with ground.as_other(foreign) as calendly:
        with pytest.raises(RequestRefused) as caught:
            await ground.manager.delete(calendly, made.subscription.id, ground.org)
        assert caught.value.code == "token_of_another_organization"
        with pytest.raises(RequestRefused):
            await ground.manager.create(calendly, Wanted(org=ground.org))
    assert (await read_one(ground.manager.pool, made.subscription.id, ground.org)).state == "active"
    assert len(await ground.at_calendly()) == 1


async def test_a_refused_creation_leaves_no_open_row(ground: Ground) -> None:
    """When Calendly says no, our row is ended at once and nothing waits for it."""
    # The simulator takes loopback addresses only, as Calendly takes https only.
    refused = ground.settings.model_copy(update={"public_url": "https://hooks.example.com"})
    manager = replace(ground.manager, hooks=HookAddresses.from_settings(refused))
    with pytest.raises(CalendlyError) as caught:
        await manager.create(ground.calendly, Wanted())
    assert caught.value.problem is CalendlyProblem.INVALID
    assert [item.state for item in await read_page(ground.manager.pool, ground.org, after=None, limit=10)] == ["ended"]


async def test_calendly_is_not_asked_for_what_cannot_be(ground: Ground) -> None:
    """A callback that the real Calendly cannot reach, and an event that is none, are refused before any call."""
    real = replace(ground.manager, api_url="https://api.calendly.com")
    with pytest.raises(ConfigurationError, match="https addresses only"):
        await real.create(ground.calendly, Wanted())
    with pytest.raises(RequestRefused, match="no event"):
        await ground.manager.create(ground.calendly, Wanted(events=("invitee.rescheduled",)))
    assert await read_page(ground.manager.pool, None, after=None, limit=10) == ()


async def test_an_external_id_belongs_to_one_organization(ground: Ground) -> None:
    """Two organizations cannot have one external id; the second is refused in words."""
    await ground.manager.create(ground.calendly, Wanted(external_id="customer-1"))
    foreign = next(
        token.value
        for token in ground.running.world.tokens
        if ground.running.world.users[token.user].organization != ground.org
    )
    async with ground.as_other(foreign) as calendly:
        with pytest.raises(RequestRefused, match="external id"):
            await ground.manager.create(calendly, Wanted(external_id="customer-1"))


async def test_the_list_tells_what_calendly_says(ground: Ground) -> None:
    """Beside each subscription stands Calendly's own word: active, or none when it is gone."""
    kept = await ground.manager.create(ground.calendly, Wanted())
    gone = await ground.manager.create(ground.calendly, Wanted(another=True))
    assert gone.subscription.provider_uri is not None
    await webhook_subscriptions.delete(ground.calendly, gone.subscription.provider_uri)
    ours = await read_page(ground.manager.pool, ground.org, after=None, limit=10)
    listed = await ground.manager.beside_calendly(ground.calendly, ours)
    said = {item.subscription.id: item.found.state if item.found else None for item in listed}
    assert said == {kept.subscription.id: "active", gone.subscription.id: None}


async def test_a_page_goes_on_where_the_last_one_ended(ground: Ground) -> None:
    """Pages of one, followed by place, give every subscription once, oldest first."""
    made = []
    for _ in range(3):
        made.append((await ground.manager.create(ground.calendly, Wanted(another=True))).subscription.id)
        ground.clock.advance(timedelta(seconds=1))
    seen, after = [], None
    while page := await read_page(ground.manager.pool, ground.org, after=after, limit=1):
        seen.append(page[0].id)
        after = (page[0].created_at, page[0].id)
    assert seen == made


async def test_nobody_reads_a_subscription_of_another_organization(ground: Ground) -> None:
    """A subscription is read and deleted only under its own organization."""
    made = await ground.manager.create(ground.calendly, Wanted())
    for subscription_id, org in ((made.subscription.id, "SOMEBODY"), (uuid4(), ground.org)):
        with pytest.raises(RequestRefused) as caught:
            await ground.manager.delete(ground.calendly, subscription_id, org)
        assert caught.value.code == "not_found"


async def _as_if_the_answer_was_lost(ground: Ground) -> None:
    await ground.manager.pool.execute("UPDATE slotwire.subscriptions SET state = 'creating', provider_uri = NULL")
