"""OAuth connections are refreshed at half of a token's life: once each, whoever tries; only what is lost is lost."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from slotwire.ingest.control.calendly_client import users
from slotwire.ingest.control.calendly_client.uses import Bearer
from slotwire.ingest.control.connection_records import read_page, read_stored
from slotwire.ingest.control.connection_states import ConnectionStatus
from slotwire.ingest.control.connection_store import ConnectionStore, Credential
from slotwire.ingest.control.oauth_refresh import DEADLINE, MARGIN, Refresher, RefreshOutcome
from slotwire.ingest.control.observation import Observer
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, RequestRefused
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.doctor_organizations import connections as doctor_connections
from slotwire.ingest.simulator.oauth_grants import TOKEN_RATE
from slotwire.schemas.events import ConnectionExpiring, ConnectionRevoked
from tests.support.oauth_connections import connected, refreshed, told
from tests.support.oauth_setup import OAuthSetup, oauth_setup
from tests.support.public_endpoint import with_role

HALF = timedelta(hours=1, seconds=1)
"""Half of a token's life, and a moment."""


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OAuthSetup]:
    """Two organizations; nothing takes deliveries, and what is accepted is written when a test asks for it."""
    async with oauth_setup(database, with_writer=False, endpoint=False) as made:
        yield made


def refresher(setup: OAuthSetup) -> Refresher:
    """The refresher of the connections."""
    assert setup.connections.oauth is not None
    return setup.connections.oauth


async def test_a_connection_is_refreshed_at_half_of_its_life(setup: OAuthSetup) -> None:
    """Not before; then once, into another credential that works, with no event, because its state is as it was."""
    made = await connected(setup)
    assert await refresher(setup).run_once() == Counter()
    setup.clock.advance(HALF)
    assert await refresher(setup).run_once() == Counter({RefreshOutcome.REFRESHED: 1})
    assert await refresher(setup).run_once() == Counter()
    now = await setup.connections.get(made.id)
    assert (now.state, now.credential_id == made.credential_id) == ("active", False)
    assert now.access_expires_at is not None
    assert now.access_expires_at - setup.clock.now() > timedelta(minutes=119)
    async with setup.connections.acting(now) as calendly:
        assert (await users.me(calendly)).uri == made.user_uri
    assert await refreshed(setup) == {made.user_uri: 1}
    kinds = [len(await told(setup, kind)) for kind in ("connected", "restored", "revoked", "expiring")]
    assert kinds == [1, 0, 0, 0]


async def test_a_token_that_ends_while_it_is_used_is_renewed(setup: OAuthSetup) -> None:
    """A block that lasts longer than its token goes on with the next one; neither is in the database in clear."""
    made = await connected(setup)
    async with setup.connections.acting(made) as calendly:
        setup.clock.advance(timedelta(hours=2) - MARGIN)
        assert (await users.me(calendly)).uri == made.user_uri
        setup.clock.advance(timedelta(hours=5))
        assert (await users.me(calendly)).uri == made.user_uri
    assert await refreshed(setup) == {made.user_uri: 2}
    [row] = await setup.rows("SELECT c::text AS whole FROM slotwire.connections c")
    assert "eyJ" not in row["whole"]


async def test_many_at_once_refresh_once(setup: OAuthSetup) -> None:
    """However many find the same connection due, one asks Calendly; those who need the token wait for it."""
    made = await connected(setup)
    setup.clock.advance(timedelta(hours=3))
    outcomes = Counter(await asyncio.gather(*(refresher(setup).refresh(made.id) for _ in range(6))))
    assert outcomes[RefreshOutcome.REFRESHED] == 1
    setup.clock.advance(timedelta(hours=3))

    async def act() -> str:
        async with setup.connections.acting(made) as calendly:
            return (await users.me(calendly)).uri

    assert set(await asyncio.gather(*(act() for _ in range(4)))) == {made.user_uri}
    assert await refreshed(setup) == {made.user_uri: 2}


