"""Lists at Calendly: all pages of a list as one iterator. Source: docs/reference/calendly.md, "REST", pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, RootModel

from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.errors import CalendlyError, CalendlyProblem

M = TypeVar("M", bound=BaseModel)

PAGE_SIZE = 100
"""Items per page: the most Calendly allows."""
MAX_TOKEN = 4_000
"""Characters of a page's token: it becomes a part of an address."""
MAX_PAGES = 1_000
"""A longer list fails: ask for a shorter time range, or for one host."""
_TOKEN_REFUSED = frozenset({CalendlyProblem.INVALID, CalendlyProblem.NOT_FOUND})


class _Pagination(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    next_page_token: str | None = None
    next_page: str | None = None

    @property
    def next_token(self) -> str | None:
        """The next page's token. Older answers carry it only inside a URL, whose host is ignored.

        Raises:
            ValueError: the URL cannot be read.
        """
        held = parse_qs(urlsplit(self.next_page or "").query).get("page_token", ())
        return self.next_page_token or next(iter(held), None)


class ResourcePage(BaseModel, Generic[M]):
    """One page of a list."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    collection: tuple[M, ...]
    pagination: _Pagination = _Pagination()


class Document(RootModel[Any]):
    """An item of a list as it came, whatever it is: one that cannot be read costs no other."""


class PageRefused(CalendlyError):
    """Calendly does not take the token of a page any more: the list must be begun again, from a later place."""


async def documents(
    calendly: CalendlyTransport, path: str, *, doing: str, query: Mapping[str, str | Sequence[str] | None]
) -> AsyncIterator[tuple[Any, ...]]:
    """Read a list to its end as `every` does, a page at a time, with each item as it came.

    Raises:
        PageRefused: the next page was refused.
        CalendlyError: as `every`.
    """
    asked = _asked(query)
    for _ in range(MAX_PAGES):
        try:
            found = await calendly.get(path, ResourcePage[Document], doing=doing, query=asked)
        except CalendlyError as error:
            if "page_token" in asked and error.problem in _TOKEN_REFUSED:
                raise PageRefused(
                    error.message, problem=error.problem, status=error.status, remedy=error.remedy
                ) from error
            raise
        yield tuple(each.root for each in found.collection)
        if not _turned(asked, found.pagination, doing):
            return
    raise _endless(doing)


async def every(
    calendly: CalendlyTransport, path: str, page: type[ResourcePage[M]], *, doing: str, query: Mapping[str, str | None]
) -> AsyncIterator[M]:
    """Read a list to its end, one page at a time as the caller iterates.

    Args:
        calendly: the transport of a token.
        path: the list's path.
        page: the type of a page.
        doing: what is attempted, for messages.
        query: parameters by Calendly's names; those that are None are left out.

    Raises:
        CalendlyError: see `CalendlyProblem`; `unexpected` when a page leads back to itself or to no page, or after
            MAX_PAGES.
    """
    asked = _asked(query)
    for _ in range(MAX_PAGES):
        found = await calendly.get(path, page, doing=doing, query=asked)
        for item in found.collection:
            yield item
        if not _turned(asked, found.pagination, doing):
            return
    raise _endless(doing)


def _asked(query: Mapping[str, str | Sequence[str] | None]) -> dict[str, str | Sequence[str]]:
    return {name: value for name, value in query.items() if value is not None} | {"count": str(PAGE_SIZE)}


def _turned(asked: dict[str, str | Sequence[str]], pagination: _Pagination, doing: str) -> bool:
    """Ask for the next page from now on; return whether there is one."""
    token = _next_token(pagination, doing)
    if token is None:
        return False
    if token == asked.get("page_token"):
        raise CalendlyError(
            f"{doing}: a page of the list leads back to itself",
            problem=CalendlyProblem.UNEXPECTED,
            remedy="Try again later.",
        )
    asked["page_token"] = token
    return True


def _endless(doing: str) -> CalendlyError:
    return CalendlyError(
        f"{doing}: the list has not ended after {MAX_PAGES} pages",
        problem=CalendlyProblem.UNEXPECTED,
        remedy="Ask for a shorter time range, or for one host.",
    )


def moment(time: datetime | None) -> str | None:
    """Write a time (with its offset) as Calendly does: UTC, microseconds, `Z`."""
    return None if time is None else f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _next_token(pagination: _Pagination, doing: str) -> str | None:
    try:
        token = pagination.next_token
    except ValueError:
        token = ""
    if token is None or 0 < len(token) <= MAX_TOKEN:
        return token
    raise CalendlyError(
        f"{doing}: a page of the list names a next page that cannot be read",
        problem=CalendlyProblem.UNEXPECTED,
        remedy="Try again later.",
    )
