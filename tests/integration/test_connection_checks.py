"""The chore that asks about each credential now and then, against the simulator and a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from slotwire.ingest.control.connection_checks import PAGE, STATES, CheckRoundResult, run, run_once
from slotwire.ingest.control.observation import Observer
from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.settings import ConnectionsSettings, MetricsSettings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from tests.support.connections_setup import NOW, ConnectionsSetup, connections_setup

HOUR = timedelta(hours=1)
HOURLY = ConnectionsSettings(check_interval_seconds=HOUR.total_seconds())


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ConnectionsSetup]:
    """Two organizations at a simulator, known here and not connected."""
    async with connections_setup(database) as made:
        yield made


async def counted(setup: ConnectionsSetup, *states: str) -> list[float | None]:
    """Read what the metrics say of these states."""
    observation = Observer(setup.pool, setup.clock, MetricsSettings())
    assert await observation.run_once()
    await observation._leave()
    return [REGISTRY.get_sample_value("slotwire_connections", {"state": state}) for state in states]


async def test_a_revocation_is_noticed_without_traffic(setup: ConnectionsSetup) -> None:
    """A revoked token is found by the first round after the interval, not before it; told once, and not asked again."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    await setup.connections.add(setup.token(number=1))
    await setup.revoke(token)
    setup.clock.advance(HOUR - timedelta(seconds=1))
    assert await run_once(setup.connections, HOURLY) == CheckRoundResult(0, 0)
    assert await counted(setup, "active", "revoked") == [2, 0]
    setup.clock.advance(timedelta(seconds=1))
    assert await run_once(setup.connections, HOURLY) == CheckRoundResult(2, 0)
    assert (await setup.connections.get(made.id)).state == "revoked"
    assert await counted(setup, *STATES) == [1, 0, 0, 1, 0]
    assert len(await setup.revoked_events()) == 1
    setup.clock.advance(HOUR)
    assert await run_once(setup.connections, HOURLY) == CheckRoundResult(1, 0)


async def test_what_was_used_lately_is_left_alone(setup: ConnectionsSetup) -> None:
    """A connection that acted within the interval is not asked about."""
    made = (await setup.connections.add(setup.token())).connection
    setup.clock.advance(HOUR)
    async with setup.connections.acting(made):
        assert await run_once(setup.connections, HOURLY) == CheckRoundResult(0, 0)


async def test_one_that_fails_stops_no_other(setup: ConnectionsSetup) -> None:
    """While one cannot be asked about, the others are; it is asked about again by the next round."""
    broken = (await setup.connections.add(setup.token())).connection
    fine = (await setup.connections.add(setup.token(number=1))).connection
    await setup.tamper("UPDATE slotwire.connections SET sealed = 'x' WHERE id = $1", broken.id)
    setup.clock.advance(HOUR)
    assert await run_once(setup.connections, HOURLY) == CheckRoundResult(2, 0)
    assert (await setup.connections.get(broken.id)).state == "error"
    assert (await setup.connections.get(fine.id)).checked_at == NOW + HOUR
    assert await run_once(setup.connections, HOURLY) == CheckRoundResult(1, 0)
    await setup.simulate("faults", rest_error_rate=1.0)
    setup.clock.advance(HOUR)
    assert await run_once(setup.connections, HOURLY) == CheckRoundResult(2, 1)
    await setup.simulate("faults", rest_error_rate=0.0)
    assert await run_once(setup.connections, HOURLY) == CheckRoundResult(2, 0)
    assert (await setup.connections.get(fine.id)).checked_at == NOW + 2 * HOUR


@pytest.mark.parametrize("count", [PAGE, PAGE + 1])
async def test_all_pages_are_asked_about(setup: ConnectionsSetup, count: int) -> None:
    """Each connection is asked about once a round, at a page's end and one past it."""
    made = (await setup.connections.add(setup.token())).connection
    await setup.tamper(
        "INSERT INTO slotwire.connections (id, org, kind, user_uri, credential_id, sealed, state, checked_at,"
        " created_at, changed_at) SELECT gen_random_uuid(), $1, 'personal_access_token', 'u' || n, gen_random_uuid(),"
        " 'x', 'active', $2, $2, $2 FROM generate_series(2, $3) AS n",
        made.org,
        NOW,
        count,
    )
    setup.clock.advance(HOUR)
    assert await run_once(setup.connections, HOURLY) == CheckRoundResult(count, 0)
    assert await counted(setup, "active", "error") == [1, count - 1]


@dataclass
class Rounds:
    """A clock that fails the first rounds, and tells when one was begun after them."""

    behind: ManualClock
    failing: int
    gone_on: asyncio.Event = field(default_factory=asyncio.Event)

    def now(self) -> datetime:
        """Tell the time, once the failing rounds are over."""
        if self.failing:
            self.failing -= 1
            raise DatabaseUnavailable("gone for a moment", reason="test")
        self.gone_on.set()
        return self.behind.now()


async def test_a_round_that_fails_does_not_end_the_chore(setup: ConnectionsSetup) -> None:
    """After a round that failed as a whole comes another one."""
    often = HOURLY.model_copy(update={"check_interval_seconds": 0.04})
    clock = Rounds(setup.clock, failing=2)
    chore = asyncio.create_task(run(replace(setup.connections, clock=clock), often))
    async with asyncio.timeout(60):
        await clock.gone_on.wait()
    assert not chore.done()
    chore.cancel()
    with suppress(asyncio.CancelledError):
        await chore
