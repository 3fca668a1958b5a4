"""Rotation of the vault's keys on a real database: every secret, once, whenever it is interrupted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from slotwire.ingest.control import app_keys
from slotwire.ingest.control.calendly_client import users
from slotwire.ingest.control.connection_records import connection_context
from slotwire.ingest.control.connections import Connections
from slotwire.ingest.control.oauth_flow import ConnectFlow
from slotwire.ingest.control.oauth_refresh import RefreshOutcome
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.settings import VaultSettings
from slotwire.ingest.keys.signing_keys import mint_signing_key, signing_key_context
from slotwire.ingest.keys.vault import Vault, key_name
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.idempotency import IdempotentResponses, StoredResponse
from slotwire.ingest.operate.models import KeyRequest
from slotwire.ingest.operate.roles import COMMAND_LINE, Principal, Role
from slotwire.ingest.operate.vault_rotation import PAGE, KeyUse, keys_in_use, rotate
from tests.support.command import environment, slotwire
from tests.support.connections_setup import NOW, ONCE, ConnectionsSetup, another_key, connections_setup
from tests.support.management_api import management_api
from tests.support.oauth_setup import RETURN, oauth_setup
from tests.support.public_endpoint import make_hook

OF_OAUTH = ("refresh_tokens", "pending_connections", "app_signing_keys")
"""Tables with secrets of OAuth."""


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ConnectionsSetup]:
    """Organizations at a simulator, and settings with one key, `test`."""
    async with connections_setup(database) as made:
        yield made


def rekeyed(setup: ConnectionsSetup) -> VaultSettings:
    """Put a new key in front of the one there is."""
    return VaultSettings(keys=(another_key("new"), *setup.settings.vault.keys))


async def secrets_of_every_kind(setup: ConnectionsSetup) -> UUID:
    """Seal a credential, a signing key, and an answer; return the key of the API that the answer was for."""
    await setup.connections.add(setup.token())
    await make_hook(setup.settings, setup.database)
    async with management_api(setup.settings) as api:
        key = await api.actions.keys.create(COMMAND_LINE, KeyRequest(role=Role.ADMIN))
    answers = IdempotentResponses(setup.pool, setup.settings, setup.clock)
    claim = await answers.claim(key.id, "again", b"fingerprint")
    assert not isinstance(claim, StoredResponse)
    await answers.store(claim, 201, b'{"key":"shown once"}')
    # One that runs still has no answer to seal anew.
    await answers.claim(key.id, "running", b"fingerprint")
    return key.id


async def many_signing_keys(setup: ConnectionsSetup, vault: Vault, count: int) -> dict[UUID, str]:
    """Seal so many signing keys of one subscription; return them by id."""
    hook = await make_hook(setup.settings, setup.database)
    org = hook.organization.rpartition("/")[2]
    made = {uuid4(): mint_signing_key() for _ in range(count)}
    await setup.pool.executemany(
        "INSERT INTO slotwire.signing_keys (id, subscription_id, sealed, created_at) VALUES ($1, $2, $3, $4)",
        [
            (
                key_id,
                hook.subscription_id,
                vault.seal(key.encode(), context=signing_key_context(org, hook.subscription_id, key_id)),
                NOW,
            )
            for key_id, key in made.items()
        ],
    )
    return made


async def test_every_secret_is_sealed_anew(setup: ConnectionsSetup) -> None:
    """After a rotation the new key alone opens a credential, a signing key and a kept answer, as they were."""
    key_id = await secrets_of_every_kind(setup)
    both = rekeyed(setup)
    vault = Vault.from_settings(both)
    assert await keys_in_use(setup.pool, vault) == (
        KeyUse(key="new", secrets=0, here=True, seals=True),
        KeyUse(key="test", secrets=3, here=True, seals=False),
    )
    told = [page async for page in rotate(setup.pool, vault)]
    assert [(page.table, page.resealed, page.unreadable, page.done) for page in told] == [
        ("signing_keys", 1, 0, True),
        ("connections", 1, 0, True),
        *((table, 0, 0, True) for table in OF_OAUTH),
        ("idempotent_answers", 1, 0, True),
    ]
    used = await keys_in_use(setup.pool, vault)
    assert [(use.key, use.secrets, use.removable) for use in used] == [("new", 3, False), ("test", 0, True)]

    alone = setup.settings.model_copy(update={"vault": VaultSettings(keys=both.keys[:1])})
    answers = IdempotentResponses(setup.pool, alone, setup.clock)
    assert await answers.claim(key_id, "again", b"fingerprint") == StoredResponse(201, b'{"key":"shown once"}')
    connections = Connections.from_settings(alone, setup.pool, setup.clock, setup.calendly, retries=ONCE)
    async with connections.acting(await connections.for_organization(setup.org())) as calendly:
        assert (await users.me(calendly)).uri.endswith(setup.users()[0])
    [row] = await setup.rows(
        "SELECT k.id, k.sealed, s.org, s.id AS subscription FROM slotwire.signing_keys k"
        " JOIN slotwire.subscriptions s ON s.id = k.subscription_id"
    )
    context = signing_key_context(row["org"], row["subscription"], row["id"])
    assert len(connections.vault.open(row["sealed"], context=context)) == 43


async def test_a_second_run_changes_nothing(setup: ConnectionsSetup) -> None:
    """Where everything is sealed with the first key, a rotation touches no row."""
    await secrets_of_every_kind(setup)
    vault = Vault.from_settings(rekeyed(setup))
    _ = [page async for page in rotate(setup.pool, vault)]
    before = await setup.rows("SELECT xmin::text, sealed FROM slotwire.connections")
    told = [page async for page in rotate(setup.pool, vault)]
    assert {page.resealed for page in told} == {0}
    assert await setup.rows("SELECT xmin::text, sealed FROM slotwire.connections") == before


async def test_secrets_of_oauth_are_sealed_anew(database: Database) -> None:
    """The pair of a connection, one that waits for its code, and the app's keys: the new key alone opens them all."""
    async with oauth_setup(database, with_writer=False, endpoint=False) as oauth:
        await oauth.connect()
        waiting = await oauth.link(external_id="customer-2", return_url=RETURN)
        answer = await oauth.consent(waiting.url, oauth.user(number=1))
        keys = VaultSettings(keys=(another_key("new"), *oauth.settings.vault.keys))
        pool = oauth.api.actions.pool
        told = {page.table: page.resealed async for page in rotate(pool, Vault.from_settings(keys))}
        assert {table: told[table] for table in OF_OAUTH} == dict.fromkeys(OF_OAUTH, 1)
        alone = oauth.settings.model_copy(update={"vault": VaultSettings(keys=keys.keys[:1])})
        assert [use.secrets for use in await keys_in_use(pool, Vault.from_settings(keys))][1] == 0
        calendly = oauth.api.actions.calendly
        organizations = Organizations.from_settings(alone, pool, oauth.clock, calendly)
        assert organizations.connections.oauth is not None
        oauth.clock.advance(timedelta(hours=3))
        assert [*(await organizations.connections.oauth.run_once())] == [RefreshOutcome.REFRESHED]
        flow = ConnectFlow.from_settings(alone, pool, oauth.clock, organizations, oauth.flow.consenting)
        assert flow is not None
        assert await flow.revoke_late() == 1
        assert answer.status_code == 303
        assert (await app_keys.follow(pool, Vault.from_settings(alone.vault), alone.oauth, oauth.clock)).added == 0


