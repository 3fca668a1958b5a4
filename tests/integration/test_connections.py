"""Connections against the simulator and a real database: each acts as one user, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from slotwire.ingest.control.calendly_client import organization_memberships, users
from slotwire.ingest.control.connection_records import read_page
from slotwire.ingest.control.connections import FRESH
from slotwire.ingest.errors import RequestRefused, SecretUnreadable
from slotwire.ingest.foundation.settings import VaultSettings
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.local.databases import Database
from tests.support.connected import NOW, Ground, another_key, grounded

SWAP = """UPDATE slotwire.connections c SET sealed = o.sealed FROM slotwire.connections o
          WHERE (c.id = $1 AND o.id = $2) OR (c.id = $2 AND o.id = $1)"""


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
    """Two organizations at a simulator, known here and not connected."""
    async with grounded(database) as made:
        yield made


async def test_connecting_pins_user_organization_and_role(ground: Ground) -> None:
    """A token becomes a connection of its user, active, with Calendly's word for the role; the token is in no row."""
    token = ground.token()
    added = await ground.connections.add(token, org=ground.org())
    made = added.connection
    assert added.new
    assert (made.org, made.organization) == (ground.org(), ground.running.organization)
    assert made.user_uri == f"https://api.calendly.com/users/{ground.users()[0]}"
    assert (made.role, made.state, made.reason, made.scopes) == ("owner", "active", None, ("default",))
    assert (made.created_at, made.checked_at) == (NOW, NOW)
    [row] = await ground.rows("SELECT *, c::text AS whole FROM slotwire.connections c")
    assert token.get_secret_value() not in row["whole"]
    assert token.get_secret_value().encode() not in row["sealed"]
    assert token.get_secret_value() not in repr(added)


async def test_connecting_again_replaces_the_credential(ground: Ground) -> None:
    """The same user's next token takes the place of the first: one connection, another credential."""
    first = (await ground.connections.add(ground.token())).connection
    again = await ground.connections.add(await ground.issue())
    assert not again.new
    assert again.connection.id == first.id
    assert again.connection.credential_id != first.credential_id
    assert len(await ground.rows("SELECT FROM slotwire.connections")) == 1


async def test_one_user_connected_many_times_at_once_is_one_connection(ground: Ground) -> None:
    """Whoever connects the same user at the same moment ends with one row, whose secret opens."""
    identity = await ground.connections.identify(ground.token())
    added = await asyncio.gather(*(ground.connections.keep(identity, ground.token()) for _ in range(4)))
    assert sorted(item.new for item in added) == [False, False, False, True]
    assert len({item.connection.id for item in added}) == 1
    async with ground.connections.acting(added[0].connection) as calendly:
        assert (await users.me(calendly)).uri == identity.user_uri


async def test_a_token_of_another_organization_is_refused(ground: Ground) -> None:
    """A token that belongs elsewhere connects nothing where it was not meant for."""
    with pytest.raises(RequestRefused) as caught:
        await ground.connections.add(ground.token(number=1), org=ground.org())
    assert caught.value.code == "token_of_another_organization"
    assert await ground.rows("SELECT FROM slotwire.connections") == []


async def test_a_token_of_an_unknown_organization_is_refused(ground: Ground) -> None:
    """One nobody added, or that was given up, cannot be connected; the message names the command that adds it."""
    await ground.tamper("UPDATE slotwire.organizations SET ended_at = $2 WHERE org = $1", ground.org(0), NOW)
    await ground.tamper("DELETE FROM slotwire.organizations WHERE org = $1", ground.org(1))
    for number in (0, 1):
        with pytest.raises(RequestRefused, match="not known here") as caught:
            await ground.connections.add(ground.token(number=number))
        assert caught.value.code == "organization_unknown"
        assert "slotwire organizations add" in caught.value.remedy
    assert await ground.rows("SELECT FROM slotwire.connections") == []


async def test_acting_is_acting_as_that_user(ground: Ground) -> None:
    """What a connection opens speaks to Calendly as its user, and Calendly was asked first who that is."""
    admin = (await ground.connections.add(ground.token(place=1))).connection
    before = len(await ground.calls())
    async with ground.connections.acting(admin) as calendly:
        found = [item async for item in organization_memberships.every(calendly, user=admin.user_uri)]
    assert [item.user.uri for item in found] == [admin.user_uri]
    assert (await ground.calls())[before:] == ["/users/me", "/organization_memberships"]


