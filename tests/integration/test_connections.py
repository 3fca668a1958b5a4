"""Connections against the simulator and a real database: each acts as one user, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from slotwire.ingest.control.calendly_client import organization_memberships, users
from slotwire.ingest.control.connection_records import read_page
from slotwire.ingest.control.connection_store import FRESH
from slotwire.ingest.errors import RequestRefused, SecretUnreadable
from slotwire.ingest.foundation.settings import VaultSettings
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.local.databases import Database
from slotwire.schemas.events import ConnectionRevoked
from tests.support.connections_setup import NOW, ConnectionsSetup, another_key, connections_setup

SWAP = """UPDATE slotwire.connections c SET sealed = o.sealed FROM slotwire.connections o
          WHERE (c.id = $1 AND o.id = $2) OR (c.id = $2 AND o.id = $1)"""


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ConnectionsSetup]:
    """Two organizations at a simulator, known here and not connected."""
    async with connections_setup(database) as made:
        yield made


async def test_connecting_pins_user_organization_and_role(setup: ConnectionsSetup) -> None:
    """A token becomes a connection of its user, active, with Calendly's word for the role; the token is in no row."""
    token = setup.token()
    added = await setup.connections.add(token, org=setup.org())
    made = added.connection
    assert added.new
    assert (made.org, made.organization) == (setup.org(), setup.running.organization)
    assert made.user_uri == f"https://api.calendly.com/users/{setup.users()[0]}"
    assert (made.role, made.state, made.reason, made.scopes) == ("owner", "active", None, ("default",))
    assert (made.created_at, made.checked_at) == (NOW, NOW)
    [row] = await setup.rows("SELECT *, c::text AS whole FROM slotwire.connections c")
    assert token.get_secret_value() not in row["whole"]
    assert token.get_secret_value().encode() not in row["sealed"]
    assert token.get_secret_value() not in repr(added)


async def test_connecting_again_replaces_the_credential(setup: ConnectionsSetup) -> None:
    """The same user's next token takes the place of the first: one connection, another credential."""
    first = (await setup.connections.add(setup.token())).connection
    again = await setup.connections.add(await setup.issue())
    assert not again.new
    assert again.connection.id == first.id
    assert again.connection.credential_id != first.credential_id
    assert len(await setup.rows("SELECT FROM slotwire.connections")) == 1


async def test_one_user_connected_many_times_at_once_is_one_connection(setup: ConnectionsSetup) -> None:
    """Whoever connects the same user at the same moment ends with one row, whose secret opens."""
    identity = await setup.connections.identify(setup.token())
    added = await asyncio.gather(*(setup.connections.store(identity, setup.token()) for _ in range(4)))
    assert sorted(item.new for item in added) == [False, False, False, True]
    assert len({item.connection.id for item in added}) == 1
    async with setup.connections.acting(added[0].connection) as calendly:
        assert (await users.me(calendly)).uri == identity.user_uri


async def test_a_token_of_another_organization_is_refused(setup: ConnectionsSetup) -> None:
    """A token that belongs elsewhere connects nothing where it was not meant for."""
    with pytest.raises(RequestRefused) as caught:
        await setup.connections.add(setup.token(number=1), org=setup.org())
    assert caught.value.code == "token_of_another_organization"
    assert await setup.rows("SELECT FROM slotwire.connections") == []


async def test_a_token_of_an_unknown_organization_is_refused(setup: ConnectionsSetup) -> None:
    """One nobody added, or that was given up, cannot be connected; the message names the command that adds it."""
    await setup.tamper("UPDATE slotwire.organizations SET ended_at = $2 WHERE org = $1", setup.org(0), NOW)
    await setup.tamper("DELETE FROM slotwire.organizations WHERE org = $1", setup.org(1))
    for number in (0, 1):
        with pytest.raises(RequestRefused, match="not known here") as caught:
            await setup.connections.add(setup.token(number=number))
        assert caught.value.code == "organization_unknown"
        assert "slotwire organizations add" in caught.value.remedy
    assert await setup.rows("SELECT FROM slotwire.connections") == []


async def test_acting_is_acting_as_that_user(setup: ConnectionsSetup) -> None:
    """What a connection opens speaks to Calendly as its user, and Calendly was asked first who that is."""
    admin = (await setup.connections.add(setup.token(place=1))).connection
    before = len(await setup.calls())
    async with setup.connections.acting(admin) as calendly:
        found = [item async for item in organization_memberships.every(calendly, user=admin.user_uri)]
    assert [item.user.uri for item in found] == [admin.user_uri]
    assert (await setup.calls())[before:] == ["/users/me", "/organization_memberships"]