async def test_a_revocation_is_noticed_at_its_first_401(setup: OAuthSetup) -> None:
    """The call that meets it, or the refresh: revoked, one event with a fresh link, and that link connects again."""
    made = await connected(setup)
    await setup.simulate("oauth", revoke_user=made.user_uri)
    with pytest.raises(CalendlyError) as caught:
        async with setup.connections.acting(made):
            pytest.fail("a revoked grant was used")
    assert caught.value.problem is CalendlyProblem.CREDENTIAL
    assert f"slotwire connections link --organization {setup.org()}" in caught.value.remedy
    with pytest.raises(RequestRefused, match="cannot act") as unable:
        await setup.connections.for_organization(setup.org())
    assert f"slotwire connections link --organization {setup.org()}" in unable.value.remedy
    assert "--token-file" not in unable.value.remedy
    other = await connected(setup, place=1)
    await setup.simulate("oauth", revoke_user=other.user_uri)
    setup.clock.advance(HALF)
    assert await refresher(setup).run_once() == Counter({RefreshOutcome.REVOKED: 1})
    events = await told(setup, "revoked")
    data = [ConnectionRevoked.model_validate_json(event["data"]) for event in events]
    assert [(each.user, each.state, each.kind) for each in data] == [
        (made.user_uri, "revoked", "oauth"),
        (other.user_uri, "revoked", "oauth"),
    ]
    link = data[0].reconnect_url
    assert link is not None
    assert (await setup.consent(link, setup.user())).status_code == 200
    assert (await setup.connections.get(made.id)).state == "active"
    assert len(await told(setup, "restored")) == 1


async def test_a_lost_answer_without_effect_costs_nothing(setup: OAuthSetup) -> None:
    """Calendly says that the old token still works: the next attempt refreshes."""
    made = await connected(setup)
    setup.clock.advance(HALF)
    await setup.simulate("faults", token_error_rate=1)
    assert await refresher(setup).run_once() == Counter({RefreshOutcome.UNKNOWN: 1})
    assert (await setup.connections.get(made.id)).state == "active"
    await setup.simulate("faults", token_error_rate=0)
    assert await refresher(setup).run_once() == Counter({RefreshOutcome.BUSY: 1})
    setup.clock.advance(DEADLINE)
    assert await refresher(setup).run_once() == Counter({RefreshOutcome.REFRESHED: 1})


async def test_a_connection_that_is_not_refreshed_is_expiring(setup: OAuthSetup) -> None:
    """Half an hour before its token ends it is shown with one event, whoever uses it; and restored by the next pair."""
    made = await connected(setup)
    setup.clock.advance(HALF)
    await setup.simulate("faults", token_error_rate=1)
    assert await refresher(setup).run_once() == Counter({RefreshOutcome.UNKNOWN: 1})
    assert (await setup.connections.get(made.id)).state == "active", "there is time"
    setup.clock.advance(timedelta(minutes=30))
    for _ in range(2):
        assert await refresher(setup).run_once() == Counter({RefreshOutcome.UNKNOWN: 1})
        setup.clock.advance(DEADLINE)
    found = await setup.connections.check(made.id)
    assert (found.state, found.reason) == ("expiring", "refresh_fails"), "an answer to the last token mends nothing"
    async with setup.api.actions.pool.acquire() as connection:
        finding = await doctor_connections(connection, setup.settings)
    assert (finding.state, "1 by OAuth not refreshed" in finding.message) == ("warning", True)
    assert finding.remedy == "docs/runbooks/calendly-away.md says why refreshes fail."
    await Observer(setup.api.actions.pool, setup.clock, setup.settings.metrics).run_once()
    assert made.access_expires_at is not None
    shown = REGISTRY.get_sample_value("slotwire_token_expiry_timestamp_seconds")
    assert shown == pytest.approx(made.access_expires_at.timestamp())
    [event] = await told(setup, "expiring")
    assert ConnectionExpiring.model_validate_json(event["data"]).expires_at == made.access_expires_at
    await setup.simulate("faults", token_error_rate=0)
    assert await refresher(setup).run_once() == Counter({RefreshOutcome.REFRESHED: 1})
    assert (await setup.connections.get(made.id)).status == ConnectionStatus("active")
    kinds = [len(await told(setup, kind)) for kind in ("expiring", "restored", "revoked")]
    assert kinds == [1, 1, 0]


