"""Runs that do not end when they are interrupted: they are let go, reach nothing more, and hold up nobody."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from slotwire.handlers import Agent, Context, Event
from slotwire.handlers import threads as run_threads
from slotwire.handlers.dispatch import interruption
from slotwire.handlers.dispatch.dispatcher import Dispatcher
from slotwire.handlers.dispatch.interruption import abandoned_in
from slotwire.handlers.dispatch.isolation import RanTooLong, isolated
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.reach.calendly import EventCalendly
from slotwire.handlers.records import Partition, Record
from slotwire.handlers.results import RecordResult, RecordStatus
from slotwire.handlers.testing import Trial, TrialClock, record_of
from slotwire.handlers.threads import RunThreads
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import invitee_created, run_ready_tasks, until

PLACE = Partition("t", 0)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give an interrupted run no time to end."""
    monkeypatch.setattr(interruption, "LET_END_SECONDS", 0)
    monkeypatch.setattr(run_threads, "TELL_SECONDS", 0)


async def deaf(end: asyncio.Event) -> None:
    """Catch every interruption, as a loop with a bare `except` does."""
    while not end.is_set():
        with suppress(BaseException):
            await end.wait()


async def awaiting(end: asyncio.Event) -> None:
    """Wait for a task that does not end."""
    await asyncio.create_task(deaf(end))


async def gathering(end: asyncio.Event) -> None:
    """Wait for several."""
    await asyncio.gather(deaf(end), asyncio.sleep(0))


async def grouping(end: asyncio.Event) -> None:
    """Wait for those of a group."""
    async with asyncio.TaskGroup() as group:
        group.create_task(deaf(end))


async def shielding(end: asyncio.Event) -> None:
    """Wait for a task that no interruption reaches, again and again."""
    inner = asyncio.create_task(deaf(end))
    while not inner.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(inner)


KINDS = [deaf, awaiting, gathering, grouping, shielding]


@pytest.mark.parametrize("body", KINDS)
async def test_a_run_that_does_not_end_is_let_go(body: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Interrupted again and again by the end of its time, it is left at its line; the task it ran in goes on."""
    task, end = asyncio.current_task(), asyncio.Event()
    assert task is not None
    with capture_logs() as said, pytest.raises(RanTooLong) as caught:
        await isolated(body(end), partial(asyncio.timeout, 0))
    abandoned = abandoned_in(caught.value.__cause__ or caught.value)
    assert abandoned is not None
    assert re.fullmatch(rf"unit/test_deaf_runs\.py:[0-9]+ {body.__name__}", abandoned.at)
    assert [(each["event"], each["log_level"], each["at"]) for each in said] == [
        ("run_does_not_end", "error", abandoned.at)
    ]
    abandoned.close()
    assert task.cancelling() == 0
    end.set()


async def test_what_a_handler_interrupts_itself_is_its_own_affair() -> None:
    """A limit of its own that is over, and a library's cancellation that it catches: neither is told of, nor ended."""
    loops: list[int] = []

    async def polling() -> str:
        for _ in range(5):
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
        for number in range(5):  # after the limits, which an early Python 3.11 takes for cancellations then
            with suppress(asyncio.CancelledError):
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)
            await run_ready_tasks()
            loops.append(number)
        return "polled"

    with capture_logs() as said:
        assert await isolated(polling(), partial(asyncio.timeout, 60)) == "polled"
    assert (len(loops), said) == (5, [])


def agent_of(body: Callable[[Event[InviteeCreated], Context], Coroutine[Any, Any, None]]) -> Agent:
    """Make an agent that tries twice."""
    agent = Agent("crm", retry=RetryPolicy(attempts=2), timeout_seconds=0.01)
    agent.on(InviteeCreated)(body)
    return agent


