"""What a handler knows and may do, in a trial: context, state, calls, hooks, limits, a clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from slotwire.handlers import Agent, BookingSnapshot, Context, Event
from slotwire.handlers.hooks import StartFailed, held
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.process import opened_pool
from slotwire.handlers.reach.chains import MAX_STATE_BYTES
from slotwire.handlers.testing import RecordStatus, Trial, TrialClock, event_of
from slotwire.ingest.foundation.errors import ConfigurationError, ControlUnavailable, RequestRefused
from slotwire.ingest.foundation.settings import Settings
from slotwire.schemas.events import BookingState, InviteeCreated
from tests.support.agent_setup import until

URI = "https://api.calendly.com/scheduled_events/E/invitees/I"
STATE = BookingState(state="active", revision=1, chain_root=URI)
ONCE = RetryPolicy(attempts=1)


def created(sequence: int = 1, **about: Any) -> Event[InviteeCreated]:
    """Make an event of one chain."""
    return event_of(InviteeCreated(uri=URI, booking=STATE), sequence=sequence, **about)


def agent_of(handler: Any, **more: Any) -> Agent:
    """Make an agent of one handler."""
    agent = Agent("crm", **{"retry": ONCE, **more})
    agent.on(InviteeCreated)(handler)
    return agent


async def test_the_context_says_whose_event_it_is() -> None:
    """Organization, tenant and origin are arguments of the test's event, and the time is its clock's."""
    found: list[object] = []

    async def look(event: Event[InviteeCreated], ctx: Context) -> None:
        chain = await ctx.booking()
        found.extend([ctx.organization, ctx.tenant, event.origin, event.inferred, ctx.clock.now(), chain])

    clock = TrialClock()
    trial = Trial(agent_of(look), clock=clock)
    snapshot = BookingSnapshot(URI, "active", hosts=("u",))
    trial.chains.known["ACME", URI] = (BookingSnapshot("older", "canceled", new_invitee=URI), snapshot)
    await trial.deliver(created(organization="ACME", tenant="acme", origin="backfill", inferred=True))
    assert found[:-1] == ["ACME", "acme", "backfill", True, clock.now()]
    chain: Any = found[-1]
    assert (chain.booking, [each.invitee for each in chain.chain]) == (snapshot, ["older", URI])


async def test_the_state_of_a_chain_is_kept_with_the_effect() -> None:
    """It is there for the next event of the chain, of this organization only; a run that fails leaves it as it was."""
    seen: list[dict[str, Any]] = []

    async def count(event: Event[InviteeCreated], ctx: Context) -> None:
        seen.append(await ctx.state.get())
        async with ctx.transaction():
            ctx.state.set({"n": seen[-1].get("n", 0) + 1})
            assert (await ctx.state.get())["n"] == seen[-1].get("n", 0) + 1
            if event.sequence == 2:
                raise LookupError

    trial = Trial(agent_of(count), connection=object())
    await trial.deliver(*(created(number, organization="A") for number in (1, 2, 3)), created(4, organization="B"))
    assert sorted(seen, key=str) == [{"n": 1}, {"n": 1}, {}, {}]
    assert trial.chains.remembered == {("A", URI): '{"n": 2}', ("B", URI): '{"n": 1}'}


@pytest.mark.parametrize(
    ("value", "inside", "error"),
    [
        ({"n": 1}, False, "RuntimeError"),
        ({"n": object()}, True, "ValueError"),
        ({"n": float("nan")}, True, "ValueError"),
        ({"n": "\ud800"}, True, "ValueError"),
        ({"n": "x" * (MAX_STATE_BYTES - 9)}, True, ""),
        ({"n": "x" * (MAX_STATE_BYTES - 8)}, True, "ValueError"),
    ],
    ids=["outside", "object", "nan", "half a character", "fits", "one too many"],
)
async def test_a_state_that_cannot_be_kept_is_refused(value: dict[str, Any], inside: bool, error: str) -> None:
    """Outside a transaction, no JSON, or past its limit: the author is told where it is set."""

    async def keep(event: Event[InviteeCreated], ctx: Context) -> None:
        del event
        if not inside:
            ctx.state.set(value)
        async with ctx.transaction():
            ctx.state.set(value)

    [result] = await Trial(agent_of(keep), connection=object()).deliver(created())
    assert (result.status is RecordStatus.DONE) == (not error)
    assert result.reason == (f"raised {error}" if error else "")


async def test_calls_to_calendly_are_the_tests() -> None:
    """A trial answers what the test says; without an answer it says how to set one; an outage burns no attempt."""
    answers: list[Any] = []

    async def ask(event: Event[InviteeCreated], ctx: Context) -> None:
        del event
        now = ctx.clock.now()
        answers.append(await ctx.calendly.call("list-user-busy-times", start_time=now, end_time=[now]))

    clock = TrialClock()
    trial = Trial(agent_of(ask), clock=clock)
    [result] = await trial.deliver(created())
    assert result.reason == f"raised {RequestRefused.__name__}"
    trial.calendly.answers["list-user-busy-times"] = [{"type": "calendly"}]
    [result] = await trial.deliver(created(2))
    assert (result.status, answers) == (RecordStatus.DONE, [[{"type": "calendly"}]])
    at = [clock.now().isoformat()]
    assert trial.calendly.made[-1] == ("list-user-busy-times", {"start_time": at, "end_time": at})

    trial.calendly.answers["list-user-busy-times"] = ControlUnavailable("away")
    waiting = asyncio.create_task(trial.deliver(created(3)))
    await until(lambda: trial.pauses)
    trial.calendly.answers["list-user-busy-times"] = []
    [result] = await waiting
    assert (result.status, result.attempts) == (RecordStatus.DONE, 1)


async def test_a_clock_interrupts_a_run_that_takes_too_long() -> None:
    """`timeout_seconds` follows the test's clock: nothing happens a second before, and all at once when it is over."""
    entered, attempts = asyncio.Event(), list[int]()

    async def hang(event: Event[InviteeCreated], ctx: Context) -> None:
        del event
        attempts.append(ctx.attempt)
        entered.set()
        await asyncio.Event().wait()

    clock = TrialClock()
    trial = Trial(agent_of(hang, timeout_seconds=300), clock=clock)
    delivery = asyncio.create_task(trial.deliver(created()))
    await entered.wait()
    clock.advance(timedelta(seconds=299))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not delivery.done()
    clock.advance(timedelta(seconds=1))
    [result] = await delivery
    assert (result.reason, attempts) == ("ran longer than 300 s", [1])
    clock.advance(timedelta(days=1))  # a run that has ended is left alone


