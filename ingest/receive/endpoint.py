"""Receive: HTTP in, one response out. Limits are checked before the signature; nothing else is decided here.

2xx  its body is committed; the writer reads it later
400  the body is not framed as HTTP/1 frames it
401  unknown hook or bad signature: the same response for both. A hook that is none of ours, or no signature at all, is
     refused before the body is read
408  the body did not arrive in time          413  the body, or what frames it, is larger than the limit
431  the header is larger than the limit
503  Postgres cannot commit now; Calendly retries for 24 h
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from email.utils import formatdate
from enum import StrEnum
from itertools import chain
from time import perf_counter, time
from typing import NamedTuple

from aiohttp import HttpVersion11, web
from aiohttp.hdrs import CONTENT_ENCODING, X_FORWARDED_FOR

from slotwire.ingest.errors import DatabaseUnavailable, DatabaseUnfit, DeliveryRefused, SlotwireError
from slotwire.ingest.foundation.client_address import client_address, read_network
from slotwire.ingest.foundation.clock import Clock, ordered_id
from slotwire.ingest.foundation.guarded_connection import FramingTooLarge, connection_of
from slotwire.ingest.foundation.open_connections import OpenConnections
from slotwire.ingest.foundation.settings import HttpSettings
from slotwire.ingest.foundation.telemetry import SIGNATURE_AGE_SECONDS, count_delivery, get_logger
from slotwire.ingest.foundation.throttle import Throttle
from slotwire.ingest.foundation.tracing import tracing
from slotwire.ingest.keys.hooks import PATH, masked
from slotwire.ingest.receive.group_commit import GroupCommit
from slotwire.ingest.receive.hook_lookup import Tenants
from slotwire.ingest.receive.verify import SIGNATURE_HEADER, ReceivedDelivery, verify

RETRY_AFTER_SECONDS = 5
"""The `Retry-After` of a 503. Calendly follows its own back-off."""
TRACE_HEADER = "traceparent"
MAX_ENCODING_CHARS = 64
"""A longer `Content-Encoding`, or one that is no plain ASCII, is kept as `OTHER_ENCODING`: we decode none of them."""
OTHER_ENCODING = "other"

_LOOSE_PATH = re.compile(r"//?hooks//?calendly//?([^/]+)/?/?")
"""A hook's address as a setting or a proxy may bend it: with one slash at the end, or with doubled ones."""
_log = get_logger("receive")


class RequestOutcome(StrEnum):
    """How a request ended. What becomes of an accepted delivery is a `DeliveryOutcome`, decided by the writer."""

    ACCEPTED = "accepted"
    """Its delivery is committed."""
    REJECTED = "rejected"
    """It is no delivery: its address, method, header or body. The reason is the status."""
    REFUSED = "refused"
    """Its sender did not prove to be Calendly."""
    UNAVAILABLE = "unavailable"
    """It could not be committed now."""


class _Acknowledgement(web.StreamResponse):
    """The answer 200 without a body, on a connection that stays open, in one write. It has no state: one serves all.

    aiohttp's own way to it, made for answers of every kind, costs a tenth of what a whole delivery costs.

    It relies on what aiohttp's `RequestHandler` does with a response (read in `web_protocol.py` of 3.14.5):

    - `finish_response` awaits `prepare(request)`, then `write_eof()`, and takes a ConnectionError from either for a
      client that has gone: nothing is logged, and the connection ends.
    - `start` then reads `keep_alive`. Nothing else of the response is used, since there is no access log.
    - Nobody else writes to the request's transport meanwhile: `request.writer` sends nothing by itself.

    `tests/integration/test_acknowledgement.py` fails when a version of aiohttp does otherwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._octets = b""

    @property
    def keep_alive(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        transport.write(self._written(int(time())))

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` has written all."""

    def _written(self, second: int) -> bytes:
        if second != self._second:  # a response has a Date, in whole seconds (RFC 9110, section 6.6.1)
            self._second = second
            date = formatdate(second, usegmt=True)
            self._octets = f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: {date}\r\n\r\n".encode()
        return self._octets


ACKNOWLEDGED = _Acknowledgement()


class _Reply(NamedTuple):
    """What a request gets, and how it is counted.

    Attributes:
        outcome: label of `slotwire_deliveries`.
        reason: why; empty where it goes without saying.
        response: `ACKNOWLEDGED` after a commit.
    """

    outcome: RequestOutcome
    reason: str
    response: web.StreamResponse


