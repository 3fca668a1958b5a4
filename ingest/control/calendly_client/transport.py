"""Calls to Calendly, and the one place that catches the exceptions of HTTP to it.

A token leaves this object only in the request's header: never in a log, a message or a text form.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from time import perf_counter
from typing import TypeAlias, TypeVar

import httpx
import orjson
import stamina
from pydantic import BaseModel, SecretStr

from slotwire.ingest.control.calendly_client.addresses import check_token, loopback
from slotwire.ingest.control.calendly_client.answers import (
    MAX_WAIT_SECONDS,
    read_answer,
    read_any,
    read_error,
    too_late,
    unanswered,
)
from slotwire.ingest.control.calendly_client.booking_limits import BOOKING, DAY
from slotwire.ingest.control.calendly_client.budget import Budgets, CalendlyCaller
from slotwire.ingest.control.calendly_client.leases import count_of
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.shared_connections import SharedConnections
from slotwire.ingest.control.calendly_client.uses import ActingAs, TokenUse, UseEnd, describe, end_of
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.calendly_metrics import CALENDLY_CALL_SECONDS, CALENDLY_CALLS
from slotwire.ingest.foundation.operation_table import Operation, operation_of
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.foundation.tracing import tracing

M = TypeVar("M", bound=BaseModel)
Refused: TypeAlias = Callable[[bool], Awaitable[bool]]
Query: TypeAlias = Mapping[str, str | Sequence[str]]
"""Parameters by Calendly's names; one with several values is repeated."""
Renewed: TypeAlias = Callable[[], Awaitable[SecretStr]]

CONNECT_SECONDS = 5.0
MAX_CONNECTIONS = 50
"""Of one process to Calendly; a call beyond waits for one, within its `answer_seconds`."""
KEEPALIVE_SECONDS = 30.0
"""How long a connection stays open without a call."""

# Calendly's edge refuses the default User-Agent of HTTP libraries.
_USER_AGENT = f"slotwire/{version('slotwire')}"
_PATH = re.compile(r"(?:/[A-Za-z0-9_-]+)+", re.ASCII)
# Of a call that ends so, no octet has left.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# Failures worth a retry. After a write, only a 429 is known to have had no effect.
_READ_AGAIN = frozenset({CalendlyProblem.UPSTREAM, CalendlyProblem.UNREACHABLE, CalendlyProblem.LIMITED})
_WRITE_AGAIN = frozenset({CalendlyProblem.LIMITED})


