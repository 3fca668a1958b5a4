"""What an author is shown of an error: the handler's own line always, the message where the log may have it."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from slotwire.handlers import Agent, Context
from slotwire.handlers.dispatch.attempt import MAX_MESSAGE_CHARACTERS
from slotwire.handlers.dispatch.handle import Handling
from slotwire.handlers.dispatch.runs import Runs
from slotwire.handlers.long_work.trial_journal import MemoryJournal
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.problems import Problems
from slotwire.handlers.reach.calendly import MemoryCalls
from slotwire.handlers.reach.chains import MemoryChains
from slotwire.handlers.settle.trial_inbox import MemoryInbox
from slotwire.handlers.testing import Trial, record_of
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import invitee_created


def sink(depth: int) -> None:
    """Raise far below the handler."""
    if depth:
        sink(depth - 1)
    raise ValueError("alice@example.com")


async def test_a_deep_trace_ends_at_the_handler() -> None:
    """Whatever a library adds below, the handler's own line is there, and the place where it was raised."""
    agent = Agent("deep", retry=RetryPolicy(attempts=1))

    @agent.on(InviteeCreated)
    async def dive(event: Event[InviteeCreated], ctx: Context) -> None:
        del event, ctx
        sink(30)

    trial = Trial(agent)
    await trial.deliver(invitee_created("k", 1))
    places = trial.dead_letters[0].why.trace.split(" < ")
    assert len(places) == 6
    assert places[-1].endswith(" dive")
    assert all(place.endswith(" sink") for place in places[:-1])


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_message_is_logged_where_it_is_allowed(*, allowed: bool) -> None:
    """It may hold personal data: only a setting, the local stack or a trial lets it into the log, and never further."""
    agent = Agent("once", retry=RetryPolicy(attempts=2))

    @agent.on(InviteeCreated)
    async def fail_once(event: Event[InviteeCreated], ctx: Context) -> None:
        del event
        if ctx.attempt == 1:
            raise ValueError("no table crm" + "x" * MAX_MESSAGE_CHARACTERS)

    handling = Handling(
        agent,
        inbox=MemoryInbox(),
        chains=MemoryChains(),
        calls=MemoryCalls(),
        runs=Runs(agent, MemoryJournal(SystemClock()), SystemClock()),
        dead_letters=Trial(agent),
        problems=Problems("unit", get_logger("test")),
        clock=SystemClock(),
        pause=at_once,
        log_messages=allowed,
    )
    with capture_logs() as said:
        await handling.handle(record_of(invitee_created("k", 1)), asyncio.Event())
    [failed] = [each for each in said if each["event"] == "handler_failed"]
    if allowed:
        assert failed["message"].startswith("no table crm")
        assert len(failed["message"]) == MAX_MESSAGE_CHARACTERS
    else:
        assert "no table" not in repr(said)


async def at_once(stopping: asyncio.Event, seconds: float) -> bool:
    """Pause for no time."""
    del seconds
    return stopping.is_set()