async def test_a_lost_answer_with_effect_needs_the_customer(setup: OAuthSetup) -> None:
    """The grant is lost, and said so once with a fresh link; the hook stays, and is served when they connect again."""
    await setup.connect()
    [row] = await setup.rows("SELECT id FROM slotwire.connections")
    setup.clock.advance(HALF)
    await setup.simulate("faults", token_lost_answer_rate=1)
    assert await refresher(setup).run_once() == Counter({RefreshOutcome.LOST: 1})
    found = await setup.connections.get(row["id"])
    assert (found.state, found.reason) == ("needs_reauth", "grant_lost")
    await setup.simulate("faults", token_lost_answer_rate=0)
    assert await refresher(setup).run_once() == Counter()
    assert (await setup.connections.check(found.id)).state == "needs_reauth", "its last token does not bring it back"
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1
    [event] = await told(setup, "revoked")
    data = ConnectionRevoked.model_validate_json(event["data"])
    assert (data.state, data.reason) == ("needs_reauth", "grant_lost")
    assert data.reconnect_url is not None
    assert (await setup.consent(data.reconnect_url, setup.user())).status_code == 200
    assert (await setup.connections.get(row["id"])).state == "active"
    assert len(setup.calendly.engine.ledger.subscriptions()) == 1
    assert len(await told(setup, "restored")) == 1


async def test_too_many_tokens_are_asked_for_later(setup: OAuthSetup) -> None:
    """A 429 spends nothing: a later round refreshes."""
    made = await connected(setup)
    setup.clock.advance(timedelta(hours=1) - timedelta(seconds=1))
    assert {(await connected(setup)).id for _ in range(TOKEN_RATE)} == {made.id}
    setup.clock.advance(timedelta(hours=1) - timedelta(seconds=1))
    for _ in range(TOKEN_RATE - 1):
        await connected(setup)
    setup.clock.advance(timedelta(seconds=1))
    await setup.rows("UPDATE slotwire.connections SET refresh_at = $1 RETURNING id", setup.clock.now())
    assert await refresher(setup).refresh(made.id) is RefreshOutcome.REFRESHED
    await setup.rows("UPDATE slotwire.connections SET refresh_at = $1 RETURNING id", setup.clock.now())
    assert await refresher(setup).refresh(made.id) is RefreshOutcome.LATER
    setup.clock.advance(timedelta(minutes=1))
    assert await refresher(setup).refresh(made.id) is RefreshOutcome.REFRESHED


@dataclass(frozen=True, slots=True)
class HeldStore(ConnectionStore):
    """A store whose pair waits before it is written, as if Postgres were away."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def replace(self, connection_id: UUID, credential_id: UUID, credential: Credential) -> bool:
        """Wait, then write."""
        self.asked.set()
        await self.go.wait()
        return await ConnectionStore.replace(self, connection_id, credential_id, credential)


@dataclass(frozen=True, slots=True)
class DyingStore(ConnectionStore):
    """A store in a process that ends, now and then, between Calendly's answer and the commit."""

    dice: random.Random = field(default_factory=random.Random)
    rate: float = 0.0
    stored: Counter[UUID] = field(default_factory=Counter)

    async def replace(self, connection_id: UUID, credential_id: UUID, credential: Credential) -> bool:
        """Write, or die before."""
        if self.dice.random() < self.rate:
            raise asyncio.CancelledError
        kept = await ConnectionStore.replace(self, connection_id, credential_id, credential)
        self.stored[connection_id] += kept
        return kept


def with_store(found: Refresher, kind: Callable[..., ConnectionStore], name: str, **more: Any) -> Refresher:
    """Return a refresher of another process with another store."""
    kept = {each.name: getattr(found.store, each.name) for each in fields(ConnectionStore)}
    store = kind(**{**kept, **more})
    return Refresher(store.pool, store, found.client, owner=name)


async def test_the_pair_in_memory_beats_what_was_recorded_meanwhile(setup: OAuthSetup) -> None:
    """The owner comes back after another process gave the grant up: the pair is stored, and the state restored."""
    made = await connected(setup)
    setup.clock.advance(HALF)
    owner = with_store(refresher(setup), HeldStore, "owner")
    assert isinstance(owner.store, HeldStore)
    keeping = asyncio.create_task(owner.refresh(made.id))
    await owner.store.asked.wait()
    setup.clock.advance(DEADLINE)
    assert await refresher(setup).refresh(made.id) is RefreshOutcome.LOST
    assert (await setup.connections.get(made.id)).reason == "grant_lost"
    owner.store.go.set()
    assert await keeping is RefreshOutcome.REFRESHED
    assert (await setup.connections.get(made.id)).state == "active"
    async with setup.connections.acting(made) as calendly:
        await users.me(calendly)
    assert [len(await told(setup, kind)) for kind in ("revoked", "restored")] == [1, 1]


