"""A refused credential: noticed where it happens, told once, final; and the steps that the database refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import product
from uuid import uuid4

import asyncpg
import pytest

from slotwire.ingest.control.calendly_client import users
from slotwire.ingest.control.connection_checks import STATES
from slotwire.ingest.control.connection_records import read_stored
from slotwire.ingest.control.connection_store import PERSONAL_ACCESS_TOKEN, ConnectionStore, Credential, _Was
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, DatabaseUnavailable, RequestRefused
from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.postgres import SUPERUSER
from slotwire.ingest.local.stack import Stack
from slotwire.ingest.receive.accept import AcceptRow
from slotwire.schemas.events import ConnectionRevoked
from slotwire.schemas.ids import event_id
from tests.support.connections_setup import NOW, REVOKED, ConnectionsSetup, connections_setup
from tests.support.shard_lock import hold, release, until_waiting

REVOKING = """pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
  AND query LIKE '%slotwire.revoke_connection%'"""
"""The backends that revoke."""


@pytest.fixture
async def superuser(stack: Stack, database: Database) -> AsyncIterator[Connection]:
    """A superuser's connection: it can hold the shard's lock, for which commits wait, and end them."""
    connection = await asyncpg.connect(stack.postgres.url(SUPERUSER, database.name))
    yield connection
    await connection.close()


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ConnectionsSetup]:
    """Two organizations at a simulator, known here and not connected."""
    async with connections_setup(database) as made:
        yield made


async def test_a_401_in_the_middle_is_noticed_at_once(setup: ConnectionsSetup) -> None:
    """The call that meets the 401 fails, and by then the state is revoked and the event in the log."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    async with setup.connections.acting(made) as calendly:
        await setup.revoke(token)
        with pytest.raises(CalendlyError) as met:
            await users.me(calendly)
        assert met.value.problem is CalendlyProblem.CREDENTIAL
        assert (await setup.connections.get(made.id)).state == "revoked"
        assert len(await setup.revoked_events()) == 1
    before = len(await setup.calls())
    with pytest.raises(RequestRefused, match="revoked") as caught:
        async with setup.connections.acting(made):
            pytest.fail("a revoked connection was used")
    assert caught.value.code == "connection_unable"
    assert "slotwire connections add" in caught.value.remedy
    assert len(await setup.calls()) == before


async def test_the_revoked_event(setup: ConnectionsSetup) -> None:
    """It names the connection, the credential, the organization and the user, keyed by the organization."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    await setup.revoke(token)
    with pytest.raises(CalendlyError, match="is revoked") as caught:
        async with setup.connections.acting(made):
            pytest.fail("a revoked token was used")
    assert caught.value.problem is CalendlyProblem.CREDENTIAL
    [event] = await setup.revoked_events()
    assert event["event_id"] == event_id(made.organization, "connection.revoked", str(made.id), str(made.credential_id))
    assert (event["org"], event["subject"], event["key"]) == (made.org, made.user_uri, made.organization)
    assert (event["tenant"], event["origin"], event["inferred"]) == (f"customer-{made.org}", "own", False)
    _, accepted = await setup.rows("SELECT id, subscription_id FROM slotwire.deliveries ORDER BY position")
    assert (accepted["id"], accepted["subscription_id"]) == (event["delivery_id"], None)
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
        state="revoked",
    )
    assert token.get_secret_value().encode() not in event["data"]


async def test_what_was_read_before_a_revocation_is_read_again(setup: ConnectionsSetup) -> None:
    """A next credential that is stored as the old one is refused tells that the connection works again."""
    token, through = setup.token(), setup.connections
    store = ConnectionStore(setup.pool, through.vault, setup.clock, through.warn)
    made = (await setup.connections.add(token)).connection
    stored, credential = await read_stored(setup.pool, made.id, None), Credential(PERSONAL_ACCESS_TOKEN, token)
    was = _Was(made.credential_id, stored.record.changes, stored.record.state, stored.record.reason)
    await store.revoke(stored)
    late = replace(made, credential_id=uuid4(), changed_at=NOW)
    assert (await store._store(stored.shard, late, was, credential))[0] == "stale"
    assert await store.replace(made.id, made.credential_id, credential)
    assert (await setup.connections.get(made.id)).state == "active"
    assert len(await setup.revoked_events()) == 1
    assert [row["type"] for row in await setup.rows("SELECT type FROM slotwire.events ORDER BY position")] == [
        *("io.slotwire.connection.connected.v1", REVOKED, "io.slotwire.connection.restored.v1"),
    ]


async def test_many_401s_at_once_are_one_event(setup: ConnectionsSetup) -> None:
    """However many are acting when the credential is refused, one event is written."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    opened = asyncio.Barrier(8)

    async def act() -> None:
        async with setup.connections.acting(made) as calendly:
            if await opened.wait() == 0:
                await setup.revoke(token)
            await opened.wait()
            await users.me(calendly)

    ended = await asyncio.gather(*(act() for _ in range(opened.parties)), return_exceptions=True)
    assert all(isinstance(item, CalendlyError) for item in ended)
    assert len(await setup.revoked_events()) == 1
    assert (await setup.connections.get(made.id)).state == "revoked"


