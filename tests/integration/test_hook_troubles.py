"""Answers other than 2xx to valid hooks, and times without any `serve` that has Postgres, become holes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.local.databases import Database
from slotwire.ingest.receive import hook_troubles
from slotwire.ingest.receive.hook_troubles import LONGEST, SKEW, TELL_SECONDS, HookTroubles
from slotwire.schemas.ids import last_segment
from tests.support.public_endpoint import (
    SIGNATURE,
    Hook,
    invitee_body,
    make_hook,
    running_endpoint,
    settings_for,
    sign,
    with_role,
)

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
TICK = timedelta(seconds=TELL_SECONDS)


@dataclass
class Setup:
    """Two subscribed organizations, and what a `serve` keeps."""

    settings: Settings
    owner: asyncpg.Connection[asyncpg.Record]
    hooks: tuple[Hook, Hook]
    troubles: HookTroubles
    clock: ManualClock

    async def holes(self) -> dict[tuple[str, str], tuple[datetime, datetime]]:
        """Return the holes by organization and cause: since when, and when they were last noticed."""
        rows = await self.owner.fetch("SELECT org, cause, since, last_noticed_at FROM slotwire.holes")
        return {(row["org"], row["cause"]): (row["since"], row["last_noticed_at"]) for row in rows}


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[Setup]:
    """Two organizations, and no hole."""
    settings = with_role(settings_for(database), "serve")
    first, second = await make_hook(settings, database), await make_hook(settings, database)
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("UPDATE slotwire.subscriptions SET created_at = $1", NOW - timedelta(days=9))
    clock, addresses = ManualClock(NOW), HookAddresses.from_settings(settings)
    dsn = settings.database_url.get_secret_value()
    async with create_pool(dsn, settings.database, application="test") as pool:
        yield Setup(settings, owner, (first, second), HookTroubles(pool, addresses, clock), clock)
    await owner.close()


def org_of(hook: Hook) -> str:
    """Return the organization of a hook."""
    return last_segment(hook.organization)


def name_of(hook: Hook) -> str:
    """Return the hook as it stands in an address."""
    return last_segment(hook.path)


async def test_a_hook_that_was_refused_has_a_hole(setup: Setup) -> None:
    """From the first refusal, less what clocks may differ by; another organization has none, and neither has nobody."""
    hook, _ = setup.hooks
    setup.troubles.note(name_of(hook))
    setup.clock.advance(TICK)
    setup.troubles.note(name_of(hook))
    setup.troubles.note("forged")
    assert await setup.troubles.tell() == 1
    assert await setup.holes() == {(org_of(hook), "refused"): (NOW - SKEW, NOW + TICK)}
    assert await setup.troubles.tell() == 0


async def test_what_cannot_be_told_is_kept(setup: Setup) -> None:
    """While Postgres refuses, first and last time stay in memory; then they are told once."""
    hook, _ = setup.hooks
    setup.troubles.note(name_of(hook))
    await setup.owner.execute("REVOKE EXECUTE ON FUNCTION slotwire.note_serving FROM slotwire_serve")
    with pytest.raises(DatabaseUnavailable):
        await setup.troubles.tell()
    setup.clock.advance(TICK)
    setup.troubles.note(name_of(hook))
    await setup.troubles.tell_or_log()
    assert await setup.holes() == {}
    await setup.owner.execute("GRANT EXECUTE ON FUNCTION slotwire.note_serving TO slotwire_serve")
    assert await setup.troubles.tell() == 1
    assert await setup.holes() == {(org_of(hook), "refused"): (NOW - SKEW, NOW + TICK)}


async def test_a_time_without_any_serve_is_everybodys_hole(setup: Setup) -> None:
    """Nobody said for longer than half a minute that it has Postgres: each subscribed organization may have missed."""
    await setup.owner.execute(
        "INSERT INTO slotwire.organizations VALUES ('UNSUBSCRIBED', 'https://x/U', NULL, 0, $1)", NOW
    )
    assert await setup.troubles.tell() == 0
    setup.clock.advance(LONGEST)
    assert await setup.troubles.tell() == 0
    setup.clock.advance(LONGEST + timedelta(seconds=1))
    assert await setup.troubles.tell() == 2
    since = NOW + LONGEST - SKEW
    assert await setup.holes() == {(org_of(hook), "no_database"): (since, setup.clock.now()) for hook in setup.hooks}
    assert await setup.troubles.tell() == 0


async def test_one_serve_that_has_postgres_is_enough(setup: Setup) -> None:
    """While one process says that it has Postgres, another one's silence is no hole of everybody's."""
    other = HookTroubles(setup.troubles._pool, setup.troubles._addresses, setup.clock)
    for _ in range(20):
        assert await setup.troubles.tell() == 0
        setup.clock.advance(TICK)
    assert await other.tell() == 0


async def test_an_organization_that_was_made_meanwhile_missed_nothing(setup: Setup) -> None:
    """Who was not subscribed yet has no hole, nor has who was removed."""
    first, second = setup.hooks
    await setup.troubles.tell()
    setup.clock.advance(timedelta(hours=1))
    await setup.owner.execute(
        "UPDATE slotwire.subscriptions SET created_at = $2 WHERE org = $1", org_of(first), setup.clock.now()
    )
    await setup.owner.execute("UPDATE slotwire.organizations SET ended_at = $2 WHERE org = $1", org_of(second), NOW)
    assert await setup.troubles.tell() == 0


async def test_memory_is_bounded(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit the hooks that are known still grow, and others are left to the time without Postgres."""
    monkeypatch.setattr(hook_troubles, "MAX_HOOKS", 1)
    first, second = setup.hooks
    setup.troubles.note(name_of(first))
    setup.troubles.note(name_of(second))
    setup.clock.advance(TICK)
    setup.troubles.note(name_of(first))
    assert await setup.troubles.tell() == 1
    assert await setup.holes() == {(org_of(first), "refused"): (NOW - SKEW, NOW + TICK)}


async def test_an_endpoint_tells_what_it_refused_before_it_ends(database: Database) -> None:
    """A 503 and a 413 are holes of their hooks; a 200 and a bad signature are none."""
    settings = with_role(settings_for(database, max_body_bytes=100_000), "serve")
    large, lying, fine = [await make_hook(settings, database) for _ in range(3)]
    async with running_endpoint(settings) as endpoint:
        assert (await endpoint.deliver(large, invitee_body(extra="x" * 100_000))).status_code == 413
        body = invitee_body()
        wrong = await endpoint.deliver(lying, body, headers={SIGNATURE: sign(body, "another key")})
        assert wrong.status_code == 401
        assert (await endpoint.deliver(fine, body)).status_code == 200
    owner = await asyncpg.connect(database.owner_url)
    rows = await owner.fetch("SELECT org, cause, subscription_id FROM slotwire.holes")
    await owner.close()
    assert [tuple(row) for row in rows] == [(org_of(large), "refused", large.subscription_id)]
