"""Steps and waits: what a handler may rely on, with everything but the dispatch in memory."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from slotwire.handlers import Agent, Context, Reject
from slotwire.handlers.long_work.endings import StepOutcomeUnknown, StepResultTooLarge
from slotwire.handlers.long_work.journal import MAX_NAME_CHARACTERS
from slotwire.handlers.long_work.steps import MAX_ENTRIES, MAX_RESULT_BYTES
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.testing import RecordStatus, Trial, TrialClock
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import (
    InviteeCreated,
)
from tests.support.agent_setup import invitee_created
from tests.support.long_work import Body, Outside, trial_of


async def test_a_step_that_has_ended_answers_from_the_journal() -> None:
    """A later step fails twice: the first one is called once, the second three times with one key."""
    outside = Outside()

    async def body(ctx: Context) -> None:
        first = await ctx.step("charge", outside.does("charge", {"id": 7, "when": [1, 2]}))
        assert first == {"id": 7, "when": [1, 2]}
        outside.failing = 1 if len(outside.calls) < 3 else 0
        await ctx.step("mail", outside.does("mail"))

    trial = trial_of(body)
    event = invitee_created("k", 1)
    [result] = await trial.deliver(event)
    assert (result.status, result.attempts) == (RecordStatus.DONE, 3)
    assert outside.calls == [("charge", f"crm:{event.id}:charge")] + [("mail", f"crm:{event.id}:mail")] * 3
    assert not trial.waiting


async def test_what_a_step_returns_is_json_in_the_first_run_too() -> None:
    """A tuple and a key that is no text would come back otherwise after a restart; so they do at once."""
    found: list[object] = []

    async def body(ctx: Context) -> None:
        found.append(await ctx.step("one", Outside().does("one", (1, "two"))))

    await trial_of(body).deliver(invitee_created("k", 1))
    assert found == [[1, "two"]]


@pytest.mark.parametrize("beyond", [0, 1])
async def test_a_result_has_a_limit(beyond: int) -> None:
    """As long as the limit it is kept; longer, the step counts as one of unknown outcome, and the run is held."""
    outside = Outside()

    async def body(ctx: Context) -> None:
        text = "x" * (MAX_RESULT_BYTES - 2 + beyond)
        try:
            await ctx.step("large", outside.does("large", text))
        except StepResultTooLarge:
            assert beyond
            raise

    [result] = await trial_of(body).deliver(invitee_created("k", 1))
    assert result.status is (RecordStatus.HELD if beyond else RecordStatus.DONE)
    assert len(outside.calls) == 1, "it is never called again by itself"


async def test_a_step_that_raises_is_tried_again_and_given_up_like_any_failure() -> None:
    """It has not happened, so the next attempt calls it with the same key, and the last one gives the event up."""
    outside = Outside()
    outside.failing = 99

    async def body(ctx: Context) -> None:
        await ctx.step("charge", outside.does("charge"))

    trial = trial_of(body, attempts=2)
    [result] = await trial.deliver(invitee_created("k", 1))
    assert (result.status, len(outside.calls)) == (RecordStatus.DEAD_LETTERED, 2)


async def test_a_handler_does_not_go_on_past_a_step_that_failed() -> None:
    """Whether the journal has it could not be told later, so that the run fails, whatever the handler catches."""
    outside = Outside()

    async def body(ctx: Context) -> None:
        outside.failing = 1
        with pytest.raises(ConnectionError):
            await ctx.step("charge", outside.does("charge"))
        with pytest.raises(RuntimeError, match="catch errors inside of"):
            await ctx.step("mail", outside.does("mail"))

    [result] = await trial_of(body, attempts=1).deliver(invitee_created("k", 1))
    assert result.status is RecordStatus.DEAD_LETTERED
    assert [name for name, _ in outside.calls] == ["charge"]


async def test_a_function_may_say_that_it_does_not_know() -> None:
    """It raises StepOutcomeUnknown: not called again, unless the handler says `retry`."""
    outside = Outside()

    def lost(on_unknown: Any) -> Body:
        async def unsure(key: str) -> None:
            await outside.does("charge")(key)
            if len(outside.calls) == 1:
                raise StepOutcomeUnknown("charge")

        async def body(ctx: Context) -> None:
            await ctx.step("charge", unsure, on_unknown=on_unknown)

        return body

    [held] = await trial_of(lost("raise")).deliver(invitee_created("k", 1))
    assert (held.status, len(outside.calls)) == (RecordStatus.HELD, 1)
    assert held.reason == "it is not known how step 'charge' ended"
    outside.calls.clear()
    [done] = await trial_of(lost("retry")).deliver(invitee_created("k", 1))
    assert (done.status, len(set(outside.calls)), len(outside.calls)) == (RecordStatus.DONE, 1, 2)
    [wrong] = await trial_of(lost("again"), attempts=1).deliver(invitee_created("k", 1))
    assert wrong.reason == "raised ValueError"


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        (["a", "a"], [], "the name 'a' is used twice"),
        (["a", "b", "fail"], ["b", "a"], "the handler came to step 'b' where its journal has step 'a'"),
        (["a", "b", "fail"], ["a"], "the handler ended without 'b', which its journal has"),
        (["a", "fail"], [], "the handler ended without 'a', which its journal has"),
    ],
)
async def test_a_run_that_leaves_its_journal_is_held(first: list[str], then: list[str], reason: str) -> None:
    """A name used twice, a changed order, a missing name: held for a person with the reason, and never run again."""
    outside, runs = Outside(), 0

    async def body(ctx: Context) -> None:
        nonlocal runs
        runs += 1
        for name in first if runs == 1 else then:
            if name == "fail":
                raise ValueError
            await ctx.step(name, outside.does(name))

    trial = trial_of(body)
    event = invitee_created("k", 1)
    [result] = await trial.deliver(event)
    assert (result.status, result.reason) == (RecordStatus.HELD, reason)
    before = runs
    [again] = await trial.deliver(event)
    assert (again.status, runs) == (RecordStatus.SKIPPED, before)


async def test_no_step_where_it_could_not_be_kept() -> None:
    """Inside of a transaction, after it, and during another step: refused, whatever the handler makes of it."""
    refused: list[str] = []

    async def step(ctx: Context) -> None:
        try:
            await ctx.step("late", Outside().does("late"))
        except RuntimeError as error:
            refused.append(str(error))

    async def in_a_transaction(ctx: Context) -> None:
        async with ctx.transaction():
            await step(ctx)
        await step(ctx)

    agent = Agent("crm")

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
        del event
        await in_a_transaction(ctx)

    [done] = await Trial(agent, connection=object()).deliver(invitee_created("k", 1))
    assert done.status is RecordStatus.DONE
    assert [text.partition(" ctx")[0] for text in refused] == ["no step or wait inside of", "no step or wait after"]

    async def nested(ctx: Context) -> None:
        async def outer(key: str) -> None:
            del key
            await step(ctx)

        await ctx.step("outer", outer)

    [failed] = await trial_of(nested, attempts=1).deliver(invitee_created("k", 1))
    assert failed.status is RecordStatus.DEAD_LETTERED
    assert failed.reason == "'late' began during step 'outer': one step or wait at a time"


async def test_names_and_numbers_of_steps_have_limits() -> None:
    """200 characters and 1,000 entries are taken, one more of either is not."""

    async def long_name(ctx: Context) -> None:
        await ctx.step("x" * MAX_NAME_CHARACTERS, Outside().does("x"))
        refused: tuple[Any, ...] = ("x" * (MAX_NAME_CHARACTERS + 1), "", "a\0b", "a\ud800", 7, None, b"a", ["a"])
        for name in refused:
            with pytest.raises(ValueError, match="must be a text"):
                await ctx.step(name, Outside().does("x"))

    assert (await trial_of(long_name).deliver(invitee_created("k", 1)))[0].status is RecordStatus.DONE

    async def many(ctx: Context) -> None:
        for number in range(MAX_ENTRIES):
            await ctx.step(str(number), Outside().does("x"))
        with pytest.raises(RuntimeError, match="at most 1000"):
            await ctx.step("more", Outside().does("x"))

    assert (await trial_of(many, attempts=1).deliver(invitee_created("k", 1)))[0].status is RecordStatus.DEAD_LETTERED


async def test_a_rejected_event_keeps_its_journal_for_its_dead_letter() -> None:
    """What was done stays known, for when the event is driven again; also where it was the agent's very first run."""
    outside = Outside()
    wanted = [Reject("not today"), None]

    async def body(ctx: Context) -> Reject | None:
        await ctx.step("charge", outside.does("charge"))
        return wanted.pop(0)

    trial = trial_of(body)
    event = invitee_created("k", 1)
    [result] = await trial.deliver(event)
    assert (result.status, trial._journal.runs[event.id].stored.state) == (RecordStatus.DEAD_LETTERED, "given_up")
    [result] = await trial.deliver(event)
    assert (result.status, len(outside.calls)) == (RecordStatus.DONE, 1)


