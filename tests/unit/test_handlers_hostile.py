"""Handlers that do what no handler should: each costs its own event, and neither the agent nor the next event."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from slotwire.handlers import Agent, Context, Done, Event, Reject, hooks
from slotwire.handlers.hooks import StartFailed, held
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.testing import RecordStatus, Trial
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import invitee_created

Body = Callable[[Context], Awaitable[Any]]


class Outrage(BaseException):
    """No `Exception`: it passes through `except Exception`."""


class Unspeakable(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        """Fail, as a property that looks something up does."""
        raise LookupError


def raising(error: BaseException) -> Body:
    """Make a handler that raises something."""

    async def body(_: Context) -> None:
        raise error

    return body


async def cancel_itself(_: Context) -> None:
    """Cancel the task that it runs in."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def reject_unspeakably(_: Context) -> Any:
    """Give something as a reason that is no text, and cannot become one."""
    reason: Any = Unspeakable()
    return Reject(reason)


def agent_of(body: Body, **more: Any) -> Agent:
    """Make an agent that does this with the first event of a trial, and is done with any other."""
    agent = Agent("crm", retry=RetryPolicy(attempts=2))

    @agent.on(InviteeCreated, **more)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> Any:
        if event.sequence == 1:
            return await body(ctx)
        await asyncio.sleep(0)
        return Done()

    return agent


@pytest.mark.parametrize(
    ("body", "reason", "attempts"),
    [
        (raising(Outrage()), "raised Outrage", 2),
        (raising(BaseExceptionGroup("two", [Outrage(), SystemExit()])), "raised BaseExceptionGroup", 2),
        (raising(SystemExit(3)), "raised SystemExit", 2),
        (raising(GeneratorExit()), "raised GeneratorExit", 2),
        (raising(Unspeakable()), "raised Unspeakable", 2),
        (raising(asyncio.CancelledError()), "raised CancelledError", 2),
        (cancel_itself, "raised CancelledError", 2),
        (reject_unspeakably, "a Unspeakable that cannot be written", 1),
    ],
    ids=["base", "group", "exit", "closes", "unspeakable", "cancelled", "cancels itself", "rejects"],
)
async def test_whatever_a_handler_raises_costs_its_event_alone(body: Body, reason: str, attempts: int) -> None:
    """It is a failed run like any other, with attempts and a reason, and the next event of the key is handled."""
    trial = Trial(agent_of(body))
    results = await trial.deliver(invitee_created("k", 1), invitee_created("k", 2))
    assert [each.status for each in results] == [RecordStatus.DEAD_LETTERED, RecordStatus.DONE]
    assert [(each.why.reason, each.why.attempts) for each in trial.dead_letters] == [(reason, attempts)]


async def test_a_handler_that_is_done_and_cancels_itself_is_done() -> None:
    """What is left of the cancellation reaches neither what settles the event nor the next one."""

    async def body(_: Context) -> Done:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return Done()

    trial = Trial(agent_of(body))
    results = await trial.deliver(invitee_created("k", 1), invitee_created("k", 2))
    assert [each.status for each in results] == [RecordStatus.DONE, RecordStatus.DONE]


async def test_a_test_that_gives_up_ends_the_handler() -> None:
    """A trial that is cancelled does not try a handler again that hangs."""
    hangs = asyncio.Event()

    async def body(_: Context) -> None:
        hangs.set()
        await asyncio.Event().wait()

    delivery = asyncio.create_task(Trial(agent_of(body)).deliver(invitee_created("k", 1)))
    await hangs.wait()
    delivery.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivery


@pytest.mark.parametrize("error", [Outrage(), SystemExit()], ids=repr)
async def test_a_filter_that_raises_anything_costs_its_event_alone(error: BaseException) -> None:
    """It fails like a handler, also past `except Exception`."""

    def where(event: Event[InviteeCreated]) -> bool:
        if event.sequence == 1:
            raise error
        return True

    trial = Trial(agent_of(raising(AssertionError()), where=where))
    results = await trial.deliver(invitee_created("k", 1), invitee_created("k", 2))
    assert [each.status for each in results] == [RecordStatus.DEAD_LETTERED, RecordStatus.DONE]
    assert trial.dead_letters[0].why.reason == f"its filter raised {type(error).__name__}"


async def test_a_task_that_outlives_its_run_reaches_nothing() -> None:
    """A transaction or a step of a run that is over would have its effect beside the next run, or after the end."""
    caught: list[str] = []
    late: list[asyncio.Task[None]] = []
    ended = asyncio.Event()

    async def use(ctx: Context) -> None:
        await ended.wait()
        with pytest.raises(RuntimeError, match="the run of the handler is over") as of_step:
            await ctx.step("late", raising_step)
        with pytest.raises(RuntimeError, match="the run of the handler is over") as of_block:
            async with ctx.transaction():
                pass
        caught.extend([str(of_step.value), str(of_block.value)])

    async def raising_step(key: str) -> None:
        raise AssertionError(key)

    async def body(ctx: Context) -> None:
        late.append(asyncio.create_task(use(ctx)))

    trial = Trial(agent_of(body), connection=object())
    [result] = await trial.deliver(invitee_created("k", 1))
    ended.set()
    await asyncio.gather(*late)
    assert (result.status, len(caught)) == (RecordStatus.DONE, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [None, -math.inf]}, 2**64, "\ud800", {1: 2}], ids=repr)