async def test_the_best_connection_of_an_organization(setup: ConnectionsSetup) -> None:
    """An owner's is taken before an admin's before a user's, and one that cannot act not at all."""
    with pytest.raises(RequestRefused, match="no connection") as caught:
        await setup.connections.for_organization(setup.org())
    assert caught.value.code == "connection_missing"
    assert "slotwire connections add --token-file" in caught.value.remedy
    made = {}
    for place, role in ((3, "user"), (1, "admin"), (0, "owner")):
        made[role] = (await setup.connections.add(setup.token(place=place))).connection
        assert (await setup.connections.for_organization(setup.org())).id == made[role].id
    await setup.revoke(setup.token(place=0))
    assert (await setup.connections.check(made["owner"].id)).state == "revoked"
    assert (await setup.connections.for_organization(setup.org())).id == made["admin"].id
    with pytest.raises(RequestRefused):
        await setup.connections.for_organization(setup.org(1))


async def test_swapped_secrets_do_not_open(setup: ConnectionsSetup) -> None:
    """Two rows whose secrets were exchanged open neither: a secret is bound to its row. Calendly is not asked."""
    ours = (await setup.connections.add(setup.token())).connection
    theirs = (await setup.connections.add(setup.token(number=1))).connection
    before = len(await setup.calls())
    await setup.tamper(SWAP, ours.id, theirs.id)
    for one in (ours, theirs):
        with pytest.raises(SecretUnreadable):
            async with setup.connections.acting(one):
                pytest.fail("a swapped secret was used")
        found = await setup.connections.get(one.id)
        assert (found.state, found.reason) == ("error", "secret_unreadable")
    assert len(await setup.calls()) == before
    await setup.tamper(SWAP, ours.id, theirs.id)
    async with setup.connections.acting(ours) as calendly:
        assert (await users.me(calendly)).uri == ours.user_uri
    assert (await setup.connections.get(ours.id)).state == "active"


async def test_a_swapped_user_is_refused_by_the_pin(setup: ConnectionsSetup) -> None:
    """A row that says another user than its token has is refused after /users/me, before anything else is asked."""
    made = (await setup.connections.add(setup.token())).connection
    other = f"https://api.calendly.com/users/{setup.users()[1]}"
    await setup.tamper("UPDATE slotwire.connections SET user_uri = $1", other)
    before = len(await setup.calls())
    with pytest.raises(RequestRefused, match="a user other than") as caught:
        async with setup.connections.acting(made):
            pytest.fail("a foreign token was used")
    assert caught.value.code == "connection_unable"
    assert (await setup.calls())[before:] == ["/users/me"]
    found = await setup.connections.get(made.id)
    assert (found.state, found.reason) == ("needs_reauth", "another_user")
    with pytest.raises(RequestRefused, match="needs_reauth"):
        async with setup.connections.acting(made):
            pytest.fail("a paused connection was used")
    assert len(await setup.calls()) == before + 1
    await setup.tamper("UPDATE slotwire.connections SET user_uri = $1", made.user_uri)
    assert (await setup.connections.check(made.id)).state == "active"


async def test_a_user_who_moved_on_is_refused(setup: ConnectionsSetup) -> None:
    """A user who is in another organization now acts for the old one no more, nor for the new one."""
    made = (await setup.connections.add(setup.token(place=1))).connection
    await setup.simulate("users", user=setup.users()[1], organization=setup.org(1))
    before = len(await setup.calls())
    with pytest.raises(RequestRefused, match="another organization"):
        async with setup.connections.acting(made):
            pytest.fail("the token of another organization was used")
    assert (await setup.calls())[before:] == ["/users/me"]
    found = await setup.connections.get(made.id)
    assert (found.org, found.state, found.reason) == (setup.org(), "needs_reauth", "another_organization")
    [told] = await setup.revoked_events()
    data = ConnectionRevoked.model_validate_json(told["data"])
    assert (data.state, data.reason, data.reconnect_url) == ("needs_reauth", "another_organization", None)


