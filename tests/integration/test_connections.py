"""Connections against the simulator and a real database: each acts as one user, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from ingest.control.calendly_client import organization_memberships, users
from ingest.control.connection_records import read_page
from ingest.control.connections import FRESH
from ingest.control.vault import Vault
from ingest.errors import CalendlyError, CalendlyProblem, DatabaseUnavailable, RequestRefused, SecretUnreadable
from ingest.foundation.settings import VaultSettings
from ingest.local.databases import Database
from schemas.events import ConnectionRevoked
from schemas.ids import event_id
from tests.connected import NOW, REVOKED, Ground, another_key, grounded

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
    """An organization nobody added cannot be connected, and the message names the command that adds it."""
    await ground.tamper("DELETE FROM slotwire.organizations WHERE org = $1", ground.org(1))
    with pytest.raises(RequestRefused, match="not known here") as caught:
        await ground.connections.add(ground.token(number=1))
    assert caught.value.code == "organization_unknown"
    assert "slotwire organizations add" in caught.value.remedy


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


async def test_a_401_in_the_middle_is_noticed_at_once(ground: Ground) -> None:
    """The call that meets the 401 fails, and by then the state is revoked and the event in the log."""
    token = ground.token()
    made = (await ground.connections.add(token)).connection
    async with ground.connections.acting(made) as calendly:
        await ground.revoke(token)
        with pytest.raises(CalendlyError) as met:
            await users.me(calendly)
        assert met.value.problem is CalendlyProblem.CREDENTIAL
        assert (await ground.connections.get(made.id)).state == "revoked"
        assert len(await ground.revoked_events()) == 1
    before = len(await ground.calls())
    with pytest.raises(RequestRefused, match="revoked") as caught:
        async with ground.connections.acting(made):
            pytest.fail("a revoked connection was used")
    assert caught.value.code == "connection_unable"
    assert "slotwire connections add" in caught.value.remedy
    assert len(await ground.calls()) == before


async def test_the_revoked_event(ground: Ground) -> None:
    """It names the connection, the credential, the organization and the user, keyed by the organization."""
    token = ground.token()
    made = (await ground.connections.add(token)).connection
    await ground.revoke(token)
    with pytest.raises(CalendlyError, match="is revoked") as caught:
        async with ground.connections.acting(made):
            pytest.fail("a revoked token was used")
    assert caught.value.problem is CalendlyProblem.CREDENTIAL
    [event] = await ground.revoked_events()
    assert event["event_id"] == event_id(made.organization, "connection.revoked", str(made.id), str(made.credential_id))
    assert (event["org"], event["subject"], event["key"]) == (made.org, made.user_uri, made.organization)
    assert (event["tenant"], event["delivery_id"], event["inferred"]) == (f"customer-{made.org}", None, False)
    assert (event["time"], event["recorded_at"]) == (NOW, NOW)
    data = ConnectionRevoked.model_validate_json(event["data"])
    assert data == ConnectionRevoked(
        connection_id=made.id,
        credential_id=made.credential_id,
        organization=made.organization,
        user=made.user_uri,
        kind="personal_access_token",
        reason="refused",
        noticed_at=NOW,
    )
    assert token.get_secret_value().encode() not in event["data"]


async def test_many_401s_at_once_are_one_event(ground: Ground) -> None:
    """However many are acting when the credential is refused, one event is written."""
    token = ground.token()
    made = (await ground.connections.add(token)).connection
    opened = asyncio.Barrier(8)

    async def act() -> None:
        async with ground.connections.acting(made) as calendly:
            if await opened.wait() == 0:
                await ground.revoke(token)
            await opened.wait()
            await users.me(calendly)

    ended = await asyncio.gather(*(act() for _ in range(opened.parties)), return_exceptions=True)
    assert all(isinstance(item, CalendlyError) for item in ended)
    assert len(await ground.revoked_events()) == 1
    assert (await ground.connections.get(made.id)).state == "revoked"


async def test_a_death_between_event_and_state_repeats_nothing(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the state was not written, the next 401 writes it and finds its event there already."""
    token = ground.token()
    made = (await ground.connections.add(token)).connection
    await ground.revoke(token)
    await ground.tamper(
        "CREATE FUNCTION slotwire.die() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'dead' USING ERRCODE = '57P01'; END$$"
    )
    await ground.tamper(
        "CREATE TRIGGER die BEFORE UPDATE ON slotwire.connections FOR EACH ROW EXECUTE FUNCTION slotwire.die()"
    )
    with pytest.raises(DatabaseUnavailable):
        async with ground.connections.acting(made):
            pytest.fail("a revoked token was used")
    assert (await ground.connections.get(made.id)).state == "active"
    [first] = await ground.revoked_events()
    await ground.tamper("DROP TRIGGER die ON slotwire.connections")
    ground.clock.advance(timedelta(minutes=5))
    assert (await ground.connections.check(made.id)).state == "revoked"
    assert await ground.revoked_events() == [first]