class CalendlyTransport:
    """Calls Calendly with one token. Made by `CalendlyHttp.transport`.

    Attributes:
        limit: calls that the token's user has in a minute, as Calendly last said; None before it has.
    """

    def __init__(
        self,
        connections: SharedConnections,
        token: SecretStr,
        caller: CalendlyCaller,
        retries: CallRetries,
        refused: Refused | None = None,
        renewed: Renewed | None = None,
    ) -> None:
        self._connections = connections
        self._token = token
        self._caller = caller
        self._retries = retries
        self._refused = refused
        self._renewed = renewed
        self.acting: ActingAs | None = None
        self.calls = 0
        """Calls that were made, each try."""
        self.limit: int | None = None
        self.not_after: float | None = None
        """A time of the event loop from which on no call is sent any more; None for no end."""

    async def get(self, path: str, answer: type[M], *, doing: str, query: Query | None = None) -> M:
        """Read a resource; retried while Calendly fails.

        Raises:
            CalendlyError: see `CalendlyProblem`.
        """
        return read_answer(await self._retried("GET", path, _READ_AGAIN, doing=doing, query=query), answer, doing)

    async def post(self, path: str, body: Mapping[str, object], answer: type[M], *, doing: str) -> M:
        """Create a resource. Retried only after a 429: if the answer is lost, the resource may exist.

        Raises:
            CalendlyError: see `CalendlyProblem`; after `unreachable` and `upstream` the resource may exist.
        """
        return read_answer(await self._retried("POST", path, _WRITE_AGAIN, doing=doing, body=body), answer, doing)

    async def delete(self, path: str, *, doing: str) -> None:
        """Delete a resource; retried while Calendly fails, because deleting twice is safe.

        Raises:
            CalendlyError: see `CalendlyProblem`.
        """
        await self._retried("DELETE", path, _READ_AGAIN, doing=doing)

    async def exchange(
        self, method: str, path: str, *, doing: str, query: Query | None = None, body: object = None
    ) -> object:
        """Make a call of any operation, and return its answer as it came: JSON, a text, or None for an empty one.

        Retried as `get`, `post` and `delete` are; a `PATCH` like a `POST`.

        Raises:
            CalendlyError: see `CalendlyProblem`; `unexpected` where a page of a website answers.
        """
        retry_on = _READ_AGAIN if method in {"GET", "DELETE"} else _WRITE_AGAIN
        received = await self._retried(method, path, retry_on, doing=doing, query=query, body=body)
        return read_any(received, doing)

    async def _retried(
        self,
        method: str,
        path: str,
        retry_on: frozenset[CalendlyProblem],
        *,
        doing: str,
        query: Query | None = None,
        body: object = None,
    ) -> bytes:
        policy = self._retries

        def again(error: Exception) -> bool | float:
            if not isinstance(error, CalendlyError) or error.problem not in retry_on:
                return False
            if error.wait is None:
                return True
            # Without a status the call was not made: it has waited for a turn already.
            if error.status is None or error.wait > policy.max_wait_seconds:
                return False
            return policy.wait_out(error.wait)

        try:
            return await self._once(method, path, doing=doing, query=query, body=body)
        except CalendlyError as error:
            failed = error
        async for attempt in stamina.retry_context(
            on=again,
            attempts=policy.attempts,
            timeout=None,
            wait_initial=policy.first_wait_seconds,
            wait_max=policy.max_wait_seconds,
            wait_jitter=policy.first_wait_seconds,
        ):
            with attempt:
                if attempt.num == 1:  # it was made above, because a context of stamina costs 20 µs
                    raise failed
                return await self._once(method, path, doing=doing, query=query, body=body)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def _once(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        query: Query | None = None,
        body: object = None,
        again: bool = False,
    ) -> bytes:
        if not _PATH.fullmatch(path):  # no outside text becomes a path but through `path_to`, which refuses it
            raise ValueError("not a path of Calendly's API")
        if self._renewed is not None:
            self._token = await self._renewed()
        try:
            return await self._audited(method, path, doing=doing, query=query, body=body)
        except CalendlyError as refusal:
            heard = self._refused if refusal.problem is CalendlyProblem.CREDENTIAL else None
            if heard is None or not await heard(again) or again:
                raise
        return await self._once(method, path, doing=doing, query=query, body=body, again=True)

    async def _audited(self, method: str, path: str, *, doing: str, query: Query | None, body: object) -> bytes:
        """Wait for a turn, and make the call between its beginning and its end in the audit."""
        caller, end = self._caller, UseEnd("failed", None, "interrupted")
        uses = caller.budgets.uses
        made = operation_of(method, path)
        use = describe(made, path, query, body, caller.user, caller.by)
        lease = await caller.turn(doing)
        begun = None
        try:
            if made is not None and made.name == BOOKING:
                await caller.booking_turn(doing)
            if method != "GET" or caller.user is None:
                begun = await uses.begin(use)
        except BaseException:
            if lease is not None:
                uses.drop(lease, taken=True)
            raise
        try:
            received, status = await self._sent(method, path, made, doing=doing, query=query, body=body)
            end = UseEnd("done", status)
        except CalendlyError as error:
            refused = error.status is not None and error.status < HTTPStatus.INTERNAL_SERVER_ERROR
            end = UseEnd("refused" if refused else "failed", error.status, error.problem)
            raise
        finally:
            uses.note(use, end, begun=begun, lease=lease)
        return received

    async def _sent(
        self, method: str, path: str, made: Operation | None, *, doing: str, query: Query | None, body: object
    ) -> tuple[bytes, int]:
        """Send a request, and return what a 2xx answer holds, and its status."""
        if self.not_after is not None and asyncio.get_running_loop().time() >= self.not_after:
            raise too_late(doing)
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        started, status = perf_counter(), "none"
        self.calls += 1
        try:
            with tracing().span("calendly", "CLIENT", method=method, doing=doing) as span:
                answer = await self._connections.exchange(
                    *(method, path),
                    doing=doing,
                    seconds=self._retries.answer_seconds,
                    params=None if query is None else dict(query),
                    content=None if body is None else orjson.dumps(body),
                    headers=headers,
                )
                status = str(answer.status)
                if span is not None:
                    span.set_attribute("http.response.status_code", answer.status)
        except (httpx.HTTPError, TimeoutError) as error:
            sent = not isinstance(error, _UNSENT)
            raise unanswered(doing, error, "SLOTWIRE_CALENDLY__API_URL", sent=sent) from None
        finally:
            CALENDLY_CALLS.labels(status).inc()
            CALENDLY_CALL_SECONDS.observe(perf_counter() - started)
        self.limit = count_of(answer.headers.get("x-ratelimit-limit")) or self.limit
        booking = made is not None and made.name == BOOKING
        await (self._caller.booking_heard if booking else self._caller.heard)(answer.status, answer.headers)
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer.body, answer.status
        raise read_error(
            *(answer.status, answer.headers, answer.body),
            doing=doing,
            plan=None if made is None else made.plan,
            longest_wait=DAY if booking else MAX_WAIT_SECONDS,
        )


