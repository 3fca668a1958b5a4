"""An agent that writes who was booked and when its handler began, a line each: `<invitee> <monotonic seconds>`."""

from __future__ import annotations

import sys
import time

from slotwire.handlers import Agent, Context
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from slotwire.schemas.ids import last_segment

agent = Agent("bench")


@agent.on(InviteeCreated)
async def note(event: Event[InviteeCreated], ctx: Context) -> None:
    """Write down the moment."""
    began = time.monotonic()
    sys.stdout.write(f"{last_segment(event.data.uri)} {began}\n")
    sys.stdout.flush()