async def test_connecting_after_a_revocation_acts_again(ground: Ground) -> None:
    """A new credential brings a revoked connection back; when that is revoked too, it is another event."""
    token = ground.token()
    made = (await ground.connections.add(token)).connection
    await ground.revoke(token)
    assert (await ground.connections.check(made.id)).state == "revoked"
    fresh = await ground.issue()
    again = (await ground.connections.add(fresh)).connection
    assert (again.id, again.state) == (made.id, "active")
    async with ground.connections.acting(again) as calendly:
        assert (await users.me(calendly)).uri == made.user_uri
    await ground.revoke(fresh)
    assert (await ground.connections.check(made.id)).state == "revoked"
    assert [event["type"] for event in await ground.revoked_events()] == [REVOKED, REVOKED]
    assert len({event["event_id"] for event in await ground.revoked_events()}) == 2


async def test_a_401_of_a_credential_that_was_replaced_changes_nothing(ground: Ground) -> None:
    """Who still acts with the old token when a new one was given hurts neither the state nor the log."""
    token = ground.token()
    made = (await ground.connections.add(token)).connection
    async with ground.connections.acting(made) as calendly:
        again = (await ground.connections.add(await ground.issue())).connection
        await ground.revoke(token)
        with pytest.raises(CalendlyError):
            await users.me(calendly)
    assert (await ground.connections.get(made.id)) == again
    assert await ground.revoked_events() == []


async def test_a_failing_calendly_says_nothing_of_the_credential(ground: Ground) -> None:
    """An outage changes no state: only Calendly's own 401 revokes."""
    made = (await ground.connections.add(ground.token())).connection
    await ground.simulate("faults", rest_error_rate=1.0)
    with pytest.raises(CalendlyError) as caught:
        await ground.connections.check(made.id)
    assert caught.value.problem is CalendlyProblem.UPSTREAM
    assert await ground.connections.get(made.id) == made


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


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("state = 'active', reason = NULL", "connections_revoked_is_final"),
        ("state = 'needs_reauth', reason = 'another_user'", "connections_revoked_is_final"),
        ("state = 'error', reason = 'secret_unreadable'", "connections_revoked_is_final"),
        ("credential_id = gen_random_uuid()", "connections_new_credential"),
        ("credential_id = gen_random_uuid(), state = 'error'", "connections_new_credential"),
        ("user_uri = 'https://api.calendly.com/users/OTHER'", "connections_pinned"),
        ("id = gen_random_uuid()", "connections_pinned"),
        ("reason = NULL", "connections_reason"),
    ],
)
async def test_the_database_refuses_steps_that_no_statement_may_make(
    ground: Ground, change: str, constraint: str
) -> None:
    """From revoked nothing leads away but a new credential, which begins able to act; who it is never changes."""
    token = ground.token()
    made = (await ground.connections.add(token)).connection
    await ground.revoke(token)
    assert (await ground.connections.check(made.id)).state == "revoked"
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await ground.pool.execute(f"UPDATE slotwire.connections SET {change}")
    assert caught.value.constraint_name == constraint


async def test_the_database_refuses_a_beginning_that_cannot_act(ground: Ground) -> None:
    """No row begins revoked, in error, or waiting for another credential."""
    for state in ("revoked", "error", "needs_reauth"):
        with pytest.raises(asyncpg.CheckViolationError) as caught:
            await ground.pool.execute(
                "INSERT INTO slotwire.connections (id, org, kind, user_uri, credential_id, sealed, state, reason,"
                " checked_at, created_at, changed_at)"
                " VALUES ($1, $2, 'personal_access_token', 'u', $1, '', $3, 'x', $4, $4, $4)",
                uuid4(),
                ground.org(),
                state,
                NOW,
            )
        assert caught.value.constraint_name == "connections_new_credential"