@pytest.mark.parametrize("count", [PAGE, PAGE + 1])
async def test_what_is_interrupted_is_finished_by_the_next_run(setup: ConnectionsSetup, count: int) -> None:
    """A run that ends after its first page leaves every secret readable, and the next one does exactly the rest."""
    old = setup.connections.vault
    made = await many_signing_keys(setup, old, count)
    vault = Vault.from_settings(rekeyed(setup))
    interrupted = rotate(setup.pool, vault)
    first = await anext(interrupted)
    await interrupted.aclose()
    assert (first.resealed, first.done) == (PAGE, False)
    rows = await setup.rows(
        "SELECT k.id, k.sealed, s.org, s.id AS subscription FROM slotwire.signing_keys k"
        " JOIN slotwire.subscriptions s ON s.id = k.subscription_id"
    )
    assert sum(key_name(row["sealed"]) == "new" for row in rows) == PAGE
    opened = {
        row["id"]: vault.open(
            row["sealed"], context=signing_key_context(row["org"], row["subscription"], row["id"])
        ).decode()
        for row in rows
    }
    assert {key_id: opened[key_id] for key_id in made} == made
    # One more: the hook's own key.
    rest = [page.resealed async for page in rotate(setup.pool, vault) if page.table == "signing_keys"]
    assert rest[-1] == count + 1 - PAGE
    used = await keys_in_use(setup.pool, vault)
    assert [use.secrets for use in used] == [count + 1, 0]


async def test_what_was_written_meanwhile_is_kept(setup: ConnectionsSetup) -> None:
    """A credential that is replaced between reading and writing back is not overwritten with the old one."""
    made = (await setup.connections.add(setup.token())).connection
    vault, credential = Vault.from_settings(rekeyed(setup)), uuid4()
    fresh = setup.connections.vault.seal(b"a new token", context=connection_context(made.org, made.id, credential))
    told: dict[str, int] = {}

    async def rotation() -> None:
        async for page in rotate(setup.pool, vault):
            told[page.table] = page.resealed

    async with asyncio.timeout(60), setup.pool.acquire() as writer, writer.transaction():
        await writer.execute("UPDATE slotwire.connections SET credential_id = $1, sealed = $2", credential, fresh)
        running = asyncio.create_task(rotation())
        # Until it has read the old row, and waits for this transaction to write it back.
        blocked = "SELECT count(*) FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        while not await writer.fetchval(blocked):
            pass
    await running
    assert told["connections"] == 0
    [row] = await setup.rows("SELECT sealed FROM slotwire.connections")
    assert row["sealed"] == fresh
    await rotation()
    assert told["connections"] == 1


