"""An agent for tests of the whole way: writes each of Calendly's events into the table `ledger`, in its transaction."""

from __future__ import annotations

from typing import Any

from slotwire.handlers import Agent, Context, Done
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import EVENT_CLASSES
from slotwire.schemas.topics import OPERATIONS

agent = Agent("ledger")


@agent.on(*(kind for kind in EVENT_CLASSES if kind.topic is not OPERATIONS))
async def write_down(event: Event[Any], ctx: Context) -> Done:
    """Write the event down once; the table has no key that would hide a second time."""
    async with ctx.transaction() as connection:
        await connection.execute(
            "INSERT INTO public.ledger (event_id, key, sequence) VALUES ($1, $2, $3)",
            event.id,
            event.key,
            event.sequence,
        )
    return Done()
