"""How commands act: options checked like a request, one action, on the database of the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.models import PageQuery

    M = TypeVar("M", bound=BaseModel)
    Q = TypeVar("Q", bound=PageQuery)

T = TypeVar("T")
Item_co = TypeVar("Item_co", covariant=True)


class PageOf(Protocol[Item_co]):
    """One page of a list."""

    @property
    def items(self) -> tuple[Item_co, ...]:
        """What is on it."""

    @property
    def next_cursor(self) -> str | None:
        """Leads to the next one; None on the last."""


def checked(form: type[M], **options: object) -> M:
    """Check options the way the management API checks a request.

    Raises:
        RequestRefused: one does not fit; it says which, and not what it held.
    """
    from pydantic import ValidationError

    from slotwire.ingest.errors import RequestRefused
    from slotwire.ingest.operate.problems import invalid

    try:
        return form.model_validate(options)
    except ValidationError as error:
        places = "; ".join(invalid("option_invalid", error).errors)
        raise RequestRefused(places, code="option_invalid", remedy="See the command's --help.") from None


async def every_item(
    read: Callable[[Q], Awaitable[PageOf[Item_co]]], first: Q, *, limit: int | None = None
) -> list[Item_co]:
    """Read a list page after page.

    Args:
        read: a verb that lists, given one page's query.
        first: the query of the first page.
        limit: how many at the most; None for all.
    """
    page = await read(first)
    found = list(page.items)
    while page.next_cursor is not None and (limit is None or len(found) < limit):
        page = await read(first.model_copy(update={"cursor": page.next_cursor}))
        found += page.items
    return found[:limit]


def act(command: str, work: Callable[[Actions], Awaitable[T]]) -> T:
    """Run one piece of work with the rights of whoever has the database's address.

    Args:
        command: the command's name, for logs and for Postgres.
        work: gets the verbs.
    """
    import asyncio

    from slotwire.ingest.foundation.clock import SystemClock
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.foundation.telemetry import configure_logging
    from slotwire.ingest.operate.process import operating

    settings = load_settings()
    configure_logging(settings.log, process=command)

    async def main() -> T:
        async with operating(settings, SystemClock(), application=command) as actions:
            return await work(actions)

    return asyncio.run(main())