async def test_limits_on_runs_at_once_hold() -> None:
    """Of twelve keys of two organizations, at most three run at once, and two of one organization; all are done."""
    running: list[str] = []
    most, most_of_one = 0, 0

    async def work(event: Event[InviteeCreated], ctx: Context) -> None:
        nonlocal most, most_of_one
        running.append(ctx.organization)
        most, most_of_one = max(most, len(running)), max(most_of_one, running.count("A"), running.count("B"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.remove(event.organization)

    trial = Trial(agent_of(work, concurrency=3, organization_concurrency=2))
    results = await trial.deliver(*(created(n, key=str(n), organization="AB"[n % 2]) for n in range(12)))
    assert {result.status for result in results} == {RecordStatus.DONE}
    assert (most, most_of_one) == (3, 2)


async def test_the_pool_grows_with_the_limits() -> None:
    """A connection for each run, and some beside; without limits the settings say how many."""
    sizes = []
    for agents in (
        [Agent("a")],
        [Agent("a", concurrency=20), Agent("b", concurrency=10)],
        [Agent("a", concurrency=90)] * 2,
    ):
        url = "postgresql://u:p@127.0.0.1:1/d"
        async with opened_pool(agents, Settings(database_url=url)) as pool:
            sizes.append(pool.get_max_size())
    assert sizes == [Settings().database.pool_size, 33, 100]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"concurrency": 0}, {"concurrency": 91}, {"organization_concurrency": 0}, {"version": "é"}, {"version": 7}),
        *({"timeout_seconds": float("nan")}, {"timeout_seconds": float("inf")}, {"grace_seconds": -1.0}),
    ],
    ids=str,
)
def test_limits_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    """An agent that cannot be is refused when its module is imported."""
    with pytest.raises(ConfigurationError):
        Agent("crm", **wrong)
    assert Agent("crm", concurrency=90, version="2026.11.1-rc_2").concurrency == 90


async def test_hooks_run_in_order_and_close_what_was_opened() -> None:
    """Stop hooks run in reverse, after a start hook that failed too, and one that fails does not keep the next away."""
    agent, done = Agent("crm"), list[str]()
    fail = False

    @agent.on_start
    async def first() -> None:
        done.append("first")

    @agent.on_start
    async def second() -> None:
        done.append("second")
        if fail:
            raise LookupError("no such host")

    @agent.on_stop
    async def close_first() -> None:
        done.append("close first")

    @agent.on_stop
    async def close_second() -> None:
        done.append("close second")
        raise ValueError

    async with held(agent):
        done.append("work")
    assert done == ["first", "second", "work", "close second", "close first"]
    fail = True
    done.clear()
    with pytest.raises(StartFailed) as caught:
        async with held(agent):
            done.append("work")
    assert done == ["first", "second", "close second", "close first"]
    assert (caught.value.said, str(caught.value)) == ("LookupError: no such host", "LookupError")
    with pytest.raises(ConfigurationError, match="without parameters"):
        agent.on_start(lambda: None)  # type: ignore[arg-type,return-value]  # the mistake that is shown