@pytest.mark.parametrize("table", ["connections", "deliveries_0"])
async def test_a_death_in_the_middle_leaves_neither_event_nor_state(setup: ConnectionsSetup, table: str) -> None:
    """Whichever of the two could not be written, the other is not there either; the next 401 writes both."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    await setup.revoke(token)
    await setup.tamper(
        "CREATE FUNCTION slotwire.die() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'dead' USING ERRCODE = '57P01'; END$$"
    )
    await setup.tamper(
        f"CREATE TRIGGER die AFTER INSERT OR UPDATE ON slotwire.{table} FOR EACH ROW EXECUTE FUNCTION slotwire.die()"
    )
    with pytest.raises(DatabaseUnavailable):
        async with setup.connections.acting(made):
            pytest.fail("a revoked token was used")
    assert await setup.connections.get(made.id) == made
    assert await setup.revoked_events() == []
    await setup.tamper(f"DROP TRIGGER die ON slotwire.{table}")
    assert (await setup.connections.check(made.id)).state == "revoked"
    assert len(await setup.revoked_events()) == 1


async def test_a_backend_killed_between_state_and_event_leaves_neither(
    setup: ConnectionsSetup, superuser: Connection
) -> None:
    """Ended after it changed the state, while it waits for its place in the log, it leaves the connection as it was."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    await setup.revoke(token)
    await hold(superuser)
    check = asyncio.create_task(setup.connections.check(made.id))
    await until_waiting(superuser, 1)
    assert await superuser.fetchval(f"SELECT count(pg_terminate_backend(pid)) FROM {REVOKING}") == 1
    with pytest.raises(DatabaseUnavailable):
        await check
    await release(superuser)
    assert await setup.connections.get(made.id) == made
    assert await setup.revoked_events() == []
    assert (await setup.connections.check(made.id)).state == "revoked"
    assert len(await setup.revoked_events()) == 1


async def test_a_caller_cancelled_between_state_and_event_leaves_both(
    setup: ConnectionsSetup, superuser: Connection
) -> None:
    """The server is not asked to stop: it goes on without its caller, and commits the state with the event."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    await setup.revoke(token)
    await hold(superuser)
    check = asyncio.create_task(setup.connections.check(made.id))
    await until_waiting(superuser, 1)
    check.cancel()
    await asyncio.wait([check])
    assert check.cancelled()
    assert (await setup.connections.get(made.id)).state == "active"
    await release(superuser)
    async with asyncio.timeout(60):
        while await superuser.fetchval(f"SELECT count(*) FROM {REVOKING}"):
            pass
    assert (await setup.connections.get(made.id)).state == "revoked"
    assert len(await setup.revoked_events()) == 1


async def test_an_event_of_another_organization_revokes_nothing(setup: ConnectionsSetup) -> None:
    """The function itself refuses to write one organization's event for another one's connection."""
    made = (await setup.connections.add(setup.token())).connection
    event = AcceptRow(uuid4(), setup.org(1), None, "own", NOW, NOW, False, "", None, None, b"{}")
    call = "SELECT slotwire.revoke_connection($1, $2, 'refused', $3, $4)"
    assert await setup.pool.fetchval(call, made.id, made.credential_id, NOW, event) is None
    assert await setup.connections.get(made.id) == made
    assert await setup.revoked_events() == []


async def test_connecting_after_a_revocation_acts_again(setup: ConnectionsSetup) -> None:
    """A new credential brings a revoked connection back; when that is revoked too, it is another event."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    await setup.revoke(token)
    assert (await setup.connections.check(made.id)).state == "revoked"
    fresh = await setup.issue()
    again = (await setup.connections.add(fresh)).connection
    assert (again.id, again.state) == (made.id, "active")
    async with setup.connections.acting(again) as calendly:
        assert (await users.me(calendly)).uri == made.user_uri
    await setup.revoke(fresh)
    assert (await setup.connections.check(made.id)).state == "revoked"
    assert [event["type"] for event in await setup.revoked_events()] == [REVOKED, REVOKED]
    assert len({event["event_id"] for event in await setup.revoked_events()}) == 2


