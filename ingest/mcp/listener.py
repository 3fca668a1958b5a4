"""The listener of agents: who may come in, and what answers them.

    POST /oauth/token                                 an agent's secret for a token
    GET  /.well-known/oauth-authorization-server      where that is (RFC 8414)
    GET  /.well-known/oauth-protected-resource/mcp/…  of an agent's endpoint (RFC 9728)
    POST /mcp/{agent}                                 the Model Context Protocol

Connections, headers, framing and bodies have the limits of every listener of ours. No token, secret or body is logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from aiohttp import hdrs, web
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

from slotwire.ingest.foundation.clock import Clock, ordered_id
from slotwire.ingest.foundation.errors import ConfigurationError, DatabaseUnavailable, RequestRefused
from slotwire.ingest.foundation.guarded_connection import connection_of
from slotwire.ingest.foundation.listener import listen, within_open_files
from slotwire.ingest.foundation.mcp_metrics import MCP_REQUESTS
from slotwire.ingest.foundation.mcp_settings import McpSettings
from slotwire.ingest.foundation.open_connections import ListenerLimits
from slotwire.ingest.foundation.refused_addresses import RefusedAddresses
from slotwire.ingest.foundation.settings_base import is_loopback
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.mcp import asgi
from slotwire.ingest.mcp.agents import RUN_TOKEN, Agents
from slotwire.ingest.mcp.asgi import Application
from slotwire.ingest.mcp.oauth import AUTHORIZE, RESOURCE_METADATA, SERVER_METADATA, TOKEN, TokenEndpoint, TokenRefused
from slotwire.ingest.mcp.principal import AgentPrincipal, acting_for
from slotwire.ingest.mcp.tokens import TokenKeys
from slotwire.ingest.mcp.uses import Uses

SETTING = "SLOTWIRE_MCP__PORT"
BODY_SECONDS = 10.0
"""A body that has not arrived after this time is answered 408."""
MAX_FORM_BYTES = 8_192
"""A longer request for a token is refused with 413."""
MAX_FIELDS = 50
"""Fields of such a request."""
FREE_REFUSALS = 30
"""Refused tokens and secrets of one address in a minute that are answered at once; others a second late."""
REFUSAL_SECONDS = 1.0
REFUSALS_WAITING = 500
GRACE_SECONDS = 2.0
"""How long a stop waits for requests; streams are over then."""
ONCE = (hdrs.HOST, hdrs.ORIGIN, hdrs.AUTHORIZATION)
"""Headers that decide who comes in: of two, somebody between may have read the other one."""
SHARED = MappingProxyType(
    {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST",
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Content-Type, MCP-Protocol-Version, Mcp-Method, Mcp-Name",
        hdrs.ACCESS_CONTROL_MAX_AGE: "600",
    }
)
"""What a browser is told before a page of an allowed origin calls."""
_AGENT = "{agent:[a-z0-9][a-z0-9-]{0,62}}"
_JSON = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = get_logger("mcp")


@dataclass(frozen=True, slots=True)
class Gate:
    """What decides who comes in.

    Attributes:
        settings: of the listener.
        agents: as they are registered.
        keys: of tokens.
        clock: the time.
        uses: writes the audit.
    """

    settings: McpSettings
    agents: Agents
    keys: TokenKeys
    clock: Clock
    uses: Uses


@asynccontextmanager
async def listening(gate: Gate, application: Application) -> AsyncIterator[str]:
    """Listen while the block runs; yields the public address.

    Raises:
        ConfigurationError: the port is in use, or no public address is set and the listener is not of this machine.
    """
    settings = gate.settings
    if not settings.public_url and not is_loopback(settings.host):
        raise ConfigurationError(
            "agents' tokens are bound to an address, and none is set",
            remedy="Set SLOTWIRE_MCP__PUBLIC_URL to the https address at which agents reach this listener.",
        )
    door = _Door(gate, application)
    limits = within_open_files(ListenerLimits(name="mcp", max_connections=settings.max_connections))
    app = door.app()
    async with listen(
        app, settings.host, settings.port, setting=SETTING, limits=limits, grace_seconds=GRACE_SECONDS, cancelled=True
    ) as url:
        door.opened(settings.public_url or url, url)
        yield settings.public_url or url


class _Door:
    """The routes."""

    def __init__(self, gate: Gate, application: Application) -> None:
        self._gate = gate
        self._application = application
        self._refused = RefusedAddresses(FREE_REFUSALS, REFUSAL_SECONDS, REFUSALS_WAITING)
        self._hosts: frozenset[str] = frozenset()
        self._tokens = TokenEndpoint("", gate.agents, gate.keys, gate.clock)

    def app(self) -> web.Application:
        """Build the application."""
        app = web.Application(middlewares=[self._checked], client_max_size=self._gate.settings.max_body_bytes)
        app.on_response_prepare.append(self._share)
        app.router.add_route("POST", TOKEN, self._token)
        app.router.add_route("GET", AUTHORIZE, self._authorize)
        app.router.add_route("GET", SERVER_METADATA, self._server_metadata)
        app.router.add_route("GET", f"{RESOURCE_METADATA}/mcp/{_AGENT}", self._resource_metadata)
        # The library would open a stream for GET that nothing is sent on, and that ends with no token.
        app.router.add_route("POST", f"/mcp/{_AGENT}", self._mcp)
        return app

    def opened(self, public: str, own: str) -> None:
        """Take the addresses that the listener has now."""
        self._tokens = TokenEndpoint(public, self._gate.agents, self._gate.keys, self._gate.clock)
        mine = urlsplit(own)
        local = [f"{name}:{mine.port}" for name in ("127.0.0.1", "localhost", "[::1]")]
        self._hosts = frozenset({*_hosts(public), mine.netloc, *(local if is_loopback(mine.hostname or "") else ())})

    @web.middleware
    async def _checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse other hosts and pages of other sites; make every error an answer."""
        what = "mcp" if request.path.startswith("/mcp/") else "token" if request.path == TOKEN else "metadata"
        try:
            response = await self._admitted(request, handler)
        except web.HTTPException as error:
            response = _problem(error.status, "invalid_request", error.reason)
            if isinstance(error, web.HTTPMethodNotAllowed):
                response.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))
        except RequestRefused as error:
            response = _problem(429, error.code, error.message)
        except DatabaseUnavailable:
            response = _problem(503, "temporarily_unavailable", "try again in a moment")
            response.headers[hdrs.RETRY_AFTER] = "2"
        except Exception as defect:  # noqa: BLE001 - the edge: a defect of ours is counted, and tells nobody anything
            _log.error("request_defect", what=what, reason=type(defect).__name__)
            response = _problem(500, "server_error", "the server failed on this request")
        MCP_REQUESTS.labels(what, response.status).inc()
        return response

    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if any(len(request.headers.getall(name, ())) > 1 for name in ONCE):
            return _problem(400, "invalid_request", f"{', '.join(ONCE)}: each may be there once")
        if request.headers.get(hdrs.HOST, "").lower() not in self._hosts:
            return _problem(421, "invalid_request", "this host is not served here")
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and not self._may_call(origin):
            return _problem(403, "invalid_request", "pages of this origin may not call")
        if origin is not None and request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers=SHARED)
        return await handler(request)

    async def _share(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let a page of an allowed origin read the answer: its browser would keep it from the page."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and self._may_call(origin):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = hdrs.WWW_AUTHENTICATE
            response.headers[hdrs.VARY] = hdrs.ORIGIN

    def _may_call(self, origin: str) -> bool:
        """Whether a page may call: one that is allowed, or one of this machine if the listener is for it alone."""
        if origin in self._gate.settings.allowed_origins:
            return True
        try:
            page = urlsplit(origin)
        except ValueError:  # no address, such as one with half a bracket
            return False
        own = (urlsplit(self._tokens.base).hostname or "", page.hostname or "")
        return page.scheme == "http" and all(map(is_loopback, own))

    async def _server_metadata(self, _: web.Request) -> web.Response:
        return _document(self._tokens.server_metadata())

    async def _resource_metadata(self, request: web.Request) -> web.Response:
        return _document(self._tokens.resource_metadata(request.match_info["agent"]))

    async def _authorize(self, _: web.Request) -> web.Response:
        """Say that nobody signs in here: tokens are for agents' secrets."""
        return _problem(400, "unsupported_response_type", "nobody signs in here; ask your operator for a token")

    async def _token(self, request: web.Request) -> web.Response:
        if request.content_type != "application/x-www-form-urlencoded":
            return _problem(400, "invalid_request", "send the form application/x-www-form-urlencoded")
        body = await _body(request, MAX_FORM_BYTES)
        try:
            form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError:
            return _problem(400, "invalid_request", f"the form has more than {MAX_FIELDS} fields")
        try:
            issued = await self._tokens.issue(form, request.headers.get(hdrs.AUTHORIZATION, ""))
        except TokenRefused as refused:
            if refused.status == 401:
                await self._refused.refuse(request.remote)
            response = _problem(refused.status, refused.error, refused.description)
            if refused.status == 401:
                response.headers[hdrs.WWW_AUTHENTICATE] = 'Basic realm="slotwire"'
            return response
        use = ordered_id(self._gate.clock.now())
        await self._gate.uses.note(use, issued.agent.id, issued.user, "token", target=issued.user)
        return _document(issued.answer)

    async def _mcp(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["agent"]
        who = await self._principal(request, name)
        if who is None:
            await self._refused.refuse(request.remote)
            response = _problem(401, "invalid_token", "this needs a token of this agent: the metadata says where from")
            response.headers[hdrs.WWW_AUTHENTICATE] = self._tokens.challenge(name)
            return response
        if request.content_type != _JSON:
            return _problem(415, "invalid_request", f"send {_JSON}")
        body = await _body(request, self._gate.settings.max_body_bytes)
        user = AuthenticatedUser(
            AccessToken(
                token="",
                client_id=str(who.agent),
                scopes=[],
                expires_at=None,  # compared above, by our clock
                subject=who.user,
                claims={"iss": self._tokens.base},
            )
        )
        with acting_for(who):
            return await asgi.serve(self._application, request, body, user=user)

    async def _principal(self, request: web.Request, name: str) -> AgentPrincipal | None:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = token.strip()
        if RUN_TOKEN.fullmatch(token):
            return await self._gate.agents.of_run(token, name)
        claims = self._gate.keys.read(token, self._tokens.audience(name), self._gate.clock.now())
        return None if claims is None else await self._gate.agents.behind(claims, name)


def _hosts(public: str) -> tuple[str, str]:
    """Return how clients write the host of an address: with and without the port that its scheme has anyway."""
    found = urlsplit(public.lower())
    port = found.port or (443 if found.scheme == "https" else 80)
    name = f"[{found.hostname}]" if ":" in (found.hostname or "") else found.hostname or ""
    return found.netloc, f"{name}:{port}"


async def _body(request: web.Request, most: int) -> bytes:
    if (request.content_length or 0) > most:
        raise web.HTTPRequestEntityTooLarge(most, request.content_length or 0)
    try:
        with connection_of(request).awaiting_body(request):
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except (web.RequestPayloadError, ConnectionError):
        raise web.HTTPBadRequest from None
    if len(body) > most:
        raise web.HTTPRequestEntityTooLarge(most, len(body))
    return body


def _document(content: Any) -> web.Response:
    response = web.Response(body=orjson.dumps(content), content_type=_JSON)
    response.headers["Cache-Control"] = "no-store"
    return response


def _problem(status: int, error: str, description: str) -> web.Response:
    response = _document({"error": error, "error_description": description})
    response.set_status(status)
    return response
