"""Which events a handler takes: `@agent.on(…, where=…)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from slotwire.handlers import Agent, Context
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.testing import RecordStatus, Trial, event_of
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import BookingState, InviteeCanceled, InviteeCreated
from tests.support.agent_setup import invitee_created


def even(event: Event[InviteeCreated]) -> bool:
    """Take every second event."""
    return event.sequence % 2 == 0


def filtering(where: Callable[[Event[Any]], Any], seen: list[int], *, attempts: int = 3) -> Agent:
    """An agent with a filter, that notes what it is given."""
    agent = Agent("picky", retry=RetryPolicy(attempts=attempts))

    @agent.on(InviteeCreated, where=where)
    async def note(event: Event[InviteeCreated], ctx: Context) -> None:
        del ctx
        seen.append(event.sequence)

    return agent


async def test_only_what_the_filter_takes_reaches_the_handler() -> None:
    """The others are settled without the inbox, and without a run."""
    seen: list[int] = []
    trial = Trial(filtering(even, seen))
    results = await trial.deliver(*(invitee_created(f"k{n}", n) for n in (1, 2, 3)))
    assert [each.status for each in results] == [RecordStatus.FILTERED, RecordStatus.DONE, RecordStatus.FILTERED]
    assert seen == [2]
    assert len(trial.done) == 1


async def test_a_filter_that_answers_is_asked_once() -> None:
    """Also where the handler is tried again: it is pure, and may be dear."""
    asked: list[int] = []
    tries: list[int] = []
    agent = Agent("picky", retry=RetryPolicy(attempts=3))

    def take(event: Event[InviteeCreated]) -> bool:
        asked.append(event.sequence)
        return True

    @agent.on(InviteeCreated, where=take)
    async def note(event: Event[InviteeCreated], ctx: Context) -> None:
        del event
        tries.append(ctx.attempt)
        if ctx.attempt < 3:
            raise LookupError

    (result,) = await Trial(agent).deliver(invitee_created("k", 1))
    assert (result.status, tries, asked) == (RecordStatus.DONE, [1, 2, 3], [1])


async def test_a_filter_is_of_its_handler_only() -> None:
    """Another type of the same agent is not asked."""
    seen: list[int] = []
    agent = filtering(lambda _: False, seen)
    canceled: list[str] = []

    @agent.on(InviteeCanceled)
    async def note(event: Event[InviteeCanceled], ctx: Context) -> None:
        del ctx
        canceled.append(event.data.uri)

    state = BookingState(state="canceled", revision=2, chain_root="r")
    results = await Trial(agent).deliver(invitee_created("k", 1), event_of(InviteeCanceled(uri="u", booking=state)))
    assert [each.status for each in results] == [RecordStatus.FILTERED, RecordStatus.DONE]
    assert (seen, canceled) == ([], ["u"])


@pytest.mark.parametrize("answer", [None, 0, 1, "yes", NotImplemented], ids=repr)
async def test_an_answer_that_is_neither_fails(answer: object) -> None:
    """A filter that forgets to return is a failed run: a skip would lose the event without a word."""
    seen: list[int] = []
    trial = Trial(filtering(lambda _: answer, seen, attempts=2))
    (result,) = await trial.deliver(invitee_created("k", 1))
    assert (result.status, result.attempts, seen) == (RecordStatus.DEAD_LETTERED, 2, [])
    assert f"its filter returned {type(answer).__name__}" in result.reason


async def _later(_: Event[InviteeCreated]) -> bool:
    return True


@pytest.mark.parametrize("where", ["webhook", 1, _later], ids=["text", "number", "async"])
def test_a_filter_that_cannot_be_one_is_refused_at_once(where: Any) -> None:
    """No event has to come before its author is told."""
    with pytest.raises(ConfigurationError, match="answers at once"):
        Agent("crm").on(InviteeCreated, where=where)


async def test_a_filter_that_raises_fails_and_is_asked_again() -> None:
    """An exception is a failed run, with its place; once the filter answers, the event is handled."""
    seen: list[int] = []
    left = [ZeroDivisionError] * 3

    def sometimes(event: Event[Any]) -> bool:
        if left:
            raise left.pop()
        return True

    trial = Trial(filtering(sometimes, seen))
    (result,) = await trial.deliver(invitee_created("k", 1))
    assert (result.status, result.attempts, seen) == (RecordStatus.DONE, 3, [1])
    (never,) = await Trial(filtering(lambda _: 1 // 0 == 0, seen, attempts=1)).deliver(invitee_created("k", 2))
    assert never.reason == "its filter raised ZeroDivisionError"
