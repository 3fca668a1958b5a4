"""Keeps when users can be booked, in a table and in the compacted topic `slotwire.availability`.

    slotwire agents run availability-sync

Bookings, cancellations and changed event types say what is to be read again; everything else is read again after a
while. A round a minute reads what is due, within its budget. docs/howto/keep-availability.md says how to set it up.

reading  pure: what is read at Calendly next, and what has changed
store    the table, as the one writer of an organization's epoch
feed     the topic, written by a producer that shuts out the one before
sync     a round: hold, list, read, write, publish
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from os import getpid
from socket import gethostname

from slotwire.handlers import Context, Done, Event, Retry
from slotwire.handlers.agents.availability_sync.reading import due
from slotwire.handlers.agents.availability_sync.store import TakenOver, changed_query, known_of, note_all_changed
from slotwire.handlers.agents.availability_sync.sync import Synced, sync_organization
from slotwire.handlers.firings import Firing
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.shipped.agent import ShippedAgent
from slotwire.ingest.foundation.agent_settings import AvailabilitySettings
from slotwire.ingest.foundation.errors import BrokerUnavailable, ControlUnavailable, RequestRefused
from slotwire.schemas.events import (
    ConnectionConnected,
    ConnectionRestored,
    ConnectionRevoked,
    EventTypeCreated,
    EventTypeDeleted,
    EventTypeUpdated,
    InviteeCanceled,
    InviteeCreated,
)

ROUND = timedelta(minutes=1)
END_AGAIN = timedelta(seconds=30)
"""When the end of a connection is tried again: of a removed organization no round would come."""

agent = ShippedAgent(
    "availability-sync",
    AvailabilitySettings,
    start="latest",
    retry=RetryPolicy(attempts=100),
    timeout_seconds=900,  # a round waits for its turns at Calendly
)


@agent.on(InviteeCreated, InviteeCanceled)
async def note_booking(event: Event[InviteeCreated] | Event[InviteeCanceled], ctx: Context) -> None:
    """Have a host's availability read again: a booking takes time from all of their event types."""
    meeting = event.data.scheduled_event
    hosts = () if meeting is None else (each.user for each in meeting.event_memberships)
    await _note(ctx, ((host, None) for host in hosts if host))


@agent.on(EventTypeCreated, EventTypeUpdated, EventTypeDeleted)
async def note_event_type(
    event: Event[EventTypeCreated] | Event[EventTypeUpdated] | Event[EventTypeDeleted], ctx: Context
) -> None:
    """Have event types listed again, and the changed one read."""
    await _note(ctx, ((None, event.data.uri),))


@agent.on(ConnectionConnected, ConnectionRestored)
async def note_connection(event: Event[ConnectionConnected] | Event[ConnectionRestored], ctx: Context) -> None:
    """Have event types listed again: what was out of reach may be within it."""
    del event
    await _note(ctx, ((None, None),))


@agent.on(ConnectionRevoked)
async def end_connection(event: Event[ConnectionRevoked], ctx: Context) -> Done | Retry:
    """Make a round at once: where nobody can read any more, tombstones say so. A removed organization has no other."""
    del event
    await note_all_changed(agent.stores.pool, ctx.clock, ctx.organization)
    return Done() if await _round(ctx) else Retry(END_AGAIN)


@agent.every(ROUND, missed="skip")
async def refresh(firing: Firing, ctx: Context) -> None:
    """Make a round, unless another process makes one."""
    del firing
    await _round(ctx)


async def _note(ctx: Context, changed: Iterable[tuple[str | None, str | None]]) -> None:
    async with ctx.transaction() as connection:
        for user, event_type in changed:
            await connection.execute(changed_query(), ctx.organization, user, event_type, ctx.clock.now())


async def _round(ctx: Context) -> bool:
    """Make a round; False where it came to no end: what is left is for the next one, a minute later."""
    settings, org = await agent.settings(ctx.organization), ctx.organization
    if settings is None or settings.dry_run:
        known = await known_of(agent.stores.pool, org)
        if settings is not None:
            agent.would(ctx, "keep availability", known=len(known), due=len(due(known, settings, ctx.clock.now())))
            return True
        if not known:
            return True
    writer = f"{gethostname()[:150]} {getpid()}"
    try:
        made = await sync_organization(
            *(org, ctx.calendly, agent.stores.pool, agent.stores.kafka, ctx.clock, settings), writer=writer
        )
    except TakenOver:
        return False
    except (BrokerUnavailable, ControlUnavailable, RequestRefused) as problem:
        # One organization's trouble is not the agent's: what is stale is shown, and nothing is lost.
        ctx.log.warning("not_synced", error=problem.in_one_line)
        return False
    if made is not None and made != Synced():
        ctx.log.info("synced", read=made.read, published=made.published, tombstones=made.tombstones)
    return made is not None
