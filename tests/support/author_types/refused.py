"""Mistakes of authors. Each line that ends in `# refused: …` is an error for mypy and for pyright, with these codes."""

from __future__ import annotations

from slotwire.handlers import Agent, Context, Done, Event
from slotwire.schemas.events import (
    EVENT_CLASSES,
    ContactCreated,
    ContactUpdated,
    InviteeCanceled,
    InviteeCreated,
    ResourceEvent,
)

agent = Agent("refused")


@agent.on(InviteeCanceled)  # refused: arg-type, reportArgumentType
async def another_class(event: Event[InviteeCreated], ctx: Context) -> None:
    """Take another class than is registered."""


@agent.on(InviteeCreated, InviteeCanceled)  # refused: arg-type, reportArgumentType
async def one_of_two(event: Event[InviteeCreated], ctx: Context) -> None:
    """Leave out one of the registered classes."""


@agent.on(InviteeCreated, InviteeCanceled)  # refused: arg-type, reportArgumentType
async def another_union(event: Event[InviteeCreated] | Event[ContactCreated], ctx: Context) -> None:
    """Leave out one of the registered classes, and take another one."""


@agent.on(ContactCreated, ContactUpdated, InviteeCreated)  # refused: arg-type, reportArgumentType
async def base_of_some(event: Event[ResourceEvent], ctx: Context) -> None:
    """Take a base of some of the registered classes."""


@agent.on(*EVENT_CLASSES)  # refused: arg-type, reportArgumentType
async def one_of_all(event: Event[InviteeCreated], ctx: Context) -> None:
    """Take one of all classes."""


@agent.on(InviteeCanceled)  # refused: arg-type, reportArgumentType
async def data_without_event(data: InviteeCanceled, ctx: Context) -> None:
    """Take the data instead of the event."""


@agent.on(InviteeCanceled)  # refused: arg-type, reportArgumentType
async def without_context(event: Event[InviteeCanceled]) -> None:
    """Take one parameter only."""


@agent.on(InviteeCanceled)  # refused: arg-type, reportArgumentType
def not_async(event: Event[InviteeCanceled], ctx: Context) -> None:
    """Be an ordinary function."""


@agent.on(InviteeCanceled)  # refused: type-var, reportArgumentType
async def wrong_result(event: Event[InviteeCanceled], ctx: Context) -> bool:
    """Return something that is no outcome."""
    return True


@agent.on(str)  # refused: type-var, arg-type, reportCallIssue, reportArgumentType
async def not_an_event(event: Event[InviteeCanceled], ctx: Context) -> None:
    """Register for a class that is no event."""


@agent.on(InviteeCanceled)
async def wrong_uses(event: Event[InviteeCanceled], ctx: Context) -> Done:
    """Use event, context and connection wrongly."""
    by = event.data.cancelled_by  # refused: attr-defined, reportAttributeAccessIssue
    tries = ctx.tries  # refused: attr-defined, reportAttributeAccessIssue
    async with ctx.transaction() as connection:
        await connection.run("DELETE FROM t")  # refused: attr-defined, reportAttributeAccessIssue
        await connection.execute(1)  # refused: arg-type, reportArgumentType
        status: int = await connection.execute("DELETE FROM t")  # refused: assignment, reportAssignmentType
        row = await connection.fetchrow("SELECT 1")
        first = row["a"]  # refused: index, reportOptionalSubscript
    return Done(status, by, tries, first)  # refused: call-arg, reportCallIssue