async def test_a_credential_near_its_end_is_expiring(setup: ConnectionsSetup) -> None:
    """Within the days of the setting it is expiring and still acts; past its end Calendly's 401 calls it expired."""
    setup.clock.advance(setup.running.engine.clock.now() - NOW)
    days = setup.settings.connections.expiring_days
    token = await setup.issue(seconds=(days + 1) * 86_400)
    made = (await setup.connections.add(token)).connection
    assert made.state == "active"
    assert made.expires_at is not None
    setup.clock.advance(timedelta(days=1, seconds=-2))
    assert (await setup.connections.check(made.id)).state == "active"
    setup.clock.advance(timedelta(seconds=4))
    async with setup.connections.acting(made) as calendly:
        assert (await users.me(calendly)).uri == made.user_uri
    near = await setup.connections.get(made.id)
    assert (near.state, near.reason) == ("expiring", "expires_soon")
    assert (await setup.connections.for_organization(setup.org())).id == made.id
    setup.clock.advance(timedelta(days=days))
    await setup.simulate("tokens/state", token=token.get_secret_value(), state="expired")
    over = await setup.connections.check(made.id)
    assert (over.state, over.reason) == ("revoked", "expired")


async def test_a_check_learns_the_role(setup: ConnectionsSetup) -> None:
    """A user who became something else is told so by the next check."""
    made = (await setup.connections.add(setup.token(place=1))).connection
    await setup.simulate("users", user=setup.users()[1], role="user")
    setup.clock.advance(timedelta(hours=1))
    found = await setup.connections.check(made.id)
    assert (made.role, found.role) == ("admin", "user")
    assert (found.checked_at, found.changed_at) == (NOW + timedelta(hours=1), NOW)


async def test_a_token_that_may_not_ask_for_roles_has_none(setup: ConnectionsSetup) -> None:
    """Without the scope for memberships the role stays unknown, and the connection is as good."""
    made = (await setup.connections.add(await setup.issue(scopes=["users:read"]))).connection
    assert (made.role, made.state, made.scopes) == (None, "active", ("users:read",))


async def test_answers_are_noted_once_a_minute(setup: ConnectionsSetup) -> None:
    """Acting writes the time of Calendly's answer when the last one written is a minute old, not before."""
    made = (await setup.connections.add(setup.token())).connection
    setup.clock.advance(FRESH - timedelta(seconds=1))
    async with setup.connections.acting(made):
        assert (await setup.connections.get(made.id)).checked_at == NOW
    setup.clock.advance(timedelta(seconds=1))
    async with setup.connections.acting(made):
        assert (await setup.connections.get(made.id)).checked_at == NOW + FRESH


async def test_a_missing_key_is_an_error_until_it_is_back(setup: ConnectionsSetup) -> None:
    """Without the vault's key the state is error and Calendly is not asked; with it, a check makes it active."""
    made = (await setup.connections.add(setup.token())).connection
    other = Vault.from_settings(VaultSettings(keys=(another_key("other"),)))
    blind = replace(setup.connections, vault=other)
    before = len(await setup.calls())
    assert (await blind.check(made.id)).state == "error"
    assert len(await setup.calls()) == before
    with pytest.raises(RequestRefused, match="error"):
        await blind.for_organization(setup.org())
    assert (await setup.connections.check(made.id)).state == "active"


async def test_deleting_forgets_the_secret(setup: ConnectionsSetup) -> None:
    """A deleted connection is gone, for its own organization only; there is nothing to delete twice."""
    made = (await setup.connections.add(setup.token())).connection
    with pytest.raises(RequestRefused) as caught:
        await setup.connections.delete(made.id, setup.org(1))
    assert caught.value.code == "not_found"
    assert (await setup.connections.delete(made.id, setup.org())).id == made.id
    assert await setup.rows("SELECT FROM slotwire.connections") == []
    with pytest.raises(RequestRefused):
        await setup.connections.delete(made.id, setup.org())


async def test_pages_of_connections(setup: ConnectionsSetup) -> None:
    """Connections are listed oldest first, after a place, of one organization or of all."""
    for place, number in ((0, 0), (1, 0), (0, 1)):
        await setup.connections.add(setup.token(place=place, number=number))
        setup.clock.advance(timedelta(seconds=1))
    every = await read_page(setup.pool, None, after=None, limit=10)
    assert [item.org for item in every] == [setup.org(0), setup.org(0), setup.org(1)]
    assert await read_page(setup.pool, setup.org(1), after=None, limit=10) == every[2:]
    place_of = (every[0].created_at, every[0].id)
    assert await read_page(setup.pool, None, after=place_of, limit=1) == every[1:2]
