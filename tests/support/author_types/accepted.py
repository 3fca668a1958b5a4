"""Handlers as authors write them. Type checkers accept all of them, and so does the import of this module."""

from __future__ import annotations

from typing import Any, TypeAlias

from slotwire.handlers import Agent, Context, DatabaseConnection, DatabaseRow, Done, Event, Reject, Retry
from slotwire.handlers.policy import GiveUpLimit, RetryPolicy
from slotwire.handlers.testing import RecordResult, RecordStatus, Trial, event_of
from slotwire.schemas.events import (
    EVENT_CLASSES,
    BookingState,
    ContactCreated,
    ContactDeleted,
    ContactUpdated,
    EventData,
    InviteeCanceled,
    InviteeCreated,
    InviteeNoShowCreated,
    InviteeNoShowDeleted,
    InviteeRescheduled,
    ResourceEvent,
)

Booking: TypeAlias = InviteeCreated | InviteeCanceled

one = Agent("one", retry=RetryPolicy(attempts=3), limit=GiveUpLimit(run=2), timeout_seconds=5)
two = Agent("two")
three = Agent("three")
four = Agent("four")
five = Agent("five")


@one.on(InviteeCanceled)
async def one_class(event: Event[InviteeCanceled], ctx: Context) -> Done | Retry | Reject | None:
    """Take one class, and return each outcome."""
    if event.data.rescheduled:
        return Retry(after=30)
    return Reject("no") if ctx.attempt > 1 else None


@one.on(InviteeCreated)
async def with_transaction(event: Event[InviteeCreated], ctx: Context) -> None:
    """Use everything the connection has."""
    async with ctx.transaction() as connection:
        await connection.executemany("INSERT INTO t VALUES ($1)", [(event.data.uri,), (event.subject,)])
        async with connection.transaction():
            await connection.execute("DELETE FROM t WHERE a = $1", event.data.uri)
        rows: list[str] = [row["a"] for row in await connection.fetch("SELECT a FROM t")]
        row = await first(connection)
        number: int = await connection.fetchval("SELECT count(*) FROM t")
        ctx.log.info("stored", rows=len(rows), number=number, first=row["a"] if row else None)


async def first(connection: DatabaseConnection) -> DatabaseRow | None:
    """Return the first row."""
    return await connection.fetchrow("SELECT a FROM t")


@one.on(ContactCreated, ContactUpdated, ContactDeleted)
async def base_class(event: Event[ResourceEvent], ctx: Context) -> None:
    """Take a common base of the classes."""
    ctx.log.info("contact", known=bool(event.data.uri))


@two.on(InviteeCreated, InviteeCanceled)
async def union_of_data(event: Event[InviteeCreated | InviteeCanceled], ctx: Context) -> Done:
    """Take several classes as a union inside."""
    ctx.log.info("booking", questions=len(event.data.questions_and_answers))
    return Done()


@three.on(InviteeCreated, InviteeCanceled)
async def union_of_events(event: Event[InviteeCreated] | Event[InviteeCanceled], ctx: Context) -> Done:
    """Take several classes as a union outside."""
    ctx.log.info("booking", questions=len(event.data.questions_and_answers))
    return Done()


@four.on(InviteeCreated, InviteeCanceled)
@five.on(InviteeCreated, InviteeCanceled)
async def alias(event: Event[Booking], ctx: Context) -> None:
    """Take an alias, for two agents."""
    ctx.log.info("booking", state=event.data.booking.state)


@four.on(InviteeRescheduled)
async def wider_than_registered(event: Event[InviteeRescheduled | InviteeCreated], ctx: Context) -> None:
    """Take more than is registered."""
    ctx.log.info("booking", state=event.data.booking.state)


@four.on(InviteeNoShowCreated, InviteeNoShowDeleted, where=lambda event: event.data.booking.revision > 0)
async def anything(event: Event[Any], ctx: Context) -> None:
    """Take every event, without types."""
    ctx.log.info("no-show", state=event.data.booking.state)


everything = Agent("everything")


@everything.on(*EVENT_CLASSES)
async def every_class(event: Event[EventData], ctx: Context) -> None:
    """Take every event."""
    ctx.log.info("event", kind=event.data.type)


async def try_it() -> RecordResult:
    """Try an agent in memory, and call a handler directly."""
    booking = BookingState(state="active", revision=1, chain_root="r")
    (result,) = await Trial(two).deliver(event_of(InviteeCreated(uri="u", booking=booking)))
    assert result.status is RecordStatus.DONE
    return result


async def call_it(event: Event[InviteeCreated], ctx: Context) -> Done:
    """A decorated handler still is one, with the type of what it returns."""
    return await union_of_data(event, ctx)