async def test_a_thread_in_a_step_is_not_begun_a_second_time_beside_itself() -> None:
    """It outlives its run, which is interrupted; the next run is told that nobody knows, and that is all."""
    begun, may_end, ended = asyncio.Event(), threading.Event(), asyncio.Event()
    loop, calls, told = asyncio.get_running_loop(), list[str](), list[str]()
    agent, clock = Agent("crm", retry=RetryPolicy(attempts=2), timeout_seconds=300), TrialClock()

    def compute(key: str) -> str:
        calls.append(key)
        loop.call_soon_threadsafe(begun.set)
        may_end.wait(20)
        loop.call_soon_threadsafe(ended.set)
        return "late"

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
        del event
        try:
            told.append(await ctx.step("compute", lambda key: asyncio.to_thread(compute, key)))
        except StepOutcomeUnknown as unknown:
            told.append(unknown.step)

    trial = Trial(agent, clock=clock)
    delivery = asyncio.create_task(trial.deliver(invitee_created("k", 1)))
    await begun.wait()
    clock.advance(timedelta(seconds=300))
    [result] = await delivery
    assert (result.status, result.attempts, told, len(calls)) == (RecordStatus.DONE, 2, ["compute"], 1)
    may_end.set()
    await ended.wait()
    assert (told, set(trial.waiting)) == (["compute"], set())
