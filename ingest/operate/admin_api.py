"""The management API over HTTP: authentication, limits, idempotency, and every error as problem+json.

Nothing here is specific to a route; routes are in `routes/`. No request, key or token is ever logged.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import orjson
from aiohttp import hdrs, web

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.control_client import ACTS, CALLS, MCP_ACTS, MCP_CALLS
from slotwire.ingest.foundation.guarded_connection import connection_of
from slotwire.ingest.foundation.refused_addresses import RefusedAddresses
from slotwire.ingest.foundation.telemetry import ADMIN_REQUESTS
from slotwire.ingest.operate import idempotency
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.actions.granted_calls import CallGrant
from slotwire.ingest.operate.actions.mcp_calls import McpGrant
from slotwire.ingest.operate.calendly_models import GrantedAction, GrantedCall, McpCall
from slotwire.ingest.operate.models import Problem, encode
from slotwire.ingest.operate.openapi import document
from slotwire.ingest.operate.problems import problem_of
from slotwire.ingest.operate.roles import Principal
from slotwire.ingest.operate.routes import ROUTES
from slotwire.ingest.operate.routes.base import ORG_FORM, Route, RouteRequest

MAX_BODY_BYTES = 65_536
"""A longer body is refused with 413. The largest valid one has about 30,000."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many requests run at once, and for how long.

    Attributes:
        running: requests that run at once; another one gets 503.
        body_seconds: a body that has not arrived after this time gets 408.
        answer_seconds: a request that runs longer gets 503. Calendly may be slow, and is asked twice.
        refusals: bad keys of one address in a minute that are refused at once.
        refusal_seconds: another one is refused after this time.
        refusals_waiting: how many wait for that at once; another one gets 429.
        pause: waits so many seconds.
    """

    running: int = 64
    body_seconds: float = 10.0
    answer_seconds: float = 90.0
    refusals: int = 30
    refusal_seconds: float = 1.0
    refusals_waiting: int = 500
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep


_LIMITS = web.AppKey("limits", Limits)
_GATE = web.AppKey("gate", asyncio.Semaphore)
_ACTIONS = web.AppKey("actions", Actions)
_REFUSED = web.AppKey("refused", RefusedAddresses)
_ORG = re.compile(ORG_FORM, re.ASCII)
_JSON = "application/json"
_PROBLEM = "application/problem+json"
_SAFE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Grant = TypeVar("Grant", CallGrant, McpGrant)


def build_app(actions: Actions, limits: Limits | None = None) -> web.Application:
    """Build the application from the table of routes."""
    app = web.Application(middlewares=[_problems], client_max_size=MAX_BODY_BYTES)
    app[_ACTIONS] = actions
    app[_LIMITS] = limits or Limits()
    app[_GATE] = asyncio.Semaphore(app[_LIMITS].running)
    app[_REFUSED] = _refused_addresses(app[_LIMITS])
    for route in ROUTES:
        # No HEAD: it would cost as much as the list itself.
        app.router.add_route(route.method, _pattern(route.path), _serve(route))
    app.router.add_route("POST", CALLS, _granted(actions.granted_calls.find, _granted_call))
    app.router.add_route("POST", ACTS, _granted(actions.granted_calls.find, _granted_action))
    app.router.add_route("POST", MCP_CALLS, _granted(actions.mcp_calls.find, _mcp_call))
    app.router.add_route("POST", MCP_ACTS, _granted(actions.mcp_calls.find, _mcp_action))
    described = orjson.dumps(document(), option=orjson.OPT_INDENT_2)

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=described, content_type=_JSON)

    app.router.add_route("GET", "/openapi.json", openapi)
    return app


def _granted(
    find: Callable[[str], Awaitable[Grant | None]], run: Callable[[Actions, Grant, bytes], Awaitable[object]]
) -> Handler:
    """Serve what an agent asks for. It comes with a grant in place of a key, which opens nothing else."""

    async def serve(request: web.Request) -> web.Response:
        actions = request.app[_ACTIONS]
        scheme, _, secret = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        grant = await find(secret.strip()) if scheme.lower() == "bearer" else None
        if grant is None:
            await request.app[_REFUSED].refuse(request.remote)
            raise RequestRefused("there is no such grant, or it has ended", code="unauthenticated")
        gate = request.app[_GATE]
        if gate.locked():
            raise RequestRefused("too many requests at once", code="too_busy", remedy="Try again in a moment.")
        async with gate:
            answer = await run(actions, grant, await _read_body(request))
            return web.Response(body=orjson.dumps({"answer": answer}), content_type=_JSON)

    return serve


async def _granted_call(actions: Actions, grant: CallGrant, body: bytes) -> object:
    return await actions.granted_calls.call(grant, GrantedCall.model_validate_json(body))


async def _granted_action(actions: Actions, grant: CallGrant, body: bytes) -> object:
    wanted = await actions.granted_calls.intended(grant, GrantedAction.model_validate_json(body))
    item, _ = await actions.performed.create(actions.granted_calls.caller(grant), wanted)
    return item.model_dump(mode="json")


async def _mcp_call(actions: Actions, grant: McpGrant, body: bytes) -> object:
    return await actions.mcp_calls.call(grant, McpCall.model_validate_json(body))


async def _mcp_action(actions: Actions, grant: McpGrant, body: bytes) -> object:
    item = await actions.mcp_calls.act(grant, GrantedAction.model_validate_json(body), actions.performed)
    return item.model_dump(mode="json")


def _pattern(path: str) -> str:
    """Return a path as the router takes it: an `{id}` stands for no word that is a path of its own beside it."""
    before, found, after = path.rpartition("{id}")
    if not found or after:
        return path
    words = {
        re.escape(other.path.removeprefix(before))
        for other in ROUTES
        if other.path.startswith(before) and not set("/{") & set(other.path.removeprefix(before))
    }
    return f"{before}{{id:(?!(?:{'|'.join(sorted(words))})$)[^/]+}}" if words else path


def _refused_addresses(limits: Limits) -> RefusedAddresses:
    return RefusedAddresses(limits.refusals, limits.refusal_seconds, limits.refusals_waiting, pause=limits.pause)


def _serve(route: Route) -> Handler:
    async def serve(request: web.Request) -> web.Response:
        who = await _authenticate(request, request.app[_ACTIONS])
        gate = request.app[_GATE]  # after the key, so that unknown ones take nobody's place
        if gate.locked():
            raise RequestRefused("too many requests at once", code="too_busy", remedy="Try again in a moment.")
        async with gate:
            return await _carry_out(route, request, who)

    return serve


async def _carry_out(route: Route, request: web.Request, who: Principal) -> web.Response:
    actions = request.app[_ACTIONS]
    await _admit(who, route, request)
    routed = RouteRequest(who, _path(request), _parameters(request), await _body(request, route))
    sent = request.headers.getall(idempotency.HEADER, ()) if route.repeatable else ()
    key = idempotency.checked_key(sent)
    if key is None:
        return await _run(route, actions, routed)
    return await _run_once(route, request, routed, key)


async def _run(route: Route, actions: Actions, routed: RouteRequest) -> web.Response:
    answer = await route.run(actions, routed)
    return web.Response(body=encode(answer.content), status=answer.status, content_type=_JSON)


async def _run_once(route: Route, request: web.Request, routed: RouteRequest, key: str) -> web.Response:
    """Carry out a request, or return the response it got before.

    Responses of 2xx and 4xx are stored, but for those that say to wait: the same request is to be sent again then.
    """
    actions = request.app[_ACTIONS]
    if routed.who.key_id is None:  # pragma: no cover - every caller over HTTP has one
        raise AssertionError
    wanted = idempotency.fingerprint(request.method, request.raw_path, routed.body)
    claim = await actions.idempotency.claim(routed.who.key_id, key, wanted)
    if isinstance(claim, idempotency.StoredResponse):
        kind = _JSON if claim.status < 400 else _PROBLEM
        headers = {idempotency.REPLAYED: "true"}
        return web.Response(body=claim.body, status=claim.status, content_type=kind, headers=headers)
    try:
        response = await _run(route, actions, routed)
    except Exception as error:  # noqa: BLE001 -- as in `_problems`: the stored response must be a problem too
        response = _respond(*problem_of(error))
    except asyncio.CancelledError:
        await actions.idempotency.release(claim)
        raise
    if response.status >= 500 or hdrs.RETRY_AFTER in response.headers or not isinstance(response.body, bytes):
        await actions.idempotency.release(claim)
    else:
        await actions.idempotency.store(claim, response.status, response.body)
    return response


async def _admit(who: Principal, route: Route, request: web.Request) -> None:
    """Refuse a role that is too low before anything else; the operation checks it again, for commands."""
    try:
        who.require(route.role)
    except RequestRefused:
        if route.changes:
            await request.app[_ACTIONS].audit.refused(
                who, route.action, org=request.match_info.get("org"), target=request.match_info.get("id")
            )
        raise


async def _authenticate(request: web.Request, actions: Actions) -> Principal:
    scheme, _, key = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    who = None
    if scheme.lower() == "bearer":
        who = await actions.callers.recognize(key.strip())
    if who is None:
        await request.app[_REFUSED].refuse(request.remote)
        raise RequestRefused(
            "this needs a key of the management API",
            code="unauthenticated",
            remedy="Send `Authorization: Bearer slw_...`; make a key with `slotwire keys api create`.",
        )
    return who


def _path(request: web.Request) -> Mapping[str, str]:
    org = request.match_info.get("org")
    if org is not None and not _ORG.fullmatch(org):
        raise RequestRefused(
            "no organization can have this name",
            code="not_found",
            remedy="Give the last segment of Calendly's organization URI.",
        )
    return request.match_info


def _parameters(request: web.Request) -> Mapping[str, str]:
    counted = Counter(name for name, _ in request.query.items())
    for name, times in counted.items():
        if times > 1:
            raise RequestRefused(
                f"the parameter {name[:100]!r} is there {times} times", code="parameter_invalid", remedy="Send it once."
            )
    return dict(request.query)


async def _body(request: web.Request, route: Route) -> bytes:
    return b"" if route.takes is None else await _read_body(request)


async def _read_body(request: web.Request) -> bytes:
    if request.content_type != _JSON:
        raise RequestRefused(
            "the body must be JSON", code="media_type", remedy=f"Send it with `Content-Type: {_JSON}`."
        )
    try:
        with connection_of(request).awaiting_body(request):
            async with asyncio.timeout(request.app[_LIMITS].body_seconds):
                return await request.read()
    except TimeoutError:
        raise RequestRefused(
            "the body did not arrive in time", code="request_timeout", remedy="Send it without a pause."
        ) from None
    except web.HTTPRequestEntityTooLarge:
        raise RequestRefused(
            f"the body is longer than {MAX_BODY_BYTES} bytes", code="body_too_large", remedy="Send a shorter body."
        ) from None
    except (web.RequestPayloadError, ConnectionError):
        raise RequestRefused(
            "the body cannot be read", code="request_unreadable", remedy="Send it in few pieces, or whole."
        ) from None


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    response: web.StreamResponse
    try:
        response = await _within_limits(request, handler)
    except web.HTTPException as error:
        response = _respond(_of_the_router(request, error), None)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))
    except Exception as error:  # noqa: BLE001 -- the edge: every error becomes a response, an unknown one with an id
        response = _respond(*problem_of(error))
    response.headers.update(_SAFE_HEADERS)
    _count(request, response.status)
    return response


def _respond(problem: Problem, wait: int | None) -> web.Response:
    headers: dict[str, str] = {}
    if wait is not None:
        headers[hdrs.RETRY_AFTER] = str(wait)
    if problem.status == 401:
        headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="slotwire"'
    return web.Response(
        body=orjson.dumps({"type": problem.type, **problem.model_dump(exclude_defaults=True, exclude_none=True)}),
        status=problem.status,
        content_type=_PROBLEM,
        headers=headers,
    )


async def _within_limits(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        async with asyncio.timeout(request.app[_LIMITS].answer_seconds):
            return await handler(request)
    except TimeoutError:
        raise RequestRefused("no answer in time", code="answer_timeout", remedy="Try again later.") from None


def _count(request: web.Request, status: int) -> None:
    """Count a request under the template of its route, because the path itself may be anything."""
    resource = request.match_info.route.resource
    ADMIN_REQUESTS.labels(request.method if resource else "", resource.canonical if resource else "", status).inc()


def _of_the_router(request: web.Request, error: web.HTTPException) -> Problem:
    code = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}.get(error.status, "refused")
    return Problem(
        title=error.reason,
        status=error.status,
        code=code,
        detail=f"this path does not support {request.method}"
        if error.status == 405
        else "there is nothing at this path",
        remedy="/openapi.json lists all routes.",
    )
