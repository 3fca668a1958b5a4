"""Lists at Calendly: all pages of a list as one iterator. Source: docs/reference/calendly.md, "REST", pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict

from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.errors import CalendlyError, CalendlyProblem

M = TypeVar("M", bound=BaseModel)

PAGE_SIZE = 100
"""Items per page: the most Calendly allows."""
MAX_TOKEN = 4_000
"""Characters of a page's token: it becomes a part of an address."""
MAX_PAGES = 1_000
"""A longer list fails: ask for a shorter time range, or for one host."""


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
    asked = {name: value for name, value in query.items() if value is not None} | {"count": str(PAGE_SIZE)}
    for _ in range(MAX_PAGES):
        found = await calendly.get(path, page, doing=doing, query=asked)
        for item in found.collection:
            yield item
        token = _next_token(found.pagination, doing)
        if token is None:
            return
        if token == asked.get("page_token"):
            raise CalendlyError(
                f"{doing}: a page of the list leads back to itself",
                problem=CalendlyProblem.UNEXPECTED,
                remedy="Try again later.",
            )
        asked["page_token"] = token
    raise CalendlyError(
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