async def test_the_best_connection_of_an_organization(ground: Ground) -> None:
    """An owner's is taken before an admin's before a user's, and one that cannot act not at all."""
    with pytest.raises(RequestRefused, match="no connection") as caught:
        await ground.connections.for_organization(ground.org())
    assert caught.value.code == "connection_missing"
    assert "slotwire connections add --token-file" in caught.value.remedy
    made = {}
    for place, role in ((3, "user"), (1, "admin"), (0, "owner")):
        made[role] = (await ground.connections.add(ground.token(place=place))).connection
        assert (await ground.connections.for_organization(ground.org())).id == made[role].id
    await ground.revoke(ground.token(place=0))
    assert (await ground.connections.check(made["owner"].id)).state == "revoked"
    assert (await ground.connections.for_organization(ground.org())).id == made["admin"].id
    with pytest.raises(RequestRefused):
        await ground.connections.for_organization(ground.org(1))


async def test_swapped_secrets_do_not_open(ground: Ground) -> None:
    """Two rows whose secrets were exchanged open neither: a secret is bound to its row. Calendly is not asked."""
    ours = (await ground.connections.add(ground.token())).connection
    theirs = (await ground.connections.add(ground.token(number=1))).connection
    before = len(await ground.calls())
    await ground.tamper(SWAP, ours.id, theirs.id)
    for one in (ours, theirs):
        with pytest.raises(SecretUnreadable):
            async with ground.connections.acting(one):
                pytest.fail("a swapped secret was used")
        found = await ground.connections.get(one.id)
        assert (found.state, found.reason) == ("error", "secret_unreadable")
    assert len(await ground.calls()) == before
    await ground.tamper(SWAP, ours.id, theirs.id)
    async with ground.connections.acting(ours) as calendly:
        assert (await users.me(calendly)).uri == ours.user_uri
    assert (await ground.connections.get(ours.id)).state == "active"


async def test_a_swapped_user_is_refused_by_the_pin(ground: Ground) -> None:
    """A row that says another user than its token has is refused after /users/me, before anything else is asked."""
    made = (await ground.connections.add(ground.token())).connection
    other = f"https://api.calendly.com/users/{ground.users()[1]}"
    await ground.tamper("UPDATE slotwire.connections SET user_uri = $1", other)
    before = len(await ground.calls())
    with pytest.raises(RequestRefused, match="another user") as caught:
        async with ground.connections.acting(made):
            pytest.fail("a foreign token was used")
    assert caught.value.code == "connection_unable"
    assert (await ground.calls())[before:] == ["/users/me"]
    found = await ground.connections.get(made.id)
    assert (found.state, found.reason) == ("needs_reauth", "another_user")
    with pytest.raises(RequestRefused, match="needs_reauth"):
        async with ground.connections.acting(made):
            pytest.fail("a paused connection was used")
    assert len(await ground.calls()) == before + 1
    await ground.tamper("UPDATE slotwire.connections SET user_uri = $1", made.user_uri)
    assert (await ground.connections.check(made.id)).state == "active"


async def test_a_user_who_moved_on_is_refused(ground: Ground) -> None:
    """A user who is in another organization now acts for the old one no more, nor for the new one."""
    made = (await ground.connections.add(ground.token(place=1))).connection
    await ground.simulate("users", user=ground.users()[1], organization=ground.org(1))
    before = len(await ground.calls())
    with pytest.raises(RequestRefused, match="another organization"):
        async with ground.connections.acting(made):
            pytest.fail("the token of another organization was used")
    assert (await ground.calls())[before:] == ["/users/me"]
    found = await ground.connections.get(made.id)
    assert (found.org, found.state, found.reason) == (ground.org(), "needs_reauth", "another_organization")
    assert await ground.revoked_events() == []


