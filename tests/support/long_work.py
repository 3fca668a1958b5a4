"""What tests of steps and waits need: a service outside, later events of a chain, a trial of one handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from slotwire.handlers import Agent, Context
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.testing import Trial, event_of
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import BookingState, InviteeCanceled, InviteeCreated

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Body = Callable[[Context], Awaitable[Any]]


class Outside:
    """Another service: which step called it, with which key; it fails as often as a test says."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.failing = 0

    def does(self, name: str, answer: object = None) -> Callable[[str], Awaitable[Any]]:
        """Return a step's function."""

        async def call(key: str) -> object:
            self.calls.append((name, key))
            if self.failing:
                self.failing -= 1
                raise ConnectionError(name)
            return answer

        return call


def canceled(key: str, sequence: int) -> Event[InviteeCanceled]:
    """Make an event of a chain: its cancellation."""
    uri = f"https://api.calendly.com/scheduled_events/E/invitees/{key}"
    state = BookingState(state="canceled", revision=sequence, chain_root=uri)
    return event_of(InviteeCanceled(uri=uri, booking=state), key=key, sequence=sequence)


def trial_of(body: Body, *, attempts: int = 3, version: str = "1", clock: ManualClock | None = None) -> Trial:
    """Make a trial of an agent whose handler of bookings does what a test says."""
    agent = Agent("crm", retry=RetryPolicy(attempts=attempts), version=version)

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> Any:
        del event
        return await body(ctx)

    return Trial(agent, clock=clock or ManualClock(START))
