"""The routes of the pages on which a person decides about what an agent asks for.

GET  /approvals/link?ticket=…   what is asked for, with two buttons; changes nothing, because mail scanners open links
HEAD /approvals/link?ticket=…   the same without the page
POST /approvals/link            decides, once

No address or form field is ever logged: tickets are in them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from aiohttp import web

from slotwire.ingest.control import approval_html
from slotwire.ingest.control.approval_links import PAGE, ApprovalLinks, DecisionWatcher
from slotwire.ingest.control.page_frame import plain_page
from slotwire.ingest.foundation.guarded_connection import connection_of

if TYPE_CHECKING:
    from collections.abc import Mapping

BODY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ApprovalDesk:
    """Where people decide.

    Attributes:
        links: their links.
        deciding: wraps each decision, so that the audit has it.
        integrator: who asks, as the pages say; empty: an agent.
    """

    links: ApprovalLinks
    deciding: DecisionWatcher
    integrator: str


_DESK = web.AppKey("desk", ApprovalDesk)


def add_approval_routes(app: web.Application, desk: ApprovalDesk) -> None:
    """Add the pages to an application."""
    app[_DESK] = desk
    app.router.add_get(PAGE, _show)  # and HEAD
    app.router.add_route("POST", PAGE, _decide)


async def _show(request: web.Request) -> web.Response:
    desk, ticket = request.app[_DESK], request.query.get("ticket", "")
    asked = await desk.links.find(ticket)
    desk.links.require_open(asked)
    return html_response(200, approval_html.ask_page(asked, ticket, desk.integrator, desk.links.base))


async def _decide(request: web.Request) -> web.Response:
    desk = request.app[_DESK]
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        return html_response(403, plain_page("Open the link you got yourself"))
    form = await read_form(request)
    asked = await desk.links.find(form.get("ticket", ""))
    decision = form.get("decision")
    if decision not in {"approve", "deny"}:
        return html_response(400, plain_page("Open the link again, and press one of its buttons"))
    async with desk.deciding(asked.link_id, asked.org, asked.approval_id):
        await desk.links.decide(asked, form.get("digest", ""), approved=decision == "approve")
    return html_response(200, approval_html.decided_page(approved=decision == "approve"))


async def read_form(request: web.Request) -> Mapping[str, str]:
    """Read the fields of a form, the first of each name.

    Raises:
        TimeoutError: it has not arrived in `BODY_SECONDS`.
    """
    with connection_of(request).awaiting_body(request):
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
    return {name: values[0] for name, values in parse_qs(body.decode("ascii", "replace")).items()}


def html_response(status: int, text: str) -> web.Response:
    """Make the response with a page."""
    return web.Response(status=status, text=text, content_type="text/html")