async def test_a_401_of_a_credential_that_was_replaced_changes_nothing(setup: ConnectionsSetup) -> None:
    """Who still acts with the old token when a new one was given hurts neither the state nor the log."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    async with setup.connections.acting(made) as calendly:
        again = (await setup.connections.add(await setup.issue())).connection
        await setup.revoke(token)
        with pytest.raises(CalendlyError):
            await users.me(calendly)
    assert (await setup.connections.get(made.id)) == again
    assert await setup.revoked_events() == []


async def test_a_failing_calendly_says_nothing_of_the_credential(setup: ConnectionsSetup) -> None:
    """An outage changes no state: only Calendly's own 401 revokes."""
    made = (await setup.connections.add(setup.token())).connection
    await setup.simulate("faults", rest_error_rate=1.0)
    with pytest.raises(CalendlyError) as caught:
        await setup.connections.check(made.id)
    assert caught.value.problem is CalendlyProblem.UPSTREAM
    assert await setup.connections.get(made.id) == made


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
    setup: ConnectionsSetup, change: str, constraint: str
) -> None:
    """From revoked nothing leads away but a new credential, which begins able to act; who it is never changes."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    await setup.revoke(token)
    assert (await setup.connections.check(made.id)).state == "revoked"
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await setup.pool.execute(f"UPDATE slotwire.connections SET {change}")
    assert caught.value.constraint_name == constraint


async def test_the_database_refuses_a_beginning_that_cannot_act(setup: ConnectionsSetup) -> None:
    """No row begins revoked, in error, or waiting for another credential."""
    for state in ("revoked", "error", "needs_reauth"):
        with pytest.raises(asyncpg.CheckViolationError) as caught:
            await setup.pool.execute(
                "INSERT INTO slotwire.connections (id, org, kind, user_uri, credential_id, sealed, state, reason,"
                " checked_at, created_at, changed_at)"
                " VALUES ($1, $2, 'personal_access_token', 'u', $1, '', $3, 'x', $4, $4, $4)",
                uuid4(),
                setup.org(),
                state,
                NOW,
            )
        assert caught.value.constraint_name == "connections_new_credential"


async def test_the_database_lets_pass_what_is_drawn(setup: ConnectionsSetup) -> None:
    """For one credential each state leads to each, but for revoked, which leads nowhere; a new one begins anew."""
    made = (await setup.connections.add(setup.token())).connection
    anew = "UPDATE slotwire.connections SET credential_id = gen_random_uuid(), state = 'active', reason = NULL"
    step = "UPDATE slotwire.connections SET state = $2, reason = nullif($3, '') WHERE id = $1"
    for first, second in product(STATES, STATES):
        await setup.pool.execute(anew)
        await setup.pool.execute(step, made.id, first, "" if first == "active" else "x")
        if first == "revoked" and second != "revoked":
            with pytest.raises(asyncpg.CheckViolationError):
                await setup.pool.execute(step, made.id, second, "" if second == "active" else "x")
        else:
            await setup.pool.execute(step, made.id, second, "" if second == "active" else "x")
        found = (await setup.connections.get(made.id)).state
        assert found == (first if first == "revoked" else second)
