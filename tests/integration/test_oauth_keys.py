"""The OAuth app's signing keys: a list for all of its subscriptions, changed without touching one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from slotwire.ingest.control import app_keys
from slotwire.ingest.control.app_keys import AppKeysChange
from slotwire.ingest.control.oauth_refresh import oauth_client
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.oauth_settings import OAuthSettings
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.doctor_organizations import oauth_app
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.receive.hook_lookup import FRESH_SECONDS
from tests.support.oauth_setup import OAuthSetup, oauth_setup
from tests.support.public_endpoint import running_endpoint


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OAuthSetup]:
    """One organization, connected by OAuth and subscribed."""
    async with oauth_setup(database, organizations=1) as made:
        await made.connect()
        yield made


async def follow(setup: OAuthSetup, *keys: str) -> AppKeysChange:
    """Start a `control` with this list."""
    oauth = setup.settings.oauth.model_copy(update={"signing_keys": tuple(map(SecretStr, keys))})
    return await app_keys.follow(setup.api.actions.pool, Vault.from_settings(setup.settings.vault), oauth, setup.clock)


async def answer_of(setup: OAuthSetup, key: str) -> int:
    """Send a delivery signed with a key to an endpoint that has nothing in memory; return the status of its answer."""
    [subscription] = setup.calendly.engine.ledger.subscriptions()
    free = setup.settings.model_copy(update={"http": setup.settings.http.model_copy(update={"port": 0})})
    async with running_endpoint(free, clock=setup.clock) as endpoint:
        url = endpoint.url + "/hooks/calendly/" + subscription.url.rpartition("/")[2]
        sent = await setup.simulate("send", url=url, body='{"event":"x"}', signing_key=key)
    return int(sent["status"])


async def test_a_list_is_changed_without_touching_a_subscription(setup: OAuthSetup) -> None:
    """Old and new key are good while both are listed, then the new one alone; Calendly is not called."""
    old = setup.calendly.engine.sender.app_key
    assert await answer_of(setup, old) == 200
    calls = setup.calendly.gate.calls.summary()["calls"]
    subscriptions = setup.calendly.engine.ledger.subscriptions()
    await setup.simulate("oauth", rotate_signing_key=True)
    new = setup.calendly.engine.sender.app_key
    assert await answer_of(setup, new) == 401
    assert await follow(setup, old, new) == AppKeysChange(added=1, removed=0, given=1, revoked=0)
    assert [await answer_of(setup, key) for key in (old, new)] == [200, 200]
    assert await follow(setup, new, old) == AppKeysChange(0, 0, 0, 0), "the order does not matter"
    assert await follow(setup, new) == AppKeysChange(added=0, removed=1, given=0, revoked=1)
    assert [await answer_of(setup, key) for key in (old, new)] == [401, 200]
    assert setup.calendly.gate.calls.summary()["calls"] == calls
    assert setup.calendly.engine.ledger.subscriptions() == subscriptions
    assert FRESH_SECONDS <= 30, "a running serve follows as fast"


async def test_a_removed_key_is_refused_by_whoever_has_it_in_memory(setup: OAuthSetup) -> None:
    """The door asks for the key: an endpoint that verified with it a moment ago accepts nothing more of it."""
    await setup.simulate("book", wait_seconds=60)
    [before] = await setup.rows("SELECT count(*) AS n FROM slotwire.deliveries WHERE origin = 'webhook'")
    assert before["n"] == 1
    await follow(setup, "another-key-of-the-app-with-enough-characters")
    sent = await setup.simulate("book", wait_seconds=60)
    assert {attempt["status"] for message in sent["deliveries"] for attempt in message["attempts"]} == {401}
    [after] = await setup.rows("SELECT count(*) AS n FROM slotwire.deliveries WHERE origin = 'webhook'")
    assert after == before


async def test_no_key_of_the_app_is_in_clear_in_the_database(setup: OAuthSetup) -> None:
    """Neither in the list, nor in the rows of its subscriptions, nor the client secret anywhere."""
    rows = await setup.rows(
        "SELECT sealed FROM slotwire.app_signing_keys UNION ALL SELECT sealed FROM slotwire.signing_keys"
    )
    secrets = (setup.calendly.engine.sender.app_key, setup.settings.oauth.client_secret)
    assert len(rows) == 2
    for row in rows:
        for secret in secrets:
            assert str(secret).encode() not in row["sealed"]
    assert "client_secret" not in repr(oauth_client(setup.settings, setup.api.actions.calendly))


async def test_a_key_that_does_not_open_ends_no_control(setup: OAuthSetup) -> None:
    """The list is not followed then, and the log says why; what else `control` does goes on."""
    await setup.rows("UPDATE slotwire.app_signing_keys SET sealed = ''::bytea RETURNING id")
    pool, vault = setup.api.actions.pool, Vault.from_settings(setup.settings.vault)
    with capture_logs() as logs:
        following = asyncio.create_task(app_keys.run(pool, vault, setup.settings.oauth, setup.clock))
        async with asyncio.timeout(20):
            while not logs and not following.done():  # noqa: ASYNC110 -- the log is what tells
                await asyncio.sleep(0.01)
    assert [(line["event"], line["log_level"]) for line in logs] == [("app_keys_not_followed", "error")]
    assert not following.done()
    following.cancel()


async def test_without_a_key_nothing_is_subscribed(setup: OAuthSetup) -> None:
    """A subscription whose deliveries nobody could verify is not made, and the message says what to set."""
    await setup.rows("DELETE FROM slotwire.app_signing_keys RETURNING id")
    async with setup.api.actions.pool.acquire() as connection, connection.transaction():
        [row] = await setup.rows("SELECT id, org FROM slotwire.subscriptions")
        with pytest.raises(RequestRefused, match="no signing key") as caught:
            await app_keys.give(
                connection, Vault.from_settings(setup.settings.vault), row["org"], row["id"], setup.clock
            )
    assert caught.value.code == "app_keys_missing"
    assert "SLOTWIRE_OAUTH__SIGNING_KEYS" in caught.value.remedy


async def test_doctor_says_whether_the_list_is_in_force(setup: OAuthSetup) -> None:
    """It is after a start; a changed setting without one is a warning that names the step; no app is no fault."""
    async with setup.api.actions.pool.acquire() as connection:
        assert (await oauth_app(connection, setup.settings)).state == "ok"
        await follow(setup, "another-key-of-the-app-with-enough-characters")
        found = await oauth_app(connection, setup.settings)
        assert (found.state, "1 signing keys of the settings are not in force, 1 others are" in found.message) == (
            "warning",
            True,
        )
        assert "Restart `slotwire control`" in found.remedy
        without = setup.settings.model_copy(update={"oauth": OAuthSettings()})
        assert (await oauth_app(connection, without)).state == "ok"


async def test_a_hook_that_was_stopped_at_once_stays_stopped(setup: OAuthSetup) -> None:
    """Its keys are revoked with `--now`, and no later start gives it any; one row alone is not revoked, the list is."""
    [key] = await setup.rows("SELECT id FROM slotwire.signing_keys")
    with pytest.raises(RequestRefused) as caught:
        await setup.api.actions.signing_keys.revoke(COMMAND_LINE, None, key["id"])
    assert caught.value.code == "key_of_the_app"
    [subscription] = setup.calendly.engine.ledger.subscriptions()
    await setup.api.actions.organizations.remove(COMMAND_LINE, setup.org(), force=False, at_once=True)
    assert await setup.rows("SELECT FROM slotwire.signing_keys") == []
    change = await follow(setup, setup.calendly.engine.sender.app_key, "another-key-of-the-app-with-enough-characters")
    assert (change.added, change.given) == (1, 0)
    url = setup.settings.public_url + "/hooks/calendly/" + subscription.url.rpartition("/")[2]
    key_now = setup.calendly.engine.sender.app_key
    assert (await setup.simulate("send", url=url, body="{}", signing_key=key_now))["status"] == 401
