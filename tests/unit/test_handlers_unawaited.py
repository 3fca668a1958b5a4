"""A handler that forgets an `await` has failed: what it meant to do has not been done."""

from __future__ import annotations

import warnings
from typing import Literal

import pytest

from slotwire.handlers import Agent, Context
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.testing import RecordStatus, Trial
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import invitee_created


@pytest.mark.parametrize("action", ["default", "ignore", "error"])
async def test_a_handler_that_never_awaits_has_failed(action: Literal["default", "ignore", "error"]) -> None:
    """What it has not awaited has not been done, dropped at once or at its end; the next run is no worse for that.

    Also where a library that the handler uses turns warnings off, or into errors.
    """
    agent, runs = Agent("forgetful", retry=RetryPolicy(attempts=3)), list[int]()

    @agent.on(InviteeCreated)
    async def forget(event: Event[InviteeCreated], ctx: Context) -> None:
        del event
        warnings.simplefilter(action)
        runs.append(ctx.attempt)
        if ctx.attempt == 1:
            ctx.booking()  # type: ignore[unused-coroutine]  # the mistake
        elif ctx.attempt == 2:
            kept = ctx.booking()
            del kept

    trial = Trial(agent)
    first, second = await trial.deliver(invitee_created("k", 1), invitee_created("k", 2))
    assert (first.status, second.status, runs) == (RecordStatus.DONE, RecordStatus.DONE, [1, 2, 3, 1, 2, 3])
    trial = Trial(once := Agent("once", retry=RetryPolicy(attempts=1)))
    once.on(InviteeCreated)(forget)
    await trial.deliver(invitee_created("k", 1))
    reason = trial.dead_letters[0].why.reason
    assert reason.startswith("coroutine 'Context.booking' was never awaited: unit/test_handlers_unawaited.py:")
