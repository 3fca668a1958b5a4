"""Every call to Calendly takes a turn of its user's budget, whatever credential it is made with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slotwire.ingest.control.calendly_client import organization_memberships, users
from slotwire.ingest.control.calendly_client.budget import AWAY_CALLS, Budgets
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.exposition import REGISTRY
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import CalendlySettings, DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.doctor_organizations import rate_limits
from slotwire.ingest.simulator.rates import RateRules, WindowKind
from tests.support.children import free_port
from tests.support.connections_setup import NOW, ConnectionsSetup, connections_setup
from tests.support.rate_simulation import USER, rate_simulation
from tests.support.simulated_calendly import AMPLE


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ConnectionsSetup]:
    """A simulated Calendly with two organizations."""
    async with connections_setup(database) as found:
        yield found


def turns() -> float:
    """Return how many turns were taken by this process."""
    [family] = [each for each in REGISTRY.collect() if each.name == "slotwire_calendly_turn_seconds"]
    return sum(sample.value for sample in family.samples if sample.name.endswith("_count"))


async def test_every_call_takes_a_turn(setup: ConnectionsSetup) -> None:
    """One user with two credentials has one budget, another user another one; the limit is what Calendly said.

    The one call that asks whose a token is cannot be counted.
    """
    before = turns()
    first, other = await setup.connections.add(setup.token(0)), await setup.connections.add(setup.token(1))
    assert turns() - before == len(await setup.calls()) - 2
    await setup.connections.add(await setup.issue(0))  # the same user, with a new credential
    for made in (first, other):
        again = await setup.connections.get(made.connection.id)
        async with setup.connections.acting(again, priority=Priority.SWEEP) as calendly:
            await organization_memberships.find(calendly, organization=again.organization, user=again.user_uri)
    assert turns() - before == len(await setup.calls()) - 3
    rows = await setup.rows("SELECT user_uri, calls_limit FROM slotwire.rate_budgets")
    limit = setup.running.gate.rate_limit
    assert {row["user_uri"]: row["calls_limit"] for row in rows} == {
        made.connection.user_uri: limit for made in (first, other)
    }


async def test_metrics_name_no_user(setup: ConnectionsSetup) -> None:
    """Waits by priority and the share that is left are shown, and nobody's URI."""
    made = await setup.connections.add(setup.token(0))
    async with setup.connections.acting(made.connection, priority=Priority.REPAIR) as calendly:
        await users.me(calendly)
    families = {family.name: family for family in REGISTRY.collect() if family.name.startswith("slotwire_calendly")}
    waits = families["slotwire_calendly_turn_seconds"].samples
    assert {sample.labels["priority"] for sample in waits} <= {"person", "repair", "sweep"}
    assert any(sample.labels == {"priority": "repair"} and sample.value for sample in waits)
    assert any(sample.value for sample in families["slotwire_calendly_calls_left"].samples)
    labels = [value for family in families.values() for sample in family.samples for value in sample.labels.values()]
    assert not [value for value in labels if "users" in value]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("others = calls_limit / 2", None),
        ("others = calls_limit / 2 + 1", "others spend 30001 of 60000 a minute"),
        ("blocked_until = at + 40", "refused for 40 s more of 60000 a minute"),
        ("others = calls_limit, at = at - 660", None),
    ],
    ids=["half", "more", "refused", "long_ago"],
)
async def test_the_doctor_names_who_has_few_calls(setup: ConnectionsSetup, change: str, said: str | None) -> None:
    """A connection is named where others spend more than half of its user's calls, or Calendly refuses them."""
    made = await setup.connections.add(setup.token(0))
    # What Calendly says with the first call is told with the next lease; on a busy machine one lease was enough.
    await setup.tamper("UPDATE slotwire.rate_budgets SET calls_limit = $1", AMPLE)
    await setup.tamper(f"UPDATE slotwire.rate_budgets SET {change}")
    async with setup.pool.acquire() as connection:
        found = await rate_limits(connection, setup.clock)
    assert found.state == ("ok" if said is None else "warning")
    assert said is None or f"1 connections have few calls to Calendly: {made.connection.id} ({said})" == found.message


async def test_without_postgres_a_few_calls_of_people_pass(database: Database) -> None:
    """At the limit people's calls pass, one more is refused; a sweep fails at once, and says why."""
    host = database.runtime_url.rsplit("@", 1)[1].split("/")[0]
    nowhere = database.runtime_url.replace(host, f"127.0.0.1:{free_port()}")
    async with create_pool(nowhere, DatabaseSettings(connect_timeout_seconds=0.5), application="test") as pool:
        budgets = Budgets(pool, ManualClock(NOW), CalendlySettings())
        person, sweep = (budgets.caller(USER, each) for each in (Priority.PERSON, Priority.SWEEP))
        for _ in range(AWAY_CALLS):
            await person.turn("reading")
        for caller in (person, sweep):
            with pytest.raises(DatabaseUnavailable, match="reading: Postgres is away, and without it calls"):
                await caller.turn("reading")
        await budgets.aclose()


async def test_who_stops_waiting_leaves_the_turn_to_others(database: Database) -> None:
    """A cancelled call takes no turn, and the calls behind it go on."""
    async with (
        create_pool(database.runtime_url, DatabaseSettings(), application="test") as pool,
        rate_simulation(pool, limit=50) as simulation,
    ):
        caller = simulation.process().caller(USER, Priority.SWEEP)
        calls = [asyncio.create_task(caller.turn("reading")) for _ in range(4)]
        await simulation.run(0.5)
        calls[1].cancel()
        await simulation.run(2.6)
        assert all(call.done() for call in calls)
        assert calls[1].cancelled()


@dataclass(frozen=True)
class Work:
    """What one process does: how far its clock is ahead, how urgently it calls, when, and how often."""

    skew: float
    priority: Priority
    at_once: int
    start: float
    pause: float


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(10, 90),
    window=st.sampled_from(get_args(WindowKind)),
    latency=st.floats(0.01, 0.9),
    work=st.lists(
        st.builds(
            Work, st.floats(-30, 30), st.sampled_from(Priority), st.integers(1, 8), st.floats(0, 60), st.floats(0, 3)
        ),
        min_size=1,
        max_size=4,
    ),
    stop=st.floats(20, 70),
)
async def test_no_minute_has_too_many_calls(
    database: Database, limit: int, window: WindowKind, latency: float, work: list[Work], stop: float
) -> None:
    """Whoever calls when, with whatever clock, ending in the middle and starting again: none is refused."""
    async with create_pool(database.runtime_url, DatabaseSettings(), application="test") as pool:
        await pool.execute("SELECT slotwire.prune_budgets('infinity')")
        async with rate_simulation(pool, limit=limit, latency=latency, rules=RateRules(window)) as simulation:
            for number, each in enumerate(sorted(work, key=lambda each: each.start)):
                await simulation.run(each.start)
                process = simulation.process(each.skew)
                simulation.busy(process, each.priority, str(number), at_once=each.at_once, pause=each.pause)
            await simulation.run(60 + stop)
            await simulation.stop()
            for number, each in enumerate(work):
                simulation.busy(simulation.process(-each.skew), each.priority, f"again-{number}", at_once=each.at_once)
            await simulation.run(190)
            assert simulation.limited() == 0
            times = [call.at for call in simulation.made]
            assert all(later - earlier >= 60 for earlier, later in zip(times, times[limit:], strict=False))
