"""An access token of OAuth that Calendly refuses is refreshed once; only a grant that is refused too is revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from slotwire.ingest.control.calendly_client import users
from slotwire.ingest.control.connection_store import ConnectionStore
from slotwire.ingest.control.oauth_refresh import DEADLINE
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.local.databases import Database
from tests.support.oauth_connections import connected, refreshed, told
from tests.support.oauth_setup import OAuthSetup, oauth_setup


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OAuthSetup]:
    """Two organizations; nothing takes deliveries, and what is accepted is written when a test asks for it."""
    async with oauth_setup(database, with_writer=False, endpoint=False) as made:
        yield made


async def refuse_access(setup: OAuthSetup) -> None:
    """Let Calendly refuse every access token of the app, while the grants are good."""
    for token in setup.calendly.gate.tokens():
        if token.app:
            await setup.simulate("tokens/state", token=token.value, state="expired")


async def test_a_refused_access_token_is_refreshed_once(setup: OAuthSetup) -> None:
    """A 401 long before the token's end: whoever meets it gets the next one, by one refresh, and nothing is told."""
    made = await connected(setup)
    await refuse_access(setup)
    assert (await setup.connections.check(made.id)).state == "active"
    assert await refreshed(setup) == {made.user_uri: 1}
    await refuse_access(setup)

    async def act() -> str:
        async with setup.connections.acting(made) as calendly:
            return (await users.me(calendly)).uri

    assert set(await asyncio.gather(*(act() for _ in range(4)))) == {made.user_uri}
    assert await refreshed(setup) == {made.user_uri: 2}
    async with setup.connections.acting(made) as calendly:
        await refuse_access(setup)
        assert (await users.me(calendly)).uri == made.user_uri
    assert await refreshed(setup) == {made.user_uri: 3}
    assert await told(setup, "revoked") == []


async def test_a_refused_access_token_waits_while_calendly_fails(setup: OAuthSetup) -> None:
    """If the refresh has no outcome, nothing is known about the grant: the connection stays as it is."""
    made = await connected(setup)
    await refuse_access(setup)
    await setup.simulate("faults", token_error_rate=1)
    with pytest.raises(RequestRefused) as caught:
        await setup.connections.check(made.id)
    assert caught.value.code == "connection_unable"
    assert (await setup.connections.get(made.id)).state == "active"
    await setup.simulate("faults", token_error_rate=0)
    setup.clock.advance(DEADLINE)
    assert (await setup.connections.check(made.id)).state == "active"
    assert await refreshed(setup) == {made.user_uri: 1}


async def test_a_token_refused_right_after_its_refresh_is_revoked(
    setup: OAuthSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refreshed once, and no more: Calendly no longer accepts what it gives."""
    made = await connected(setup)
    await refuse_access(setup)
    keep = ConnectionStore.replace

    async def kept(store: ConnectionStore, *given: Any) -> bool:
        await refuse_access(setup)
        return await keep(store, *given)

    monkeypatch.setattr(ConnectionStore, "replace", kept)
    assert (await setup.connections.check(made.id)).state == "revoked"
    assert await refreshed(setup) == {made.user_uri: 1}
    assert len(await told(setup, "revoked")) == 1
