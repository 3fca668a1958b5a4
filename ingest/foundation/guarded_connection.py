"""One connection of a listener, with limits on time and octets.

aiohttp limits neither the number of connections, nor the time to a header, nor the octets that a body is wrapped in,
and it waits for ever for a client that does not read. So every listener uses `GuardedConnection` as its protocol.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.http_exceptions import LineTooLong

from slotwire.ingest.foundation.open_connections import ConnectionRefusal, OpenConnections
from slotwire.ingest.foundation.telemetry import CONNECTIONS_REFUSED, get_logger

LINGER_SECONDS = 1.0
"""How long a refused body is still read, so that its sender sees the response instead of a reset."""
MAX_HEADERS = 64
"""Header fields of one request. Calendly sends about ten."""
MAX_FRAMING_BYTES = 16_384
"""Octets of one request that are neither header nor body: the frames of its chunks, and its trailers. A body of 1 MiB
in chunks of 512 octets has 14,336."""
SLICE_BYTES = 4_096
"""Octets that are parsed before the limits are checked again. The header's limit is kept to within two slices."""

SERVER = "slotwire"
"""How every listener names itself; aiohttp would name itself, Python, and the version of each."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEADER_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

HttpHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Answer = Callable[[int], web.Response]
"""Makes the answer to a request that aiohttp could not read, or on which our code failed, from its status."""
_log = get_logger("listener")


class FramingTooLarge(web.RequestPayloadError):
    """A body came in more framing than `MAX_FRAMING_BYTES`."""


class GuardedConnection(web.RequestHandler):
    """One connection.

    Of aiohttp's `RequestHandler` (`web_protocol.py` of 3.14.5) it reads the queue of parsed requests (`_messages`),
    their number (`_request_count`), and whether parsing is paused, and it sets `_lingering_time`.
    `tests/integration/test_listeners.py` fails when a version of aiohttp does otherwise.
    """

    __slots__ = ("_all", "_answer", "_body", "_body_base", "_octets", "_proven", "_timer", "_unread_timer")

    def __init__(self, server: web.Server, connections: OpenConnections, answer: Answer) -> None:
        limits = connections.limits
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # documented as the way to turn it off
            auto_decompress=False,  # a signature covers the bytes as sent, and a bomb stays packed
            keepalive_timeout=limits.keep_alive_seconds,
            max_line_size=limits.max_header_bytes,
            max_field_size=limits.max_header_bytes,
            max_headers=MAX_HEADERS,
            lingering_time=LINGER_SECONDS,
        )
        self._all = connections
        self._answer = answer
        self._body: StreamReader | None = None
        self._body_base = 0
        self._octets = 0
        self._proven = False
        self._timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    @property
    def peer(self) -> str:
        """The address at the other end; empty if it has gone."""
        name = self.peername
        return name if isinstance(name, str) else name[0] if name else ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place among the open connections, and wait for the first request."""
        super().connection_made(transport)
        if not self._all.admit(self):
            self.refuse(ConnectionRefusal.NO_ROOM)
            return
        self._all.waits(self, proven=False)
        self._arm_header_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        self._disarm_header_timer()
        self._disarm_unread_timer()
        self._all.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, a slice at a time, and see that no request outgrows its limits."""
        if len(data) <= SLICE_BYTES:
            self._parse(data)
            return
        for start in range(0, len(data), SLICE_BYTES):
            if self._reading_paused or self._buffer_paused:  # aiohttp keeps the rest until it is wanted
                self._parse(data[start:])
                return
            self._parse(data[start : start + SLICE_BYTES])

    def _parse(self, data: bytes) -> None:
        if self._force_close or self._close:
            return
        parsed, body = self._request_count, self._body
        super().data_received(data)
        if self._request_count != parsed:
            self._requests_arrived(self._request_count - parsed, body)
            return
        self._octets += len(data)
        if self._reading_paused or self._buffer_paused:
            return
        if body is None:
            self._check_header()
        elif body.is_eof():
            self._body, self._octets = None, 0
        elif self._octets - (body.total_bytes - self._body_base) > MAX_FRAMING_BYTES:
            self._note(ConnectionRefusal.FRAMING)
            self._break_off(body, FramingTooLarge("the body comes in too many pieces"))
            self.close()

    def _requests_arrived(self, count: int, before: StreamReader | None) -> None:
        """Note that headers ended, and where the last one's body begins. An error of the parser counts as a request."""
        self._disarm_header_timer()
        self._all.works(self)
        body = self._messages[-1][1]
        if count > 1:
            before = self._messages[-2][1]
        if before is not None and not before.is_eof():
            # The parser gave up in the middle of a body, and tells nobody who waits for the rest.
            self._break_off(before, web.RequestPayloadError("the body is not framed as HTTP/1 frames it"))
        self._octets = 0
        self._body, self._body_base = (None, 0) if body.is_eof() else (body, body.total_bytes)

    def _check_header(self) -> None:
        """See that a header which has begun comes in time, and is not too large."""
        if self._messages or self._request_in_progress or not self._octets:
            return  # one that is sent ahead of its turn waits with us; later octets of it start the timer
        if self._timer is None:
            self._arm_header_timer()
        if self._octets > self._all.limits.max_header_bytes + SLICE_BYTES:
            if self.transport is not None:
                self.transport.write(_HEADER_TOO_LARGE)
            self._note(ConnectionRefusal.HEADER_SIZE)
            self.force_close()

    def _break_off(self, body: StreamReader, why: web.RequestPayloadError) -> None:
        """End a request of whose body nothing more is read. Its handler gets the error if it reads on."""
        self._body = None
        if self._request_in_progress or self._messages:
            self.linger_no_more()
            body.set_exception(why)
        else:  # it is answered already
            self.force_close()

    def linger_no_more(self) -> None:
        """Close the connection after the answer without reading what is left of the request."""
        self._lingering_time = 0.0

    def enter(self) -> None:
        """Note that a request begins."""
        self._all.enter()

    def leave(self, *, proven: bool = False) -> None:
        """Note that a request has ended, and wait for the client again unless it has sent the next one already.

        Args:
            proven: it was worth its place: the connection is closed after all others when there is no room.
        """
        self._all.leave()
        if proven:
            self._proven = True
        self._wait_again()

    def _wait_again(self) -> None:
        if not self._messages:
            self._all.waits(self, proven=self._proven)

    @contextmanager
    def awaiting_body(self, request: web.BaseRequest) -> Iterator[None]:
        """Wait for the rest of a body within the block. A client that asked whether to send it is answered (100).

        Raises:
            RequestPayloadError: from reading: the body is not framed as HTTP/1 frames it, or in too many pieces.
            ConnectionError: from reading: the client has gone.
        """
        if self.transport is not None and _expects_continue(request):
            self.transport.write(_CONTINUE)
        self._all.waits(self, proven=self._proven)
        try:
            yield
        finally:
            self._all.works(self)

    def pause_writing(self) -> None:
        """Wait for the client to read its answers, but not for ever."""
        super().pause_writing()
        self._all.waits(self, proven=False)
        self._unread_timer = asyncio.get_running_loop().call_later(
            self._all.limits.unread_seconds, self.refuse, ConnectionRefusal.UNREAD
        )

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._disarm_unread_timer()
        self._all.works(self)
        if not self._request_in_progress:
            self._wait_again()

    def refuse(self, reason: ConnectionRefusal) -> None:
        """Close the connection at once, without an answer; count it, and log it."""
        self._note(reason)
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()  # a client that does not read would keep it open

    def _note(self, reason: ConnectionRefusal) -> None:
        """Count a refusal, and log it if none was logged just now for this reason."""
        listener = self._all.limits.name
        CONNECTIONS_REFUSED.labels(listener, reason.value).inc()
        held_back = self._all.said.held_back(reason)
        if held_back is not None:
            _log.info(
                "connection_refused", listener=listener, reason=reason.value, client=self.peer, held_back=held_back
            )

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002  # the signature is aiohttp's
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # aiohttp's message can quote the sender's header
    ) -> web.StreamResponse:
        """Answer a request that aiohttp could not read, or on which we failed. The log never says what was sent."""
        if isinstance(exc, LineTooLong):
            status = 431
        if status < 500:
            self._note(ConnectionRefusal.HEADER_SIZE if status == 431 else ConnectionRefusal.UNREADABLE)
        elif exc is not None:
            held_back = self._all.said.held_back(type(exc).__name__)
            if held_back is not None:
                frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(exc.__traceback__)[-3:]]
                _log.error("request_failed", error=type(exc).__name__, where=frames, held_back=held_back)
        response = self._answer(status)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer, under our name."""
        if isinstance(resp, web.Response) and not resp.prepared:
            resp.headers.setdefault(hdrs.SERVER, SERVER)
        return await super().finish_response(request, resp, start_time)

    def _arm_header_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(
            self._all.limits.header_seconds, self.refuse, ConnectionRefusal.HEADER_TIME
        )

    def _disarm_header_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _disarm_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None


def connection_of(request: web.BaseRequest) -> GuardedConnection:
    """Return the connection that a request came by.

    Raises:
        TypeError: it came by a listener that is not ours.
    """
    connection = request.protocol
    if not isinstance(connection, GuardedConnection):
        raise TypeError
    return connection


def _expects_continue(request: web.BaseRequest) -> bool:
    # The raw fields, because `listen` hides this one from aiohttp, which would answer it before anything is checked.
    return request.version >= HttpVersion11 and any(
        name.lower() == b"expect" and value.lower() == b"100-continue" for name, value in request.raw_headers
    )


def counting(handler: HttpHandler) -> HttpHandler:
    """Return a handler whose requests are counted as running."""

    async def counted(request: web.BaseRequest) -> web.StreamResponse:
        connection = connection_of(request)
        connection.enter()
        try:
            return await handler(request)
        finally:
            connection.leave()

    return counted