async def test_a_credential_near_its_end_is_expiring(ground: Ground) -> None:
    """Within the days of the setting it is expiring and still acts; past its end Calendly's 401 calls it expired."""
    ground.clock.advance(ground.running.engine.clock.now() - NOW)
    days = ground.settings.connections.expiring_days
    token = await ground.issue(seconds=(days + 1) * 86_400)
    made = (await ground.connections.add(token)).connection
    assert made.state == "active"
    assert made.expires_at is not None
    ground.clock.advance(timedelta(days=1, seconds=-2))
    assert (await ground.connections.check(made.id)).state == "active"
    ground.clock.advance(timedelta(seconds=4))
    async with ground.connections.acting(made) as calendly:
        assert (await users.me(calendly)).uri == made.user_uri
    near = await ground.connections.get(made.id)
    assert (near.state, near.reason) == ("expiring", "expires_soon")
    assert (await ground.connections.for_organization(ground.org())).id == made.id
    ground.clock.advance(timedelta(days=days))
    await ground.simulate("tokens/state", token=token.get_secret_value(), state="expired")
    over = await ground.connections.check(made.id)
    assert (over.state, over.reason) == ("revoked", "expired")


async def test_a_check_learns_the_role(ground: Ground) -> None:
    """A user who became something else is told so by the next check."""
    made = (await ground.connections.add(ground.token(place=1))).connection
    await ground.simulate("users", user=ground.users()[1], role="user")
    ground.clock.advance(timedelta(hours=1))
    found = await ground.connections.check(made.id)
    assert (made.role, found.role) == ("admin", "user")
    assert (found.checked_at, found.changed_at) == (NOW + timedelta(hours=1), NOW)


async def test_a_token_that_may_not_ask_for_roles_has_none(ground: Ground) -> None:
    """Without the scope for memberships the role stays unknown, and the connection is as good."""
    made = (await ground.connections.add(await ground.issue(scopes=["users:read"]))).connection
    assert (made.role, made.state, made.scopes) == (None, "active", ("users:read",))


async def test_answers_are_noted_once_a_minute(ground: Ground) -> None:
    """Acting writes the time of Calendly's answer when the last one written is a minute old, not before."""
    made = (await ground.connections.add(ground.token())).connection
    ground.clock.advance(FRESH - timedelta(seconds=1))
    async with ground.connections.acting(made):
        assert (await ground.connections.get(made.id)).checked_at == NOW
    ground.clock.advance(timedelta(seconds=1))
    async with ground.connections.acting(made):
        assert (await ground.connections.get(made.id)).checked_at == NOW + FRESH


async def test_a_missing_key_is_an_error_until_it_is_back(ground: Ground) -> None:
    """Without the vault's key the state is error and Calendly is not asked; with it, a check makes it active."""
    made = (await ground.connections.add(ground.token())).connection
    other = Vault.from_settings(VaultSettings(keys=(another_key("other"),)))
    blind = replace(ground.connections, vault=other)
    before = len(await ground.calls())
    assert (await blind.check(made.id)).state == "error"
    assert len(await ground.calls()) == before
    with pytest.raises(RequestRefused, match="error"):
        await blind.for_organization(ground.org())
    assert (await ground.connections.check(made.id)).state == "active"


async def test_deleting_forgets_the_secret(ground: Ground) -> None:
    """A deleted connection is gone, for its own organization only; there is nothing to delete twice."""
    made = (await ground.connections.add(ground.token())).connection
    with pytest.raises(RequestRefused) as caught:
        await ground.connections.delete(made.id, ground.org(1))
    assert caught.value.code == "not_found"
    assert (await ground.connections.delete(made.id, ground.org())).id == made.id
    assert await ground.rows("SELECT FROM slotwire.connections") == []
    with pytest.raises(RequestRefused):
        await ground.connections.delete(made.id, ground.org())


async def test_pages_of_connections(ground: Ground) -> None:
    """Connections are listed oldest first, after a place, of one organization or of all."""
    for place, number in ((0, 0), (1, 0), (0, 1)):
        await ground.connections.add(ground.token(place=place, number=number))
        ground.clock.advance(timedelta(seconds=1))
    every = await read_page(ground.pool, None, after=None, limit=10)
    assert [item.org for item in every] == [ground.org(0), ground.org(0), ground.org(1)]
    assert await read_page(ground.pool, ground.org(1), after=None, limit=10) == every[2:]
    place_of = (every[0].created_at, every[0].id)
    assert await read_page(ground.pool, None, after=place_of, limit=1) == every[1:2]