async def test_an_abandoned_run_reaches_nothing_and_the_next_event_of_its_key_comes() -> None:
    """Its attempts count, its author reads the line and what to do, and what it left behind is refused everything."""
    end, order = asyncio.Event(), list[str]()

    async def use(ctx: Context) -> None:
        async with ctx.transaction():
            await end.wait()

    async def body(event: Event[InviteeCreated], ctx: Context) -> None:
        order.append(f"{event.sequence} begins")
        if event.sequence == 1:
            left.append(asyncio.create_task(use(ctx)))
            left.append(asyncio.create_task(ask(ctx, ctx.calendly)))
            await deaf(end)

    async def charge(key: str) -> None:
        raise AssertionError(key)

    async def ask(ctx: Context, calendly: EventCalendly) -> None:
        await end.wait()
        for asks in (ctx.booking, partial(calendly.act, "cancel"), partial(ctx.step, "charge", charge)):
            with pytest.raises(RuntimeError, match="the run of the handler is over"):
                await asks()

    left: list[asyncio.Task[None]] = []
    trial = Trial(agent_of(body), connection=object())
    with capture_logs() as said:
        results = await trial.deliver(invitee_created("k", 1), invitee_created("k", 2))
    assert [each.status for each in results] == [RecordStatus.DEAD_LETTERED, RecordStatus.DONE]
    assert order == ["1 begins", "1 begins", "2 begins"]
    assert re.fullmatch(
        r"ran longer than 0\.01 s and caught its interruption, at unit/test_deaf_runs\.py:[0-9]+ deaf:"
        r" let CancelledError through, catch Exception instead",
        trial.dead_letters[0].why.reason,
    )
    assert [each["event"] for each in said if each["event"] == "run_abandoned"] == ["run_abandoned"] * 2
    end.set()
    ended = await asyncio.gather(*left, return_exceptions=True)
    assert [type(each).__name__ for each in ended] == ["NotCommitted", "NoneType"] * 2
    assert trial.done == {invitee_created("k", 2).id}, "the task that it left behind commits nothing"


async def test_the_next_run_waits_for_a_thread_of_the_last_one() -> None:
    """Nothing can end a thread: its key waits for it, another key does not, and the log tells of it."""
    loop, clock, order = asyncio.get_running_loop(), TrialClock(), list[str]()
    loop.set_default_executor(RunThreads())
    begun, may_end = asyncio.Event(), threading.Event()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        may_end.wait(20)
        order.append("thread ends")

    agent = Agent("crm", retry=RetryPolicy(attempts=2), timeout_seconds=300)

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
        order.append(f"{event.key} {ctx.attempt}")
        if event.sequence == 1 and ctx.attempt == 1:
            await asyncio.to_thread(work)

    trial = Trial(agent, clock=clock)
    with capture_logs() as said:
        delivery = asyncio.create_task(trial.deliver(invitee_created("slow", 1), invitee_created("slow", 2)))
        await begun.wait()
        clock.advance(timedelta(seconds=300))
        await until(lambda: "thread_does_not_end" in {each["event"] for each in said})
        await trial.deliver(invitee_created("other", 3))
        assert order == ["slow 1", "other 1"]
        may_end.set()
        await delivery
    assert order == ["slow 1", "other 1", "thread ends", "slow 2", "slow 1"]


async def test_a_partition_that_comes_back_waits_for_what_was_interrupted() -> None:
    """The same event begins beside a run of it that was interrupted and has not ended only in another process."""
    end, begun = asyncio.Event(), list[int]()

    async def handle(record: Record, stopping: asyncio.Event) -> RecordResult:
        begun.append(record.offset)
        with suppress(asyncio.CancelledError):
            await end.wait()
        if stopping.is_set():
            await end.wait()
        return RecordResult(RecordStatus.HANDED_BACK if stopping.is_set() else RecordStatus.DONE)

    record = record_of(invitee_created("k", 1), partition=PLACE)
    async with asyncio.TaskGroup() as group:
        dispatcher = Dispatcher(handle, agent="a", max_in_flight=10, spawn=group.create_task)
        for _ in range(3):
            dispatcher.open([PLACE])
            dispatcher.deliver(PLACE, [record], position=1)
            await run_ready_tasks()
            dispatcher.resume(())
        dispatcher.open([PLACE])
        dispatcher.deliver(PLACE, [record], position=1)
        for _ in range(5):
            await run_ready_tasks()
        assert begun == [0]
        end.set()
    assert begun == [0, 0]