async def test_a_caller_that_gives_up_does_not_end_a_refresh(setup: OAuthSetup) -> None:
    """Cancelled while the pair waits to be stored, the refresh goes on, and the pair is stored."""
    made = await connected(setup)
    setup.clock.advance(HALF)
    owner = with_store(refresher(setup), HeldStore, "owner")
    assert isinstance(owner.store, HeldStore)
    caller = asyncio.create_task(owner.refresh(made.id))
    await owner.store.asked.wait()
    caller.cancel()
    await asyncio.wait([caller])
    [task] = owner.running
    owner.store.go.set()
    assert await task is RefreshOutcome.REFRESHED
    assert (await setup.connections.get(made.id)).credential_id != made.credential_id


@dataclass(frozen=True)
class Week:
    """How long, how many, and how often something goes wrong: rates of each request."""

    connections: int
    hours: int
    seed: int
    unanswered: float
    lost: float
    killed: float
    revoked_every: int


@pytest.mark.parametrize(
    "week",
    [
        Week(6, 12, 5, 0.2, 0.02, 0.01, 6),
        pytest.param(Week(50, 168, 7, 0.02, 0.002, 0.001, 24), marks=pytest.mark.soak),
    ],
    ids=["short", "week"],
)
async def test_two_replicas_refresh_for_a_while(database: Database, week: Week) -> None:
    """Revocations, lost answers and kills: one refresh each time, and only what was lost after its effect is lost."""
    dice = random.Random(week.seed)  # noqa: S311 - seeded faults, not a secret
    async with (
        oauth_setup(database, organizations=-(-week.connections // 2), with_writer=False, endpoint=False) as setup,
        AsyncExitStack() as stack,
    ):
        made = [await connected(setup, number % 2, number // 2) for number in range(week.connections)]
        mine = with_role(setup.settings, "control")
        replicas, stored = [], Counter[UUID]()
        for name in ("one", "two"):
            pool = await stack.enter_async_context(
                create_pool(mine.database_url.get_secret_value(), mine.database, application=name)
            )
            more = {"dice": dice, "rate": week.killed, "stored": stored, "pool": pool}
            replicas.append(with_store(refresher(setup), DyingStore, name, **more))

        async def go_round() -> None:
            await asyncio.gather(*(replica.run_once() for replica in replicas), return_exceptions=True)
            while running := [task for replica in replicas for task in replica.running]:
                await asyncio.wait(running)

        revoked: set[str] = set()
        for hour in range(week.hours):
            setup.clock.advance(HALF)
            await setup.simulate("faults", token_error_rate=week.unanswered, token_lost_answer_rate=week.lost)
            if hour % week.revoked_every == week.revoked_every - 1:
                revoked.add(gone := dice.choice(made).user_uri)
                await setup.simulate("oauth", revoke_user=gone)
            await go_round()
        await setup.simulate("faults", token_error_rate=0, token_lost_answer_rate=0)
        for wait in (HALF, DEADLINE):
            setup.clock.advance(wait)
            await go_round()
        records = await read_page(setup.api.actions.pool, None, after=None, limit=1000)
        at_calendly = await refreshed(setup)
        states = Counter(f"{record.state} {record.reason or ''}".strip() for record in records)
        sys.stderr.write(f"seed {week.seed}: {dict(states)}, refreshed {sum(at_calendly.values())}\n")
        for record in records:
            token = refresher(setup)._open(await read_stored(setup.api.actions.pool, record.id, None))
            works = await setup.flow.client.introspect(token, user="u", by=Bearer())
            assert works == (record.state == "active"), "what works is kept; what is given up is spent or revoked"
            assert record.state in {"active", "revoked"} or record.reason == "grant_lost"
            assert record.state != "revoked" or record.user_uri in revoked
            surplus = at_calendly.get(record.user_uri, 0) - stored[record.id]
            assert surplus == 0 or (surplus == 1 and record.reason == "grant_lost"), "one refresh each time"
        assert not {record.user_uri for record in records if record.state == "active"} & revoked
        assert states["active"]
        ended = [ConnectionRevoked.model_validate_json(event["data"]) for event in await told(setup, "revoked")]
        assert Counter(each.connection_id for each in ended) == Counter(
            record.id for record in records if record.state != "active"
        )
