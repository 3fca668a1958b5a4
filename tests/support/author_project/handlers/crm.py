"""Keeps the CRM's meetings in step with Calendly."""

from __future__ import annotations

from ingest.crm import start_of, store
from schemas.meeting import Meeting

from slotwire.handlers import Agent, Context, Done, Event, Reject, Retry
from slotwire.schemas.events import InviteeCanceled, InviteeCreated, InviteeRescheduled

agent = Agent("crm")


@agent.on(InviteeCreated)
async def remember(event: Event[InviteeCreated], ctx: Context) -> None:
    """Store a new meeting."""
    scheduled = event.data.scheduled_event
    async with ctx.transaction() as connection:
        await store(connection, Meeting(event.data.uri, scheduled.start_time if scheduled else None))


@agent.on(InviteeCanceled, InviteeRescheduled)
async def follow(event: Event[InviteeCanceled | InviteeRescheduled], ctx: Context) -> Done | Retry | Reject:
    """Reject a change of an unknown meeting."""
    async with ctx.transaction() as connection:
        if await start_of(connection, event.data.uri) is not None:
            return Done()
    return Retry(after=30) if ctx.attempt == 1 else Reject("the CRM does not know this meeting")
