"""Many processes share a user's calls to Calendly: within the limit, nothing left over, urgent ones first, fairly."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from slotwire.ingest.control import idle_budgets
from slotwire.ingest.control.calendly_client.leases import (
    MAX_LEASE_CALLS,
    MAX_LEASE_SECONDS,
    TOKEN_LIMIT,
    CallKind,
    Priority,
)
from slotwire.ingest.control.calendly_client.user_budget import PATIENCE_SECONDS
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.rates import RateRules, WindowKind
from tests.support.rate_simulation import START, USER, RateSimulation, rate_simulation

PROCESSES = 10
SKEWS = [-30 + 60 * number / (PROCESSES - 1) for number in range(PROCESSES)]
LEARNED = 5.0
"""Seconds after which a simulation counts as begun: by then the limit is known."""
STEP = {500: 62 / 500, 50: 62 / 50}


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """The database, as `slotwire control` has it."""
    limits = DatabaseSettings(pool_size=PROCESSES)
    async with create_pool(database.url_of["control"], limits, application="test") as found:
        yield found


def used(simulation: RateSimulation, seconds: float, *, others: int = 0) -> float:
    """Return the share of what others leave that was used in the seconds that end now."""
    now = simulation.time.seconds
    return simulation.good(now - seconds) / ((simulation.limit - others) * seconds / 60)


def most_in(simulation: RateSimulation, seconds: float) -> int:
    """Return the most calls that came to Calendly within so many seconds."""
    times, most, begin = [call.at for call in simulation.made], 0, 0
    for end, at in enumerate(times):
        while times[begin] <= at - seconds:
            begin += 1
        most = max(most, end - begin + 1)
    return most


async def ten_processes(simulation: RateSimulation, seconds: float, *, others: int = 0) -> None:
    """Let ten processes, whose clocks differ by up to a minute, do all that they may."""
    for number, skew in enumerate(SKEWS):
        simulation.busy(simulation.process(skew), Priority.SWEEP, str(number), at_once=2)
    await simulation.run(LEARNED + seconds)
    assert used(simulation, seconds, others=others) >= 0.95
    by_process = Counter(call.process for call in simulation.made)
    assert len(by_process) == PROCESSES
    assert max(by_process.values()) <= 1.3 * min(by_process.values())


@pytest.mark.parametrize("window", ["sliding", pytest.param("fixed", marks=pytest.mark.soak)])
async def test_ten_processes_share_a_limit(pool: Pool, window: WindowKind) -> None:
    """However Calendly counts its minute: no call is refused, and at least 95 % of them are made."""
    async with rate_simulation(pool, rules=RateRules(window=window)) as simulation:
        await ten_processes(simulation, 65)
        assert simulation.limited() == 0
        assert most_in(simulation, 60) <= simulation.limit


@pytest.mark.soak
@pytest.mark.parametrize("window", ["fixed", "sliding"])
@pytest.mark.parametrize(("limit", "others"), [(500, 0), (500, 200), (50, 0)])
async def test_ten_processes_share_a_limit_for_ten_minutes(
    pool: Pool, window: WindowKind, limit: int, others: int
) -> None:
    """Beside other programs too: they are refused at most until we know of them, as we are."""
    rules = RateRules(window=window, others_per_minute=others)
    async with rate_simulation(pool, limit=limit, rules=rules) as simulation:
        await ten_processes(simulation, 600, others=others)
        assert simulation.limited() <= (8 if others else 0)
        assert simulation.rates.others_refused(USER) <= 0.05 * others * 10


@pytest.mark.parametrize("window", ["fixed", pytest.param("sliding", marks=pytest.mark.soak)])
async def test_what_others_spend_is_left_to_them(pool: Pool, window: WindowKind) -> None:
    """Beside a program that spends 40 %, the rest is used once minutes of it were seen, and it is refused no more."""
    others = 20
    async with rate_simulation(pool, limit=50, rules=RateRules(window, others_per_minute=others)) as simulation:
        for number, skew in enumerate((-30, 30)):
            simulation.busy(simulation.process(skew), Priority.SWEEP, str(number))
        await simulation.run(240)
        refused = simulation.rates.others_refused(USER)
        await simulation.run(480)
        assert used(simulation, 240, others=others) >= 0.9  # a whole number of calls a minute: 28 of 30
        assert simulation.rates.others_refused(USER) - refused <= 2


@pytest.mark.parametrize(("limit", "longest"), [(500, MAX_LEASE_SECONDS), (50, STEP[50])])
async def test_an_urgent_call_goes_first(pool: Pool, limit: int, longest: float) -> None:
    """Beside ten processes at the limit, the first of three people waits a second or one interval; each next, one."""
    async with rate_simulation(pool, limit=limit) as simulation:
        for number, skew in enumerate(SKEWS):
            simulation.busy(simulation.process(skew), Priority(2 + number % 2), str(number), at_once=3)
        person = simulation.process()
        await simulation.run(LEARNED)
        await simulation.run(30.03)
        callers = [person.caller(USER, Priority.PERSON) for _ in range(3)]
        calls = [asyncio.create_task(simulation.call(person, caller, "person")) for caller in callers]
        await simulation.run(45)
        assert all(call.done() and call.result() for call in calls)
        waited = sorted(call.waited for call in simulation.made if call.caller == "person")
        assert waited[0] <= longest + 0.01
        assert all(after - before <= STEP[limit] + 0.01 for before, after in itertools.pairwise(waited))


async def test_callers_are_served_in_turn(pool: Pool) -> None:
    """One call at a time gets as many turns as twenty at once: in one process, and as another process."""
    async with rate_simulation(pool) as simulation:
        one, other = simulation.process(), simulation.process(30)
        simulation.busy(one, Priority.SWEEP, "many", at_once=20)
        simulation.busy(one, Priority.SWEEP, "few")
        simulation.busy(other, Priority.SWEEP, "elsewhere")
        await simulation.run(40)
        served = Counter(call.caller for call in simulation.made if call.at > LEARNED)
        assert min(served.values()) >= 0.85 * max(served.values()), served


async def test_a_sweep_waits_for_repairs(pool: Pool) -> None:
    """While repairs take the whole limit, a sweep gets nothing; when they end, everything."""
    async with rate_simulation(pool) as simulation:
        repairs, sweeps = simulation.process(), simulation.process(-30)
        simulation.busy(repairs, Priority.REPAIR, "repair", at_once=20)
        await simulation.run(LEARNED)
        sweep = asyncio.create_task(simulation.call(sweeps, sweeps.caller(USER, Priority.SWEEP), "sweep"))
        await simulation.run(20)
        assert not sweep.done()
        assert {call.caller for call in simulation.made} == {"repair"}
        await simulation.stop()
        await simulation.run(23)
        assert sweep.done()
        assert sweep.result()


async def test_a_process_that_is_killed_costs_others_a_lease(pool: Pool) -> None:
    """Slots that it was given, and turns that it waited for, are lost for no longer than a lease and a grace."""
    async with rate_simulation(pool) as simulation:
        doomed, other = simulation.process(), simulation.process(-30)
        simulation.busy(doomed, Priority.PERSON, "doomed", at_once=40)
        await simulation.run(10)
        await simulation.stop()  # nothing is told to Postgres
        await doomed.aclose()
        simulation.busy(other, Priority.SWEEP, "other", at_once=20)
        await simulation.run(20)
        times = [call.at for call in simulation.made if call.caller == "other"]
        assert times[0] - 10 <= 2
        assert len(times) >= (20 - times[0]) / STEP[500] * 0.95


async def test_a_lease_is_small(pool: Pool) -> None:
    """However many wait and whatever the limit: at most 20 calls at once, none more than half a second away."""
    async with rate_simulation(pool, limit=1_000_000) as simulation:
        budgets = simulation.process()
        simulation.busy(budgets, Priority.SWEEP, "many", at_once=200)
        user = budgets.of(USER, CallKind.API)
        most, ahead = 0, 0.0
        for number in range(200):
            await simulation.run(number * 0.01)
            most = max(most, len(user._slots))
            ahead = max([ahead, *(slot - user.time() for slot, _ in user._slots)])
        assert 0 < most <= MAX_LEASE_CALLS
        assert ahead <= MAX_LEASE_SECONDS


async def test_nothing_is_made_up_for(pool: Pool) -> None:
    """After an hour in which nobody called, calls are as far apart as ever: no burst."""
    async with rate_simulation(pool) as simulation:
        process = simulation.process()
        simulation.busy(process, Priority.SWEEP, "before", at_once=5)
        await simulation.run(20)
        await simulation.stop()
        await simulation.run(3_620)
        simulation.busy(process, Priority.SWEEP, "after", at_once=100)
        await simulation.run(3_680)
        assert most_in(simulation, 1) <= 1 / STEP[500] + 1
        assert most_in(simulation, 60) <= simulation.limit


@pytest.mark.parametrize(("rules", "least", "most"), [(RateRules(retry_after=True), 40, 62), (RateRules(), 40, 62)])
async def test_a_refusal_stops_everybody(pool: Pool, rules: RateRules, least: float, most: float) -> None:
    """After a 429 no process calls until the time that it names, nor one that starts meanwhile, whatever its clock."""
    async with rate_simulation(pool, rules=rules) as simulation:
        simulation.busy(simulation.process(), Priority.SWEEP, "one", at_once=4)
        await simulation.run(10)
        simulation.rates.spend(USER, 500, 500, simulation.time.now)  # by another program
        await simulation.run(11)
        refused = max(call.at for call in simulation.made if call.status == 429)
        simulation.busy(simulation.process(30), Priority.SWEEP, "restarted", at_once=4)
        simulation.busy(simulation.process(-30), Priority.REPAIR, "restarted", at_once=4)
        await simulation.run(90)
        again = min(call.at for call in simulation.made if call.at > refused)
        assert least <= again - refused <= most
        assert simulation.limited() <= 4


async def test_a_reset_of_nothing_is_a_second_and_grows(pool: Pool) -> None:
    """Refused again and again with `X-RateLimit-Reset: 0`, the pauses are a second at least, and double."""
    async with rate_simulation(pool, rules=RateRules("sliding", reset_zero=True)) as simulation:
        simulation.busy(simulation.process(), Priority.SWEEP, "one")
        await simulation.run(LEARNED)
        for second in range(6, 60):  # the other program takes whatever there is
            simulation.rates.spend(USER, 500, 500, simulation.time.now)
            await simulation.run(second)
        refused = [call.at for call in simulation.made if call.status == 429]
        pauses = [after - before for before, after in itertools.pairwise(refused)]
        assert 3 <= len(refused) <= 7
        assert min(pauses) >= 1
        assert all(after >= 1.5 * before for before, after in itertools.pairwise(pauses))


async def test_the_less_urgent_leave_a_reserve(pool: Pool) -> None:
    """With five of 500 left, a sweep waits for the next window and a person's call is made at once."""
    async with rate_simulation(pool) as simulation:
        process = simulation.process()
        simulation.busy(process, Priority.SWEEP, "sweep")
        await simulation.run(10)
        left = 500 - simulation.rates.call(USER, 500, simulation.time.now).used
        simulation.rates.spend(USER, left - 4, 500, simulation.time.now)
        await simulation.run(12)
        swept = len(simulation.made)
        await simulation.run(13)
        assert len(simulation.made) == swept
        call = asyncio.create_task(simulation.call(process, process.caller(USER, Priority.PERSON), "person"))
        await simulation.run(15)
        assert call.done()
        assert call.result()
        assert [(each.caller, each.status) for each in simulation.made[swept:]] == [("person", 200)]