async def test_two_rotations_at_once_are_one(setup: ConnectionsSetup) -> None:
    """Whoever comes second finds what the first did; nothing is sealed from what was read before."""
    made = await many_signing_keys(setup, setup.connections.vault, 3)
    vault = Vault.from_settings(rekeyed(setup))
    one, other = rotate(setup.pool, vault), rotate(setup.pool, vault)
    assert ((await anext(one)).resealed, (await anext(other)).resealed) == (len(made) + 1, 0)
    await one.aclose()
    await other.aclose()


async def test_a_revoked_credential_is_sealed_anew_too(setup: ConnectionsSetup) -> None:
    """The trigger of the states lets a rotation pass, whatever the state."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    await setup.revoke(token)
    assert (await setup.connections.check(made.id)).state == "revoked"
    told = {page.table: page.resealed async for page in rotate(setup.pool, Vault.from_settings(rekeyed(setup)))}
    assert told["connections"] == 1


async def test_what_does_not_open_is_left_and_counted(setup: ConnectionsSetup) -> None:
    """Secrets of a key that is missing here are named, counted, and left as they are; the others are done."""
    await secrets_of_every_kind(setup)
    await setup.tamper("UPDATE slotwire.connections SET sealed = 'x'")
    stranger = Vault({"gone": bytes(range(32))})
    await many_signing_keys(setup, stranger, 1)
    vault = Vault.from_settings(rekeyed(setup))
    told = {page.table: (page.resealed, page.unreadable) async for page in rotate(setup.pool, vault)}
    nothing = dict.fromkeys(OF_OAUTH, (0, 0))
    assert told == {"signing_keys": (2, 1), "connections": (0, 1), "idempotent_answers": (1, 0), **nothing}
    used = {use.key: (use.secrets, use.here) for use in await keys_in_use(setup.pool, vault)}
    assert used == {"new": (3, True), "test": (0, True), "gone": (1, False), "": (1, False)}


async def test_who_may_rotate(setup: ConnectionsSetup) -> None:
    """Only an admin that reaches all organizations may: it concerns the secrets of all of them."""
    async with management_api(setup.settings) as api:
        for who in (Principal(Role.OPERATOR), Principal(Role.ADMIN, setup.org())):
            with pytest.raises(RequestRefused) as caught:
                _ = [page async for page in api.actions.keys.rotate_vault(who)]
            assert caught.value.code in {"role_too_low", "out_of_reach"}


async def test_the_command(setup: ConnectionsSetup) -> None:
    """It shows progress and what may be removed; `--json` prints tables and keys; the audit has it."""
    await secrets_of_every_kind(setup)
    env = environment(setup.settings.model_copy(update={"vault": rekeyed(setup)}))
    ran = await slotwire("keys", "vault", "rotate", env=env)
    assert ran.code == 0, ran.stderr
    assert "connections: 1 re-encrypted" in ran.stderr
    assert "no secret uses 'test' any more" in ran.stderr
    assert [line.split() for line in ran.stdout.splitlines()] == [
        ["KEY", "SECRETS"],
        ["new", "3", "encrypts"],
        ["test", "0"],
    ]
    ran = await slotwire("keys", "vault", "rotate", "--json", env=env)
    assert (ran.code, ran.stderr) == (0, "")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line.get("table") or line["key"] for line in lines] == [
        "signing_keys",
        "connections",
        *OF_OAUTH,
        "idempotent_answers",
        "new",
        "test",
    ]
    audited = await setup.rows("SELECT result FROM slotwire.audit WHERE action = 'keys.rotate_vault' ORDER BY id")
    assert [row["result"] for row in audited] == ["started", "done"] * 2


async def test_the_command_fails_where_something_does_not_open(setup: ConnectionsSetup) -> None:
    """It exits with 1 and says what to do when a secret was left as it is."""
    await setup.connections.add(setup.token())
    alone = VaultSettings(keys=(another_key("new"),))
    env = environment(setup.settings.model_copy(update={"vault": alone}))
    ran = await slotwire("keys", "vault", "rotate", env=env)
    assert ran.code == 1
    assert "opens 1 of the secrets" in ran.stderr
    assert ["test", "1", "missing", "here"] in [line.split() for line in ran.stdout.splitlines()]
