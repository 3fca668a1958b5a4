"""Pages and query parameters of Calendly's list calls. Source: docs/reference/calendly.md, "REST".

`next_page` and `previous_page` have the simulator's own address, so that a client can follow them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import orjson
from aiohttp import web

from slotwire.ingest.simulator.bookings import PageOrder, PagePosition
from slotwire.ingest.simulator.gate import json_answer
from slotwire.ingest.simulator.model import API, Json
from slotwire.ingest.simulator.problems import invalid

T = TypeVar("T")
DEFAULT_COUNT = 20
MAX_COUNT = 100


def ident_of(request: web.Request, parameter: str, kind: str) -> str | None:
    """Return the id in a query parameter that holds a URI, or None if the parameter is missing.

    Raises:
        SimulatedRefusal: 400, the value is not the URI of a resource of this kind.
    """
    value = request.query.get(parameter)
    return None if value is None else ident_in(value, parameter, kind)


def ident_in(value: object, parameter: str, kind: str) -> str:
    """Return the id in the URI of a resource.

    Raises:
        SimulatedRefusal: 400, the value is not the URI of a resource of this kind.
    """
    head = f"{API}/{kind}/"
    if not isinstance(value, str) or not value.startswith(head) or "/" in value[len(head) :] or value == head:
        raise invalid((parameter, f"must be a URI like {head}{{uuid}}"))
    return value[len(head) :]


def moment_of(request: web.Request, parameter: str) -> datetime | None:
    """Return a time in a query parameter.

    Raises:
        SimulatedRefusal: 400, the value is not an ISO 8601 time with an offset.
    """
    value = request.query.get(parameter)
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise invalid((parameter, "must be a time like 2026-01-02T03:04:05.000000Z"))
    return found


def choice_of(request: web.Request, parameter: str, choices: Sequence[str]) -> str | None:
    """Return a query parameter that may only have certain values.

    Raises:
        SimulatedRefusal: 400, the value is not one of `choices`.
    """
    value = request.query.get(parameter)
    if value is not None and value not in choices:
        raise invalid((parameter, f"must be one of: {', '.join(choices)}"))
    return value


def order_of(request: web.Request, sort: str) -> PageOrder:
    """Return the page that a request asks for; `sort` is the only field to sort by.

    Raises:
        SimulatedRefusal: 400, a count outside 1 to 100, an unknown sort or an unknown page token.
    """
    count = request.query.get("count", str(DEFAULT_COUNT))
    if not count.isdecimal() or not 1 <= int(count) <= MAX_COUNT:
        raise invalid(("count", f"must be between 1 and {MAX_COUNT}"))
    falling = choice_of(request, "sort", (f"{sort}:asc", f"{sort}:desc")) == f"{sort}:desc"
    order = PageOrder(int(count), falling)
    token = request.query.get("page_token")
    if token is None:
        return order
    try:
        back, key, ident = orjson.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, orjson.JSONDecodeError, ValueError, TypeError):
        raise invalid(("page_token", "is invalid")) from None
    return replace(order, position=PagePosition(key, ident), backward=bool(back))


def page(
    request: web.Request,
    order: PageOrder,
    fetch: Callable[[PageOrder], list[T]],
    position: Callable[[T], PagePosition],
    show: Callable[[T], Json],
) -> web.Response:
    """Return the page that `fetch` finds, with the links to its neighbours."""
    rows = fetch(replace(order, count=order.count + 1))
    more = len(rows) > order.count
    rows = rows[-order.count :] if order.backward else rows[: order.count]
    has_next = order.backward or more
    has_previous = more if order.backward else order.position is not None
    next_token = _token(False, position(rows[-1])) if rows and has_next else None
    previous_token = _token(True, position(rows[0])) if rows and has_previous else None
    pagination: Json = {
        "count": len(rows),
        "next_page": _link(request, next_token),
        "previous_page": _link(request, previous_token),
        "next_page_token": next_token,
        "previous_page_token": previous_token,
    }
    return json_answer({"collection": [show(row) for row in rows], "pagination": pagination})


def page_of_list(
    request: web.Request, rows: Sequence[T], show: Callable[[T], Json], sort: str = "created_at"
) -> web.Response:
    """Return a page of a short, sorted list; a page token holds a position in the list."""
    order = order_of(request, sort)
    ranked = list(enumerate(rows if not order.descending else list(reversed(rows)), start=1))

    def fetch(wanted: PageOrder) -> list[tuple[int, T]]:
        at = int(wanted.position.key) if wanted.position else 0
        if wanted.backward:
            return [each for each in ranked if each[0] < at][-wanted.count :]
        return [each for each in ranked if each[0] > at][: wanted.count]

    return page(request, order, fetch, lambda each: PagePosition(each[0], ""), lambda each: show(each[1]))


def _token(back: bool, position: PagePosition) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([back, position.key, position.ident])).decode()


def _link(request: web.Request, token: str | None) -> str | None:
    return str(request.url.update_query(page_token=token)) if token else None