async def test_a_person_is_told_when_to_come_back(pool: Pool) -> None:
    """Where there is no turn in time, a person's call is refused at once, with the seconds to wait; it was not made."""
    async with rate_simulation(pool) as simulation:
        process = simulation.process()
        simulation.rates.spend(USER, 500, 500, simulation.time.now)
        first = asyncio.create_task(simulation.call(process, process.caller(USER, Priority.PERSON), "first"))
        await simulation.run(5)
        assert first.done()
        made = len(simulation.made)
        turn = asyncio.create_task(process.caller(USER, Priority.PERSON).turn("reading"))
        await simulation.run(6)
        assert turn.done()
        with pytest.raises(CalendlyError, match=r"reading: Calendly's rate limit .* leaves no call now") as caught:
            turn.result()
        assert (caught.value.problem, caught.value.status) == (CalendlyProblem.LIMITED, None)
        assert PATIENCE_SECONDS[Priority.PERSON] < (caught.value.wait or 0) <= 60
        assert len(simulation.made) == made


async def test_a_changed_plan_changes_the_rate(pool: Pool) -> None:
    """Until Calendly says the limit it is taken to be that of the setting; a new one holds from the next call."""
    async with rate_simulation(pool, limit=500) as simulation:
        process = simulation.process(assumed=10)
        caller = process.caller(USER, Priority.SWEEP)
        turns = [asyncio.create_task(caller.turn("reading")) for _ in range(2)]
        await simulation.run(6)
        assert [turn.done() for turn in turns] == [True, False]  # 6.2 s apart
        await simulation.run(7)
        assert turns[1].done()
        simulation.busy(process, Priority.SWEEP, "paid", at_once=4)
        await simulation.run(30)
        assert simulation.good(20, 30) >= 10 / STEP[500] - 2
        simulation.limit = 50
        await simulation.run(120)
        assert simulation.good(100, 120) <= 20 / STEP[50] + 1


