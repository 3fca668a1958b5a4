"""The public listener of `control`: the pages under `/oauth/calendly/` and `/approvals/`, and nothing else.

    GET  /oauth/calendly/start?ticket=…   a page with a button; changes nothing, because mail scanners open links
    HEAD /oauth/calendly/start?ticket=…   the same without the page
    POST /oauth/calendly/start            sets a cookie for one state, and sends the browser to Calendly
    GET  /oauth/calendly/callback         from Calendly: connected, or a page that says why not
    …    /approvals/link                  approval_listener

No address, cookie or form field is ever logged: tickets, codes and states are in them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from slotwire.ingest.control import approval_html, oauth_pages
from slotwire.ingest.control.approval_links import LinkStopped
from slotwire.ingest.control.approval_listener import ApprovalDesk, add_approval_routes, html_response, read_form
from slotwire.ingest.control.connect_links import CALLBACK, START
from slotwire.ingest.control.oauth_flow import MAX_VALUE, STATE_LIFE, Callback, ConnectFlow, FlowStopped, cookie_of
from slotwire.ingest.control.page_frame import failed_page, page_headers, plain_page
from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.agent_metrics import APPROVAL_PAGES
from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.defects import defect
from slotwire.ingest.foundation.listener import listen, within_open_files
from slotwire.ingest.foundation.oauth_settings import OAuthSettings
from slotwire.ingest.foundation.open_connections import ListenerLimits
from slotwire.ingest.foundation.telemetry import OAUTH_REQUESTS, get_logger

LIMITS = ListenerLimits(name="oauth", max_connections=256)
MAX_BODY_BYTES = 8_192
"""A longer form is refused with 413; ours have some 200 bytes."""
RUNNING = 16
"""Flows that ask Calendly at once; another one gets 503."""
ANSWER_SECONDS = 60.0
LATE_SECONDS = 60.0
"""How often grants that nobody asked for in time are revoked."""

_log = get_logger("oauth")
_FLOW = web.AppKey("flow", ConnectFlow)
_GATE = web.AppKey("gate", asyncio.Semaphore)
_INTEGRATOR = web.AppKey("integrator", str)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class PublicPages:
    """What the listener shows.

    Attributes:
        settings: of the listener.
        connecting: on which pages customers connect; None if there is no OAuth app.
        approvals: on which pages people decide; None if there is no address for them.
    """

    settings: OAuthSettings
    connecting: ConnectFlow | None = None
    approvals: ApprovalDesk | None = None


@asynccontextmanager
async def listening(pages: PublicPages) -> AsyncIterator[str | None]:
    """Listen while the block runs, and yield the address; None if there is no page.

    Raises:
        ConfigurationError: the port is in use or may not be opened.
    """
    if pages.connecting is None and pages.approvals is None:
        yield None
        return
    oauth, limits = pages.settings, within_open_files(LIMITS)
    async with listen(build_app(pages), oauth.host, oauth.port, setting="SLOTWIRE_OAUTH__PORT", limits=limits) as url:
        yield url


async def run(flow: ConnectFlow | None) -> None:
    """Revoke, again and again, grants that nobody asked for in time, until cancelled."""
    if flow is None:
        await asyncio.Event().wait()
    else:
        await repeat(flow.revoke_late, stage="late_grants", seconds=LATE_SECONDS)


def build_app(pages: PublicPages) -> web.Application:
    """Build the application."""
    app = web.Application(middlewares=[_pages], client_max_size=MAX_BODY_BYTES)
    app[_INTEGRATOR] = pages.settings.integrator
    if pages.approvals is not None:
        add_approval_routes(app, pages.approvals)
    if pages.connecting is not None:
        app[_FLOW] = pages.connecting
        app[_GATE] = asyncio.Semaphore(RUNNING)
        app.router.add_get(START, _start)  # and HEAD, with which mail scanners ask
        app.router.add_route("POST", START, _begin)
        app.router.add_route("GET", CALLBACK, _callback)
    return app


async def _start(request: web.Request) -> web.Response:
    flow = request.app[_FLOW]
    ticket = request.query.get("ticket", "")
    link = await flow.open_link(ticket)
    return html_response(200, oauth_pages.start_page(link, ticket, flow.settings.oauth.integrator, flow.links.base))


async def _begin(request: web.Request) -> web.Response:
    flow = request.app[_FLOW]
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        return html_response(403, plain_page("Open the link you got yourself"))
    begun = flow.begin(await flow.open_link((await read_form(request)).get("ticket", "")))
    answer = web.Response(status=303, headers={"Location": begun.address})
    answer.set_cookie(
        begun.cookie,
        begun.value,
        max_age=int(STATE_LIFE.total_seconds()),
        path=_cookie_path(flow),
        secure=True,
        httponly=True,
        samesite="Lax",
    )
    return answer


async def _callback(request: web.Request) -> web.Response:
    flow, query = request.app[_FLOW], request.query
    state = query.get("state", "")[:MAX_VALUE]
    cookie = cookie_of(state)
    back = Callback(
        state,
        query.get("code", "")[:MAX_VALUE],
        query.get("error", "")[:MAX_VALUE],
        query.get("iss"),
        request.cookies.get(cookie, "")[:MAX_VALUE],
    )
    gate = request.app[_GATE]
    if gate.locked():
        return html_response(503, failed_page())
    async with gate, asyncio.timeout(ANSWER_SECONDS):
        reached = await flow.finish(back)
    if isinstance(reached, str):
        answer = web.Response(status=303, headers={"Location": reached})
    else:
        answer = html_response(200, oauth_pages.live_page(reached, flow.settings.oauth.integrator))
    answer.del_cookie(cookie, path=_cookie_path(flow), secure=True, httponly=True, samesite="Lax")
    return answer


def _cookie_path(flow: ConnectFlow) -> str:
    return urlsplit(flow.links.base).path + "/oauth/calendly"


@web.middleware
async def _pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every outcome into a page with the headers of all pages, and count it."""
    integrator = request.app[_INTEGRATOR]
    response: web.StreamResponse
    try:
        response = await handler(request)
        outcome = "ok"
    except FlowStopped as stopped:
        response = html_response(*oauth_pages.problem_page(stopped.problem, integrator))
        outcome = stopped.problem.value
        _log.info("flow_stopped", reason=outcome)
    except LinkStopped as stopped:
        response = html_response(*approval_html.link_problem_page(stopped.problem))
        outcome = stopped.problem.value
        _log.info("approval_link_stopped", reason=outcome)
    except web.HTTPException as error:
        response, outcome = html_response(error.status, plain_page(error.reason)), str(error.status)
    except TimeoutError:
        response, outcome = html_response(503, failed_page()), "timeout"
    except SlotwireError as problem:
        _log.error("flow_failed", error=problem.message, remedy=problem.remedy)
        response, outcome = html_response(503, failed_page()), "failed"
    except Exception as error:  # noqa: BLE001 -- the edge: what is unknown is a page with an id, and the log has the rest
        failure = secrets.token_hex(8)
        _log.error("flow_broke", failure=failure, **defect(error))
        response, outcome = html_response(500, plain_page(f"Something failed on our side ({failure})")), "failed"
    flow = request.app.get(_FLOW)
    if flow is None or request.path.startswith("/approvals/"):
        APPROVAL_PAGES.labels(outcome).inc()
        response.headers.update(page_headers())
    else:
        OAUTH_REQUESTS.labels(outcome).inc()
        response.headers.update(oauth_pages.headers(flow.settings.calendly.auth_url))
    return response
