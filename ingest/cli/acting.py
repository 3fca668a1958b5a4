"""How commands act: options are checked like a request, then one operation runs on the database of the settings.

Heavy modules are imported inside functions here and in every command, so that `slotwire --help` stays under 0.3 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from slotwire.ingest.operate.roles import COMMAND_LINE

if TYPE_CHECKING:
    from pydantic import BaseModel

    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.models import PageQuery
    from slotwire.ingest.operate.roles import Principal

    M = TypeVar("M", bound=BaseModel)
    Q = TypeVar("Q", bound=PageQuery)

T = TypeVar("T")
Item_co = TypeVar("Item_co", covariant=True)


class PageOf(Protocol[Item_co]):
    """One page of a list."""

    @property
    def items(self) -> tuple[Item_co, ...]:
        """The items on it."""

    @property
    def next_cursor(self) -> str | None:
        """The cursor of the next page; None on the last one."""


def checked(form: type[M], **options: object) -> M:
    """Check options the way the management API checks a request.

    Raises:
        RequestRefused: one does not fit; the error names it, without its value.
    """
    from pydantic import ValidationError

    from slotwire.ingest.errors import RequestRefused
    from slotwire.ingest.operate.problems import invalid

    try:
        return form.model_validate(options)
    except ValidationError as error:
        places = "; ".join(invalid("option_invalid", error).errors)
        raise RequestRefused(places, code="option_invalid", remedy="See the command's --help.") from None


async def read_pages(
    read: Callable[[Q], Awaitable[PageOf[Item_co]]], first: Q, *, limit: int | None = None
) -> list[Item_co]:
    """Read a list page after page.

    Args:
        read: reads the page of a query.
        first: the query of the first page.
        limit: the most items to return; None for all.
    """
    page = await read(first)
    found = list(page.items)
    while page.next_cursor is not None and (limit is None or len(found) < limit):
        page = await read(first.model_copy(update={"cursor": page.next_cursor}))
        found += page.items
    return found[:limit]


def act(command: str, work: Callable[[Actions, Principal], Awaitable[T]]) -> T:
    """Run one piece of work on the database of the settings, with the rights of a command.

    Args:
        command: the command's name, for logs and for Postgres.
        work: gets the operations, and the principal that commands act as: whoever has the database's address may do
            everything with it anyway.
    """

    async def main() -> T:
        async with _operating(command) as actions:
            return await work(actions, COMMAND_LINE)

    return asyncio.run(main())


def act_until_stopped(command: str, work: Callable[[Actions, Principal, asyncio.Event], Awaitable[None]]) -> None:
    """Run work as `act` does, until it ends or somebody interrupts it.

    Args:
        command: as for `act`.
        work: as for `act`; gets as its third argument the event that an interrupt sets.
    """
    from slotwire.ingest.foundation.lifecycle import run

    async def main(stop: asyncio.Event) -> None:
        async with _operating(command) as actions:
            await work(actions, COMMAND_LINE, stop)

    run(main)


def list_items(
    command: str,
    read: Callable[[Actions, Principal, Q], Awaitable[PageOf[Item_co]]],
    form: type[Q],
    *,
    limit: int | None = None,
    **filters: object,
) -> list[Item_co]:
    """Run a `list` operation and return the items of all its pages.

    Args:
        command: as for `act`.
        read: the operation.
        form: the operation's query.
        limit: the most items to return; None for all.
        filters: the query's other fields, as the options gave them.

    Raises:
        RequestRefused: a filter does not fit.
    """
    from slotwire.ingest.operate.cursors import MAX_PAGE

    first = checked(form, **filters, limit=MAX_PAGE if limit is None else min(limit, MAX_PAGE))
    return act(command, lambda actions, who: read_pages(partial(read, actions, who), first, limit=limit))


@asynccontextmanager
async def _operating(command: str) -> AsyncIterator[Actions]:
    from slotwire.ingest.foundation.clock import clock_of
    from slotwire.ingest.foundation.log_output import configure_logging
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.operate.process import operating

    settings = load_settings()
    configure_logging(settings.log, process=command)
    async with operating(settings, clock_of(settings), application=command) as actions:
        yield actions