async def test_the_token_endpoint_is_counted_apart(pool: Pool) -> None:
    """Eight requests a minute for tokens, whatever is spent at the API, and nothing of its limit."""
    async with rate_simulation(pool) as simulation:
        process = simulation.process()
        simulation.busy(process, Priority.SWEEP, "api", at_once=4)
        caller = process.caller(USER, Priority.SWEEP, CallKind.TOKEN)
        taken: list[float] = []

        async def refresh() -> None:
            await caller.turn("refreshing")
            taken.append(simulation.time.seconds)

        await simulation.run(LEARNED)
        for _ in range(30):
            simulation.start(refresh)
        await simulation.run(LEARNED + 90)
        assert [round(at - LEARNED, 1) for at in taken] == [0, 0, 0, 0, 12.4, 24.8, 37.2, 49.6, 62.0, 74.4, 86.8]
        assert sum(at < taken[0] + 60 for at in taken) == TOKEN_LIMIT
        assert used(simulation, 60) >= 0.95


async def test_the_budgets_of_the_idle_are_removed(pool: Pool) -> None:
    """What nobody used since a time goes, with who waited there; what was used stays."""
    async with rate_simulation(pool) as simulation:
        process = simulation.process()
        for user in (USER, f"{USER}-idle"):
            await process.caller(user, Priority.SWEEP).turn("reading")
        await simulation.run(100)
        turn = asyncio.create_task(process.caller(USER, Priority.SWEEP).turn("reading"))
        await simulation.run(101)
        assert turn.done()
        assert await idle_budgets.run_once(pool, ManualClock(START + idle_budgets.IDLE_AFTER)) == 0
        later = START + idle_budgets.IDLE_AFTER + timedelta(seconds=50)
        assert await idle_budgets.run_once(pool, ManualClock(later)) == 1
        rows = await pool.fetch("SELECT user_uri FROM slotwire.rate_budgets")
        assert [row["user_uri"] for row in rows] == [USER]


async def test_who_comes_while_postgres_is_asked_is_asked_for_at_once(pool: Pool) -> None:
    """A person who comes while a sweep asks has the reserve, though the sweep is told to wait for the next window."""
    async with rate_simulation(pool) as simulation:
        process = simulation.process()
        simulation.busy(process, Priority.SWEEP, "before")
        await simulation.run(10)
        await simulation.stop()
        left = 500 - simulation.rates.call(USER, 500, simulation.time.now).used
        simulation.rates.spend(USER, left - 5, 500, simulation.time.now)
        simulation.start(lambda: simulation.call(process, process.caller(USER, Priority.PERSON), "tells what is left"))
        await simulation.run(12)
        sweep = asyncio.create_task(process.caller(USER, Priority.SWEEP).turn("sweeping"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert simulation.time.asking
        person = asyncio.create_task(process.caller(USER, Priority.PERSON).turn("reading"))
        await simulation.run(13.5)
        assert (person.done(), sweep.done()) == (True, False)
        assert person.exception() is None
        await simulation.run(80)
        assert sweep.done()
