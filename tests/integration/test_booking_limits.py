"""The limits of bookings by the API: by plan, known beforehand, shared by all processes, apart from other calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from slotwire.ingest.control.calendly_client.booking_limits import DAY, HOUR, LIMITS, MINUTE, plan_of
from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.calendly_client.uses import Bearer
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from tests.support.connections_setup import NOW, ConnectionsSetup, connections_setup
from tests.support.rate_simulation import USER, rate_simulation


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ConnectionsSetup]:
    """Two organizations at a simulator, known here and not connected."""
    async with connections_setup(database) as made:
        yield made


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """The database, as `slotwire control` has it."""
    limits = DatabaseSettings(pool_size=4)
    async with create_pool(database.url_of["control"], limits, application="test") as found:
        yield found


async def tried(budgets: Budgets, user: str = USER) -> float:
    """Take a turn to book; return 0, or the seconds to wait."""
    caller = budgets.caller(user, Priority.PERSON, by=Bearer())
    await caller.turn("booking")
    try:
        await caller.booking_turn("booking")
    except CalendlyError as error:
        if (error.problem, error.status) == (CalendlyProblem.LIMITED, None):  # nothing was sent
            return error.wait or 0.0
        raise
    return 0.0


async def test_no_window_has_more_bookings_than_the_plan_allows(pool: Pool) -> None:
    """Two processes, clocks a minute apart, try all day: within each minute, hour and day, and all are used."""
    async with rate_simulation(pool) as simulation:
        processes = [simulation.process(skew) for skew in (-30.0, 30.0)]
        booked: list[float] = []

        async def trying(budgets: Budgets) -> None:
            while True:
                wait = await tried(budgets)
                if wait == 0:
                    booked.append(simulation.time.seconds)
                await simulation.time.sleep(max(wait, 1.0))

        for each in processes:
            simulation.start(lambda each=each: trying(each))  # type: ignore[misc]  # bound early
        await simulation.run(DAY + HOUR)
    for limit, seconds in LIMITS["paid"]:
        most = max(sum(1 for at in booked if start <= at < start + seconds) for start in booked)
        assert most == limit, (limit, seconds)


async def test_the_plan_decides_and_a_restart_forgets_nothing(setup: ConnectionsSetup) -> None:
    """Five a day on Free, once it was asked; a new process goes on where the last one ended; other calls go on."""
    owner = (await setup.connections.add(setup.token())).connection
    told = "INSERT INTO slotwire.connection_capabilities VALUES ($1, $2, 'basic', 'free', '[]')"
    await setup.pool.execute(told, owner.id, NOW)  # as `capabilities.probe` keeps it
    budgets = setup.calendly.budgets
    assert [await tried(budgets, owner.user_uri) for _ in range(5)] == [0.0] * 5
    other = Budgets(setup.pool, setup.clock, setup.settings.calendly)
    assert DAY - HOUR < await tried(other, owner.user_uri) <= DAY + MINUTE
    await other.aclose()
    async with setup.connections.acting(owner) as calendly:
        with pytest.raises(CalendlyError, match=r"lets this user book 5 in a day by its API \(free\)"):
            await calendly.exchange("POST", "/invitees", doing="booking", body={"event_type": "E"})
        await calendly.exchange("GET", "/users/me", doing="reading")
    assert "/invitees" not in await setup.calls()


async def test_a_refused_booking_holds_back_bookings_only(pool: Pool) -> None:
    """A 429 to a booking blocks bookings for as long as it says; the user's other calls have their turns."""
    async with rate_simulation(pool) as simulation:
        budgets = simulation.process()
        first = asyncio.create_task(tried(budgets))
        await simulation.run(1)
        assert first.result() == 0.0
        caller = budgets.caller(USER, Priority.PERSON)
        await caller.booking_heard(429, {"retry-after": "40", "x-ratelimit-limit": "10", "x-ratelimit-remaining": "0"})
        again = asyncio.create_task(tried(budgets))
        await simulation.run(2)
        assert 38 < again.result() <= 40, "it had a turn of the other calls, and none to book"


@pytest.mark.parametrize(
    ("plan", "stage", "limits"),
    [
        ("Enterprise", "paid", "enterprise"),
        ("standard", "trial", "trial"),
        ("basic", "free", "free"),
        ("free", None, "free"),
        ("teams", "paid", "paid"),
        (None, None, "paid"),
    ],
)
def test_which_limits_hold(plan: str | None, stage: str | None, limits: str) -> None:
    """What Calendly says of an organization decides which limits hold; a plan that is not known is taken for paid."""
    assert plan_of(plan, stage) == limits
    assert {window for _, window in LIMITS[limits]} <= {MINUTE, HOUR, DAY}
