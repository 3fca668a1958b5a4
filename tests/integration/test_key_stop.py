"""A leaked signing key is stopped at once: on every replica, whatever it has in memory and however it is connected."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from slotwire.ingest.control import rounds
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.keys.signing_keys import signing_key_context
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.connection_models import ConnectionRequest
from slotwire.ingest.operate.roles import COMMAND_LINE
from tests.support import shard_lock
from tests.support.command import CommandResult, environment, slotwire
from tests.support.organizations_setup import OrganizationsSetup, organizations_setup
from tests.support.public_endpoint import SIGNATURE, Endpoint, Hook, invitee_body, running_endpoint, sign

SECONDS = 60.0
"""How long a test waits for what must come."""
VERBS = (
    "subscriptions delete {subscription} --now",
    "organizations remove {org} --now",
    "keys signing revoke {key}",
)
"""The commands that stop a key, with a place for what they name."""


@dataclass
class Link:
    """A way to Postgres that the test can cut: what is open ends, or nothing gets through until it is mended."""

    host: str
    port: int
    shut: bool = False
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways until an end closes it."""
        if self.shut:
            writer.transport.abort()
            return
        there, out = await asyncio.open_connection(self.host, self.port)
        self._open |= {writer, out}
        with suppress(OSError):
            await asyncio.gather(_copy(reader, out), _copy(there, writer))
        self._open -= {writer, out}

    def cut(self) -> None:
        """End every connection, as a network does: without a word."""
        for writer in self._open:
            writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while octets := await reader.read(65_536):
            writer.write(octets)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def linked(settings: Settings) -> AsyncIterator[tuple[Link, Settings]]:
    """Settings whose way to Postgres is a link in the test's hand."""
    address = urlsplit(settings.database_url.get_secret_value())
    link = Link(address.hostname or "", address.port or 0)
    server = await asyncio.start_server(link.carry, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    moved = address._replace(netloc=f"{address.username}:{address.password}@127.0.0.1:{port}").geturl()
    try:
        yield link, settings.model_copy(update={"database_url": SecretStr(moved)})
    finally:
        server.close()
        link.cut()


@dataclass(frozen=True)
class Stop:
    """An organization that is live, with the hook and the key of its subscription in an attacker's hand."""

    setup: OrganizationsSetup
    hook: Hook
    env: dict[str, str]

    @property
    def org(self) -> str:
        """The organization."""
        return self.setup.org

    async def type(self, *arguments: str) -> CommandResult:
        """Run `slotwire …` to its end."""
        return await slotwire(*arguments, env=self.env)

    async def forge(self, url: str) -> int:
        """Send a booking of the attacker's own making, well signed; return the status."""
        body = invitee_body()
        sent = {SIGNATURE: sign(body, self.hook.key), "Content-Type": "application/json"}
        return (await self.setup.client.post(url + self.hook.path, content=body, headers=sent)).status_code

    async def accepted(self) -> int:
        """Count what was accepted from webhooks."""
        [row] = await self.setup.rows("SELECT count(*) AS n FROM slotwire.deliveries WHERE origin = 'webhook'")
        return int(row["n"])

    @property
    def url(self) -> str:
        """The endpoint that the simulator sends to."""
        return self.setup.settings.public_url


@pytest.fixture
async def stop(database: Database) -> AsyncIterator[Stop]:
    """An organization whose signing key has leaked."""
    async with organizations_setup(database) as setup:
        await setup.add()
        env = environment(setup.settings, SLOTWIRE_CALENDLY__API_URL=setup.calendly.url)
        yield Stop(setup, await leaked(setup), env)


async def leaked(setup: OrganizationsSetup) -> Hook:
    """Return the only subscription, as Calendly holds it."""
    [theirs] = setup.calendly.engine.ledger.subscriptions()
    [ours] = await setup.rows(
        "SELECT s.id, k.id AS key FROM slotwire.subscriptions s"
        " JOIN slotwire.signing_keys k ON k.subscription_id = s.id WHERE s.provider_uri LIKE '%/' || $1",
        theirs.id,
    )
    assert theirs.signing_key is not None
    path = urlsplit(theirs.url).path
    return Hook(setup.calendly.organization, path, theirs.signing_key, ours["id"], ours["key"])


@pytest.mark.parametrize("line", VERBS)
async def test_every_replica_refuses_once_the_command_has_returned(line: str, stop: Stop) -> None:
    """Three replicas with the key in memory answer 401 to the first request, one without Postgres 503, none 200.

    One of the three has lost all its connections meanwhile, so whatever it was sent over them is lost.
    """
    settings = stop.setup.settings
    own = settings.model_copy(update={"http": settings.http.model_copy(update={"port": 0})})
    async with AsyncExitStack() as running:
        cut, cut_settings = await running.enter_async_context(linked(own))
        away, away_settings = await running.enter_async_context(linked(own))
        replicas: dict[str, Endpoint] = {
            name: await running.enter_async_context(running_endpoint(each))
            for name, each in {"plain": own, "cut": cut_settings, "away": away_settings}.items()
        }
        urls = {"first": stop.url, **{name: each.url for name, each in replicas.items()}}
        assert {name: await stop.forge(url) for name, url in urls.items()} == dict.fromkeys(urls, 200)
        before = await stop.accepted()
        cut.cut()
        away.shut = True
        away.cut()
        words = {"subscription": stop.hook.subscription_id, "org": stop.org, "key": stop.hook.key_id}
        ran = await stop.type(*line.format(**words).split())
        returned = monotonic()
        assert ran.code == 0, ran.stderr
        answers = await asyncio.gather(*(until_refused(stop, urls[name]) for name in ("first", "plain", "cut")))
        for name, (statuses, at) in zip(("first", "plain", "cut"), answers, strict=True):
            sys.stderr.write(f"{line}: {name} refused {1000 * (at - returned):.1f} ms after the return\n")
            assert set(statuses) <= ({401, 503} if name == "cut" else {401})
        assert await stop.forge(urls["away"]) == 503
        away.shut = False
        assert set((await until_refused(stop, urls["away"]))[0]) <= {401, 503}
        assert await stop.accepted() == before
        await stop.setup.settled()
        written = await stop.setup.rows(
            "SELECT FROM slotwire.results WHERE outcome = 'stored' AND event_name LIKE 'invitee%'"
        )
        assert len(written) == before  # what was accepted before is all written


async def until_refused(stop: Stop, url: str) -> tuple[list[int], float]:
    """Send until the answer is 401; return every answer, and when the last one came."""
    statuses: list[int] = []
    async with asyncio.timeout(SECONDS):
        while not statuses or statuses[-1] != 401:
            statuses.append(await stop.forge(url))
    return statuses, monotonic()


async def test_what_stands_at_the_door_is_decided_by_its_place(stop: Stop) -> None:
    """A delivery before the revocation in the door's queue is stored and answered 200; one behind it is refused."""
    assert await stop.forge(stop.url) == 200
    settings = stop.setup.settings
    own = settings.model_copy(update={"http": settings.http.model_copy(update={"port": 0})})
    lock = await asyncpg.connect(stop.setup.database.owner_url)
    try:
        async with running_endpoint(own) as other:
            await shard_lock.hold(lock)
            early = asyncio.create_task(stop.forge(stop.url))
            await shard_lock.until_waiting(lock, 1)
            # A process of its own would take longer to start than the early one may wait for its answer.
            keys = stop.setup.actions.signing_keys
            revoking = asyncio.create_task(keys.revoke(COMMAND_LINE, None, stop.hook.key_id))
            await shard_lock.until_waiting(lock, 2)
            late = asyncio.create_task(stop.forge(other.url))
            await shard_lock.until_waiting(lock, 3)
            await shard_lock.release(lock)
            assert (await early, (await revoking).id, await late) == (200, stop.hook.key_id, 401)
    finally:
        await lock.close()
    assert await stop.accepted() == 2


async def test_an_ended_subscription_is_stopped_within_its_48_hours(stop: Stop) -> None:
    """Without `--now` a deleted subscription goes on being accepted; with it, given later too, it is not."""
    subscription = str(stop.hook.subscription_id)
    assert (await stop.type("subscriptions", "delete", subscription)).code == 0
    assert await stop.forge(stop.url) == 200
    await stop.setup.add(events=("invitee.created",))
    wanted = await stop.setup.rows("SELECT scope, events FROM slotwire.wanted_subscriptions")
    stopped = await stop.type("subscriptions", "delete", subscription, "--now")
    assert (stopped.code, stopped.stderr) == (0, "")
    assert await stop.forge(stop.url) == 401
    assert (await stop.type("subscriptions", "delete", subscription, "--now")).code == 0
    # What took its place stays wanted, and works.
    assert await stop.setup.rows("SELECT scope, events FROM slotwire.wanted_subscriptions") == wanted
    await stop.setup.simulate("book")
    await stop.setup.settled()
    assert await stop.accepted() == 2


async def test_it_is_stopped_even_if_calendly_refuses(stop: Stop) -> None:
    """With a revoked token the keys are gone all the same, the error says so, and a repetition ends the rest."""
    await stop.setup.simulate("tokens/state", token=stop.setup.calendly.owner_token, state="revoked")
    subscription = str(stop.hook.subscription_id)
    ran = await stop.type("subscriptions", "delete", subscription, "--now")
    assert ran.code == 1
    assert "Its signing keys are revoked: nothing more is accepted." in ran.stderr
    assert await stop.forge(stop.url) == 401
    actions = await stop.setup.rows("SELECT action, result FROM slotwire.audit WHERE result <> 'started' ORDER BY id")
    assert [tuple(row) for row in actions[-2:]] == [
        ("signing_keys.revoke", "done"),
        ("subscriptions.delete", "refused"),
    ]
    issued = await stop.setup.simulate("tokens")
    await stop.setup.actions.connections.add(*connecting(issued["token"]))
    await rounds.run_once(stop.setup.organizations)
    assert stop.setup.calendly.engine.ledger.subscriptions() == ()


async def test_a_revoked_key_brings_another_subscription(stop: Stop) -> None:
    """The subscription of a revoked key ends, here and at Calendly, and one with a new key serves what is wanted."""
    listed = await stop.type("keys", "signing", "list", "--json")
    [key] = [json.loads(line) for line in listed.stdout.splitlines()]
    assert (key["id"], key["subscription_id"]) == (str(stop.hook.key_id), str(stop.hook.subscription_id))
    ran = await stop.type("keys", "signing", "revoke", key["id"], "--json")
    assert ran.code == 0, ran.stderr
    done = json.loads(ran.stdout)
    assert (done["subscription_ended"], done["problem"]) == (True, None)
    new = await leaked(stop.setup)
    assert done["replaced_by"] == str(new.subscription_id) != key["subscription_id"]
    assert new.key != stop.hook.key
    await stop.setup.simulate("book")
    await stop.setup.settled()
    assert await stop.accepted() == 1
    again = await stop.type("keys", "signing", "revoke", key["id"])
    assert again.code == 1
    assert "there is no such signing key within reach: it may be revoked already" in again.stderr
    for secret in (stop.hook.key, new.key):
        assert secret not in listed.stdout + ran.stdout + ran.stderr


async def test_a_key_is_revoked_though_calendly_refuses(stop: Stop) -> None:
    """The command ends with 1 and says what is left to do; the next round that can act makes the new subscription."""
    await stop.setup.simulate("tokens/state", token=stop.setup.calendly.owner_token, state="revoked")
    ran = await stop.type("keys", "signing", "revoke", str(stop.hook.key_id))
    assert ran.code == 1
    assert f"revoked {stop.hook.key_id}: nothing that it signed is accepted any more" in ran.stdout
    assert "ended, not replaced" in ran.stdout
    assert "`slotwire control` tries again in its rounds." in ran.stderr
    assert await stop.forge(stop.url) == 401
    issued = await stop.setup.simulate("tokens")
    await stop.setup.actions.connections.add(*connecting(issued["token"]))
    await rounds.run_once(stop.setup.organizations)
    assert (await leaked(stop.setup)).key != stop.hook.key


async def test_one_of_two_keys_is_revoked(stop: Stop) -> None:
    """A subscription with another key goes on: what the other key signed is accepted, and nothing is made new."""
    setup = stop.setup
    spare, vault = "a second key of the same subscription", setup.organizations.subscriptions.vault
    [row] = await setup.rows("SELECT gen_random_uuid() AS id")
    context = signing_key_context(stop.org, stop.hook.subscription_id, row["id"])
    await setup.rows(
        "INSERT INTO slotwire.signing_keys (id, subscription_id, sealed, created_at) VALUES ($1, $2, $3, now())",
        *(row["id"], stop.hook.subscription_id, vault.seal(spare.encode(), context=context)),
    )
    assert await stop.forge(stop.url) == 200
    ran = await stop.type("keys", "signing", "revoke", str(stop.hook.key_id))
    assert (ran.code, ran.stderr) == (0, "")
    assert "ended" not in ran.stdout
    assert await stop.forge(stop.url) == 401
    body = invitee_body()
    sent = {SIGNATURE: sign(body, spare), "Content-Type": "application/json"}
    assert (await setup.client.post(stop.url + stop.hook.path, content=body, headers=sent)).status_code == 200


async def test_an_organization_is_removed_at_once(stop: Stop) -> None:
    """Nothing more is accepted, tokens are forgotten, history and audit stay; unknown is said, repeated is the same."""
    setup = stop.setup
    await setup.simulate("book")
    await setup.settled()
    told = "SELECT count(*) AS n FROM slotwire.events WHERE org = $1"
    [events] = await setup.rows(told, stop.org)
    other = setup.token(next(each for each in setup.calendly.world.organizations if each != stop.org))
    await setup.add(token=other)
    removed = await stop.type("organizations", "remove", stop.org, "--now")
    assert (removed.code, removed.stderr) == (0, "")
    assert "revoked 1 signing key: nothing more is accepted" in removed.stdout
    assert await stop.forge(stop.url) == 401
    for table in ("connections", "wanted_subscriptions"):
        assert {row["org"] for row in await setup.rows(f"SELECT org FROM slotwire.{table}")} == {
            last(setup.calendly.world.organizations, stop.org)
        }
    [kept] = await setup.rows(told, stop.org)
    assert kept == events
    assert await setup.rows("SELECT FROM slotwire.audit WHERE org = $1", stop.org) != []
    again = await stop.type("organizations", "remove", stop.org, "--now")
    assert (again.code, again.stderr) == (0, "")
    assert "revoked 0 signing keys" in again.stdout
    unknown = await stop.type("organizations", "remove", "NOBODY", "--now")
    assert (unknown.code, unknown.stdout) == (1, "")
    assert "there is no such organization within reach" in unknown.stderr


def last(organizations: Any, org: str) -> str:
    """Return the other organization."""
    [other] = [each for each in organizations if each != org]
    return str(other)


def connecting(token: str) -> tuple[Any, ...]:
    """Write the arguments that connect a token's user by command."""
    return COMMAND_LINE, None, ConnectionRequest(token=SecretStr(token))
