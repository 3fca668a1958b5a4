"""The checks of every REST call (bearer token, rate limit, scope), and its answer, an error or not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TypeAlias

import orjson
from aiohttp import web

from slotwire.ingest.simulator.calls import Owners, RestCall, RestCallLog, token_mark, values_in
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.model import Faults, Json, SimulatedUser, Token
from slotwire.ingest.simulator.problems import SimulatedRefusal, lacks_scope, unauthenticated
from slotwire.ingest.simulator.rates import DEFAULT_RATE_LIMIT, FREE_RATE_LIMIT, Rates, RateState

FULL_ACCESS = "default"
NO_ANSWER = 444
"""The status under which the log of calls has one that was carried out and not answered."""
NO_FAULTS = Faults()
WHY_NOT = {"revoked": "was revoked", "expired": "expired"}


@dataclass(frozen=True, slots=True)
class Caller:
    """The user who calls, and the scopes of their token; `app`: the OAuth app acts for them."""

    user: SimulatedUser
    scopes: tuple[str, ...]
    app: bool = False

    def may(self, scope: str) -> bool:
        """Return whether it has a scope; `:write` includes `:read` (docs/reference/calendly.md, "Credentials")."""
        family = scope.partition(":")[0]
        return FULL_ACCESS in self.scopes or scope in self.scopes or f"{family}:write" in self.scopes

    @property
    def administers(self) -> bool:
        """True for owners and admins, who see the whole organization (docs/reference/calendly.md, "REST")."""
        return self.user.role in {"owner", "admin"}


Guarded: TypeAlias = Callable[[web.Request, Caller], Awaitable[web.Response]]
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.Response]]


class RestGate:
    """Checks tokens and scopes, and counts each user's requests by the simulator's clock."""

    def __init__(self, engine: Engine, rate_limit: int = DEFAULT_RATE_LIMIT) -> None:
        self.rate_limit = rate_limit
        self._engine = engine
        self._clock = engine.clock
        self._tokens = {token.value: token for token in (*engine.world.tokens, *engine.bookings.tokens())}
        self.rates = Rates()
        self._owners = Owners(engine)
        self._requests = 0
        self.calls = RestCallLog()

    def tokens(self) -> tuple[Token, ...]:
        """Return every token."""
        return tuple(self._tokens.values())

    def put(self, token: Token) -> None:
        """Add a token, or change its state."""
        self._tokens[token.value] = token

    def guard(self, scope: str, handler: Guarded) -> Handler:
        """Return a handler that refuses calls without the scope, or beyond the caller's rate limit."""

        async def guarded(request: web.Request) -> web.Response:
            # Before the handler, because that may delete what the call names.
            call = await self._call(request)
            status = 500
            try:
                answer = await self._answer(request, scope, handler)
                status = answer.status
                if self._engine.sender.faults.rest_delay_seconds:
                    await asyncio.sleep(self._engine.sender.faults.rest_delay_seconds)
                if isinstance(answer, _NoAnswer) and request.transport is not None:
                    request.transport.close()
            finally:
                self.calls.add(replace(call, number=self.calls.next_number(), status=status))
            return answer

        return guarded

    async def _answer(self, request: web.Request, scope: str, handler: Guarded) -> web.Response:
        rate = RateState(self.rate_limit, 0, 0.0)
        self._requests += 1
        draws = Draws(self._engine.seed, "request", self._requests)
        others = Draws(self._engine.seed, "request", self._requests, "limited or unanswered")
        faults = self._faults(request)
        if draws.chance(faults.rest_error_rate):
            return failed(faults.rest_error_status)
        try:
            caller = self._caller(request)
            rate = self.rates.call(caller.user.id, self.limit_of(caller.user), self._clock.now())
            if others.chance(faults.rest_limited_rate):
                rate = replace(rate, used=rate.limit + 1)
            self._check(caller, rate, scope)
            answer = await handler(request, caller)
        except SimulatedRefusal as refusal:
            answer = json_answer(refusal.body, refusal.status)
        answer.headers.update(self.rates.headers(rate))
        faults = self._faults(request)  # the handler may have taken a while: what was set meanwhile counts
        if others.chance(faults.rest_unanswered_rate):
            return _NoAnswer(status=NO_ANSWER)
        return failed(faults.rest_error_status) if draws.chance(faults.rest_lost_answer_rate) else answer

    def _faults(self, request: web.Request) -> Faults:
        """Return the faults that may hit a call."""
        faults = self._engine.sender.faults
        return faults if faults.rest_faults == "all" or request.method != "GET" else NO_FAULTS

    async def _call(self, request: web.Request) -> RestCall:
        token = self._token(request)
        user = self._engine.world.users[token.user] if token else None
        values = itertools.chain(request.query.values(), values_in(await request.read()))
        return RestCall(
            number=0,
            at=self._clock.now(),
            token=token_mark(token) if token else None,
            user=user.id if user else None,
            organization=user.organization if user else None,
            method=request.method,
            path=request.path,
            named=self._owners.named(request.path, values),
            status=0,
        )

    def _token(self, request: web.Request) -> Token | None:
        kind, _, value = request.headers.get("Authorization", "").partition(" ")
        return self._tokens.get(value.strip()) if kind.lower() == "bearer" else None

    def _caller(self, request: web.Request) -> Caller:
        token = self._token(request)
        if token is None:
            raise unauthenticated("is invalid")
        state = token.state_at(self._clock.now())
        if state != "valid":
            raise unauthenticated(WHY_NOT[state])
        return Caller(self._engine.world.users[token.user], token.scopes, token.app)

    def _check(self, caller: Caller, rate: RateState, scope: str) -> None:
        if rate.refused:
            raise SimulatedRefusal(429, "Too Many Requests", "You have exceeded your rate limit.")
        if not caller.may(scope):
            raise lacks_scope(scope)

    def limit_of(self, user: SimulatedUser) -> int:
        """Return a user's requests per minute: less on the free plan."""
        pays = self._engine.world.organizations[user.organization].pays
        return self.rate_limit if pays else min(self.rate_limit, FREE_RATE_LIMIT)


class _NoAnswer(web.Response):
    """In place of an answer that never comes."""


def failed(status: int = HTTPStatus.BAD_GATEWAY) -> web.Response:
    """Return the answer of the proxy before Calendly when Calendly does not answer: HTML without rate-limit headers.

    Source: docs/reference/calendly.md, "REST".
    """
    page = f"<html><head><title>{status}</title></head><body>simulated</body></html>"
    return web.Response(status=status, text=page, content_type="text/html")


def json_answer(body: Json, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def resource(body: Json, status: int = 200) -> web.Response:
    """Return a single resource as Calendly wraps it."""
    return json_answer({"resource": body}, status)


async def body_of(request: web.Request) -> Json:
    """Return a request's JSON object.

    Raises:
        SimulatedRefusal: 400, the body is not a JSON object.
    """
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise SimulatedRefusal(400, "Invalid Argument", "The request body must be a JSON object.", details=[])
    return body
