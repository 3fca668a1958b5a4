"""One process reconciles very many organizations within Calendly's limits."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from slotwire.ingest.control import rounds
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.control.round_schedule import SHARE, pause_after
from slotwire.ingest.control.rounds import RoundOutcome
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.process import operating
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from tests.support.many_organizations import write_organizations
from tests.support.public_endpoint import settings_for

FIRST, STEADY = 4, 2
"""Calls for an organization: whose the token is, what is there, the creation, and what is there then; the first two."""


def calls(running: Simulator) -> Counter[str | None]:
    """Count the calls of each user so far, and look at each answer."""
    made = running.gate.calls.listing(0, 1_000_000, lambda _: True)
    assert {call.status for call in made} <= {200, 201}
    return Counter(call.user for call in made)


@pytest.mark.parametrize("organizations", [20, pytest.param(1_000, marks=pytest.mark.soak)])
async def test_every_organization_is_subscribed_and_watched(database: Database, organizations: int) -> None:
    """All are subscribed by one round with few calls each; then watching one takes 2 % of its user's limit at most."""
    async with simulator(Options(seed="many", organizations=organizations)) as running:
        settings = settings_for(database).model_copy(
            update={"public_url": "http://127.0.0.1:9", "calendly": CalendlySettings(api_url=running.url)}
        )
        clock = SystemClock()
        await write_organizations(settings, database, running.world, clock.now())
        async with operating(settings, clock, application="test") as actions:
            all_of_them = Organizations.from_settings(
                settings, actions.pool, clock, actions.calendly, changing=actions.organizations.of_rounds
            )
            outcomes = await rounds.run_once(all_of_them)
            first = calls(running)
            again = await rounds.run_once(all_of_them)
            steady = calls(running) - first
            learned = await actions.pool.fetchval("SELECT count(*) FROM slotwire.rate_budgets WHERE calls_limit = 500")
        assert Counter(outcomes.values()) == {RoundOutcome.CHANGED: organizations}
        assert Counter(again.values()) == {RoundOutcome.UNCHANGED: organizations}
        assert set(first.values()) == {FIRST}
        assert set(steady.values()) == {STEADY}
        assert learned == organizations
        assert running.gate.calls.foreign_count == 0
        interval = timedelta(seconds=settings.subscriptions.interval_seconds)
        for limit in (500, 50):
            pause = pause_after(STEADY, limit=limit, interval=interval, silent=False)
            assert STEADY * 60 / pause.total_seconds() <= SHARE * limit