async def test_a_result_that_json_cannot_hold_is_never_another_one(value: object) -> None:
    """The step has been done and what it gave cannot be kept: the run is held, and does not go on with null."""
    seen: list[object] = []

    async def give(_: str) -> object:
        return value

    async def body(ctx: Context) -> None:
        seen.append(await ctx.step("give", give))

    [result] = await Trial(agent_of(body)).deliver(invitee_created("k", 1))
    assert (result.status, seen) == (RecordStatus.HELD, [])


async def use_without_entering(ctx: Context) -> None:
    """Call for a transaction, and leave out the `async with`."""
    ctx.transaction()


async def leave_a_transaction_open(ctx: Context) -> None:
    """Open one in a task that nobody awaits."""

    async def use() -> None:
        async with ctx.transaction():
            await asyncio.Event().wait()

    left.append(asyncio.create_task(use()))
    await asyncio.sleep(0)


async def forget_what_it_counts(ctx: Context) -> None:
    """Say in every run that it is the first."""
    ctx.attempt = 0
    raise ValueError


async def forget_the_key(ctx: Context) -> None:
    """Give a step a function that takes nothing, and go on."""

    async def charge() -> None: ...

    with suppress(Exception):
        await ctx.step("charge", cast("Any", charge))


async def call_the_function(ctx: Context) -> None:
    """Call a step's function instead of giving it, and go on."""

    async def charge(_: str) -> None: ...

    with suppress(Exception):
        await ctx.step("charge", cast("Any", charge("k")))


async def return_a_class(_: Context) -> object:
    """Leave out the brackets."""
    return Done


left: list[asyncio.Task[None]] = []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (use_without_entering, "its transaction was never begun: write `async with ctx.transaction() as connection:`"),
        (
            leave_a_transaction_open,
            "its transaction was open when the handler ended, and was undone: await what opens it",
        ),
        (forget_what_it_counts, "raised ValueError"),
        (return_a_class, "the handler returned the class Done: write Done()"),
        (
            forget_the_key,
            "step 'charge' calls its function with the step's idempotency key alone: write `lambda key: …`",
        ),
        (
            call_the_function,
            "step 'charge' got a coroutine and no function: write `lambda key: …` around what it does",
        ),
    ],
)
async def test_what_a_new_author_may_write_is_no_success(body: Body, reason: str) -> None:
    """It ends after its attempts, and says what to write."""
    trial = Trial(agent_of(body), connection=object())
    [result] = await trial.deliver(invitee_created("k", 1))
    assert (result.status, result.attempts, result.reason) == (RecordStatus.DEAD_LETTERED, 2, reason)
    assert not trial.done
    for task in left:
        task.cancel()


async def test_a_step_s_function_that_is_not_async_is_called_once() -> None:
    """What has returned has happened: it is kept like any other, and not called again as if it had failed."""
    calls: list[str] = []

    async def body(ctx: Context) -> None:
        charging: Any = charge
        assert await ctx.step("charge", charging) == {"id": 7}

    def charge(key: str) -> dict[str, int]:
        calls.append(key)
        return {"id": 7}

    [result] = await Trial(agent_of(body)).deliver(invitee_created("k", 1))
    assert (result.status, len(calls)) == (RecordStatus.DONE, 1)


async def test_hooks_that_hang_or_exit_hold_up_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start hook is interrupted by the stop, a stop hook after its time; `sys.exit` is a failure like others."""
    monkeypatch.setattr(hooks, "STOP_SECONDS", 0)
    agent, stop, ran, exits = Agent("crm"), asyncio.Event(), list[str](), list[bool]()

    @agent.on_start
    async def begin() -> None:
        ran.append("start")
        if exits:
            raise SystemExit(3)
        stop.set()
        await asyncio.Event().wait()

    @agent.on_stop
    async def last() -> None:
        ran.append("stopped")
        sys.exit()

    @agent.on_stop
    async def first() -> None:
        ran.append("stop")
        await asyncio.Event().wait()

    for error in ("TimeoutError", "SystemExit"):
        with capture_logs() as said, pytest.raises(StartFailed, match=error):
            async with held(agent, stop):
                raise AssertionError
        assert [(each["hook"], each["reason"]) for each in said] == [("first", "TimeoutError"), ("last", "SystemExit")]
        exits.append(True)
    assert ran == ["start", "stop", "stopped"] * 2