class CalendlyHttp:
    """One process's connections to Calendly, shared by all who call it. Made by `open_calendly`.

    A cookie that an answer sets is dropped: the next call may be another customer's.
    """

    def __init__(self, settings: CalendlySettings, budgets: Budgets) -> None:
        self.budgets = budgets
        self._settings = settings
        self._connections = SharedConnections(self._opened, MAX_CONNECTIONS)

    def transport(
        self,
        token: SecretStr,
        caller: CalendlyCaller,
        *,
        retries: CallRetries | None = None,
        refused: Refused | None = None,
        renewed: Renewed | None = None,
    ) -> CalendlyTransport:
        """Make a transport for one token; makes no call.

        Args:
            token: the token to call with.
            caller: takes a turn before each call, one of the budgets' callers.
            retries: how often and how long a call is tried.
            refused: called when Calendly does not accept the token, before the call fails, with whether the call was
                made again already; returns whether to make it again, with another token.
            renewed: returns the token for the next call, where tokens end sooner than the work they are for.

        Raises:
            ConfigurationError: Calendly's address is not https, nor http on loopback.
            RequestRefused: the text cannot be a token (`token_unfit`).
        """
        loopback(self._settings.api_url, "SLOTWIRE_CALENDLY__API_URL")
        check_token(token)
        return CalendlyTransport(self._connections, token, caller, retries or CallRetries(), refused, renewed)

    async def post_form(
        self, path: str, form: Mapping[str, str], *, basic: tuple[str, str] | None, doing: str, token: TokenUse
    ) -> tuple[int, bytes]:
        """Send a form to the OAuth server once, and return the status and body of its answer, whatever they are.

        Args:
            path: for example `/oauth/token`.
            form: the fields.
            basic: name and password of the app, where they go into the header.
            doing: what is attempted; begins the message.
            token: whose token it is about, for the audit.

        Raises:
            CalendlyError: no answer came (`unreachable`): the request may have had its effect.
            DatabaseUnavailable: the audit cannot be written; nothing was sent.
            ConfigurationError: the server's address is not https, nor http on loopback.
        """
        setting = "SLOTWIRE_CALENDLY__AUTH_URL"
        loopback(self._settings.auth_url, setting)
        uses = self.budgets.uses
        try:
            begun = await uses.begin(token.use)
        except BaseException:
            if token.lease is not None:
                uses.drop(token.lease, taken=True)
            raise
        started, status, end = perf_counter(), "none", UseEnd("failed", None, CalendlyProblem.UNREACHABLE)
        address = self._settings.auth_url.rstrip("/") + path
        try:
            with tracing().span("calendly", "CLIENT", method="POST", doing=doing):
                seconds = CallRetries().answer_seconds
                answer = await self._connections.exchange(
                    "POST", address, doing=doing, seconds=seconds, data=dict(form), auth=basic
                )
                status, end = str(answer.status), end_of(answer.status)
                return answer.status, answer.body
        except (httpx.HTTPError, TimeoutError) as error:
            raise unanswered(doing, error, setting) from None
        finally:
            uses.note(token.use, end, begun=begun, lease=token.lease)
            CALENDLY_CALLS.labels(status).inc()
            CALENDLY_CALL_SECONDS.observe(perf_counter() - started)

    def _opened(self) -> httpx.AsyncClient:
        """Open a client with connections of its own."""
        local = loopback(self._settings.api_url, "SLOTWIRE_CALENDLY__API_URL")
        return httpx.AsyncClient(
            base_url=self._settings.api_url,
            headers={"User-Agent": _USER_AGENT, "Accept": "application/json"},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),  # `answer_seconds` limits each try as a whole
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEPALIVE_SECONDS),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            verify=_certificates(trust_env=not local),
            # A proxy from the environment is for remote hosts, never for a simulator on this machine.
            trust_env=not local,
        )

    async def aclose(self) -> None:
        """Close every connection, after who waits for a turn was sent home."""
        await self.budgets.aclose()
        await self._connections.aclose()


@asynccontextmanager
async def open_calendly(settings: CalendlySettings, budgets: Budgets) -> AsyncIterator[CalendlyHttp]:
    """Share connections to Calendly, and its users' budgets, while the block runs. Entering asks nobody."""
    calendly = CalendlyHttp(settings, budgets)
    try:
        yield calendly
    finally:
        await calendly.aclose()


@cache
def _certificates(*, trust_env: bool) -> ssl.SSLContext:
    """Read the trusted certificates; that takes 25 ms of CPU, so it is done once."""
    return httpx.create_ssl_context(trust_env=trust_env)