_ACCEPTED = _Reply(RequestOutcome.ACCEPTED, "", ACKNOWLEDGED)
_NOT_CALENDLYS = frozenset({"forged_hook", "unknown_hook", "missing", "malformed", "mismatch", "revoked"})
"""Refusals that lose nothing of Calendly's, or are meant."""
_CUT_OFF = _Reply(RequestOutcome.UNAVAILABLE, "cut_off", ACKNOWLEDGED)
"""What a span says of a delivery whose client or process went away; nobody is answered it."""


class Receiver:
    """Answers `POST /hooks/calendly/{hook}`: find whose hook it is, verify, accept."""

    def __init__(
        self,
        tenants: Tenants,
        door: GroupCommit,
        settings: HttpSettings,
        clock: Clock,
        connections: OpenConnections,
        *,
        troubled: Callable[[str], None] = lambda _: None,
        accepted_ratio: float = 0.0,
    ) -> None:
        """Begin to answer.

        Args:
            tenants: finds whose hook it is.
            door: commits.
            settings: limits.
            clock: the time of arrival.
            connections: the listener's.
            troubled: is told of each hook of ours that gets another answer than 2xx; 401 for a bad signature excepted.
            accepted_ratio: the share of accepted deliveries that have a log line.
        """
        self._tenants = tenants
        self._door = door
        self._settings = settings
        self._clock = clock
        self._connections = connections
        self._troubled = troubled
        self._accepted_ratio = accepted_ratio
        self._said = Throttle()
        self._trusted = tuple(read_network(each) for each in settings.trusted_proxies)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request. Hooks are the only addresses and nothing redirects, so there is no router."""
        started = perf_counter()
        connections, connection = self._connections, connection_of(request)
        connection.enter()
        response: web.StreamResponse | None = None
        try:
            hook = _hook_in(request.path)
            if hook is None:
                reply = _rejected(web.Response(status=404, text="not found\n"))
            elif request.method != "POST":
                reply = _rejected(web.Response(status=405, text="POST only\n", headers={"Allow": "POST"}))
            else:
                reply = await self._take(request, hook)
                if reply.outcome is not RequestOutcome.ACCEPTED and reply.reason not in _NOT_CALENDLYS:
                    self._troubled(hook)
            response = reply.response
        finally:
            connection.leave(proven=response is ACKNOWLEDGED)
        count_delivery(reply.outcome, reply.reason, perf_counter() - started)
        if response is ACKNOWLEDGED:
            if request.keep_alive and request.version == HttpVersion11 and not connections.draining:
                return response
            response = web.Response()
        elif reply.outcome is not RequestOutcome.UNAVAILABLE:
            self._say_refused(request, reply, hook)
        if connections.draining:
            response.force_close()
        return response

    async def _take(self, request: web.BaseRequest, hook: str) -> _Reply:
        """Take a delivery: read its body, pass it on, and say what became of it."""
        headers = request.headers
        signatures = tuple(headers.getall(SIGNATURE_HEADER, ()))
        if not self._tenants.is_ours(hook) or not signatures:
            connection_of(request).linger_no_more()
            return _unauthorized("missing" if self._tenants.is_ours(hook) else "forged_hook", close=True)
        body = self._body_at_hand(request)
        if body is None:
            body = await self._body(request)
        if isinstance(body, _Reply):
            return body
        now = self._clock.now()
        identity = ordered_id(now)
        span = tracing().accept(headers.get(TRACE_HEADER), identity)
        delivery = ReceivedDelivery(
            id=identity,
            body=body,
            signatures=signatures,
            content_encoding=_encoding(headers.get(CONTENT_ENCODING, "").strip().lower()),
            received_at=now,
            traceparent=span.traceparent,
        )
        reply = _CUT_OFF
        try:
            reply = await self._answered(hook, delivery)
        finally:
            if reply is _CUT_OFF:
                self._troubled(hook)
            span.end(reply.outcome, reply.reason)
        return reply

    async def _answered(self, hook: str, delivery: ReceivedDelivery) -> _Reply:
        """Take a delivery in, and say what became of it."""
        try:
            await self._accept(hook, delivery)
        except DeliveryRefused as refused:
            return _unauthorized(refused.reason)
        except SlotwireError as problem:
            return self._unavailable(problem)
        return _ACCEPTED

    async def _accept(self, hook: str, delivery: ReceivedDelivery) -> None:
        """Take a delivery in; returns once it is committed.

        Raises:
            DeliveryRefused: the sender did not prove to be Calendly.
            DatabaseUnavailable: it could not be committed in time.
        """
        until = asyncio.get_running_loop().time() + self._settings.answer_deadline_seconds
        owner = await self._tenants.find(hook, until=until)
        tenant, keys = (owner.tenant, owner.keys) if owner else (None, {})
        verified = verify(delivery, tenant, keys, now=delivery.received_at)
        SIGNATURE_AGE_SECONDS.observe(max(0.0, (verified.received_at - verified.signed_at).total_seconds()))
        try:
            await self._door.put(verified, until=until)
        except DeliveryRefused:
            self._tenants.forget(hook)
            raise
        if self._accepted_ratio and random.random() < self._accepted_ratio:  # noqa: S311 - a sample, not a secret
            context = {"delivery": str(verified.id), "traceparent": verified.traceparent, "bytes": len(verified.body)}
            _log.info("delivery_accepted", organization=verified.tenant.org, hook=masked(hook), **context)

    def _unavailable(self, problem: SlotwireError) -> _Reply:
        """Ask Calendly to try again. A problem that only a person can solve is logged with its remedy."""
        reason = problem.reason if isinstance(problem, DatabaseUnavailable) else type(problem).__name__
        if isinstance(problem, DatabaseUnfit) or not isinstance(problem, DatabaseUnavailable):
            held_back = self._said.held_back("cannot_store")
            if held_back is not None:
                _log.error("cannot_store", error=problem.message, remedy=problem.remedy, held_back=held_back)
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        response = web.Response(status=503, text="try again later\n", headers=headers)
        return _Reply(RequestOutcome.UNAVAILABLE, reason, response)

    def _say_refused(self, request: web.BaseRequest, reply: _Reply, hook: str | None) -> None:
        """Log a refusal, at most once per second and reason. The metric counts all."""
        held_back = self._said.held_back(reply.reason)
        if held_back is not None:
            forwarded = request.headers.getall(X_FORWARDED_FOR, ())
            _log.info(
                "delivery_refused",
                reason=reply.reason,
                hook=masked(hook) if hook else None,
                client=client_address(connection_of(request).peer, forwarded, self._trusted),
                held_back=held_back,
            )

    def _body_at_hand(self, request: web.BaseRequest) -> bytes | _Reply | None:
        """Return the body if it arrived with its header, a refusal if the header is reason enough, else None."""
        headers = request.raw_headers
        if sum(map(len, chain.from_iterable(headers))) + 4 * len(headers) > self._settings.max_header_bytes:
            return _closing(431, "the header is too large")
        limit = self._settings.max_body_bytes
        if not request.content.is_eof():
            return _closing(413, "the body is too large") if (request.content_length or 0) > limit else None
        body = request.content.read_nowait()
        return _closing(413, "the body is too large") if len(body) > limit else body

    async def _body(self, request: web.BaseRequest) -> bytes | _Reply:
        """Read the body as sent, within limits of size and time. It is never decompressed."""
        limit = self._settings.max_body_bytes
        chunks: list[bytes] = []
        size = 0
        try:
            with connection_of(request).awaiting_body(request):
                async with asyncio.timeout(self._settings.body_timeout_seconds):
                    async for chunk in request.content.iter_any():
                        size += len(chunk)
                        if size > limit:
                            break
                        chunks.append(chunk)
        except TimeoutError:
            return _closing(408, "the body did not arrive in time")
        except FramingTooLarge:
            return _closing(413, "the body comes in too many pieces")
        except web.RequestPayloadError:
            return _closing(400, "bad request")
        except ConnectionError:
            return _closing(400, "the sender has gone", reason="gone")
        return _closing(413, "the body is too large") if size > limit else b"".join(chunks)


def _hook_in(path: str) -> str | None:
    """Return the hook of an address; None if it is not a hook's."""
    head, _, hook = path.partition(PATH)
    if hook and not head and "/" not in hook:
        return hook
    loose = _LOOSE_PATH.fullmatch(path)
    return loose[1] if loose else None


def _closing(status: int, text: str, *, reason: str = "") -> _Reply:
    response = web.Response(status=status, text=f"{text}\n")
    response.force_close()
    return _Reply(RequestOutcome.REJECTED, reason or str(status), response)


def _encoding(said: str) -> str:
    plain = len(said) <= MAX_ENCODING_CHARS and said.isascii() and said.isprintable()
    return said if plain else OTHER_ENCODING


def _unauthorized(reason: str, *, close: bool = False) -> _Reply:
    response = web.Response(status=401, text="unauthorized\n")
    if close:
        response.force_close()
    return _Reply(RequestOutcome.REFUSED, reason, response)


def _rejected(response: web.Response) -> _Reply:
    return _Reply(RequestOutcome.REJECTED, str(response.status), response)
