"""The public listener: a cap on connections, a limit on headers in size and time, and a drain.

aiohttp limits neither the number of open connections nor the time for the first header, and its plain shutdown
resets clients that keep their connection alive. So we subclass the connection's protocol, and a stop goes in steps:
not ready → answer with `Connection: close` → stop listening → let running requests finish.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from slotwire.ingest.foundation.lifecycle import port_problem, wait_for
from slotwire.ingest.foundation.settings import HttpSettings
from slotwire.ingest.foundation.telemetry import CONNECTIONS_REFUSED, get_logger

HEADER_SECONDS = 10.0
"""A connection that has not sent a complete request header after this time is closed."""
LINGER_SECONDS = 1.0
"""How long a refused body is still read, so that its sender sees the response instead of a reset."""
MAX_HEADERS = 64
"""Header fields of one request. Calendly sends about ten."""
IN_FLIGHT_SECONDS = 10.0
"""How long a stopping process waits for running requests: longer than any response may take."""

HttpHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_log = get_logger("listener")


class ConnectionGate:
    """Counts open connections and running requests, and knows whether the process is draining."""

    def __init__(self) -> None:
        self.draining = False
        self._running = 0
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._gone = asyncio.Event()
        self._gone.set()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._open

    def enter(self, request: web.BaseRequest) -> None:
        """Count a request that begins. Its header has arrived in time."""
        protocol = request.protocol
        if isinstance(protocol, _HookConnection):
            protocol.header_arrived()
        self._running += 1
        self._idle.clear()

    def leave(self) -> None:
        """Count a request that has ended."""
        self._running -= 1
        if self._running == 0:
            self._idle.set()

    def opened(self) -> None:
        """Count a connection."""
        self._open += 1
        self._gone.clear()

    def closed(self) -> None:
        """Count a connection's end."""
        self._open -= 1
        if self._open == 0:
            self._gone.set()

    async def until_gone(self, seconds: float) -> None:
        """Wait until no connection is open, for at most `seconds`."""
        await wait_for(self._gone, seconds)

    async def until_idle(self) -> None:
        """Wait until no request runs."""
        await self._idle.wait()


class _HookConnection(web.RequestHandler):
    """One connection: refused when too many are open, closed when its header does not arrive in time."""

    __slots__ = ("_gate", "_header_timer", "_settings")

    def __init__(self, server: web.Server, settings: HttpSettings, gate: ConnectionGate) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # documented as the way to turn it off
            auto_decompress=False,  # the signature covers the bytes as sent
            max_line_size=settings.max_header_bytes,
            max_field_size=settings.max_header_bytes,
            max_headers=MAX_HEADERS,
            lingering_time=LINGER_SECONDS,
        )
        self._settings = settings
        self._gate = gate
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._gate.opened()
        if self._gate.connections > self._settings.max_connections:
            CONNECTIONS_REFUSED.inc()
            self.force_close()
            return
        self._header_timer = asyncio.get_running_loop().call_later(HEADER_SECONDS, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.header_arrived()
        self._gate.closed()
        super().connection_lost(exc)

    def header_arrived(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002  # the signature is aiohttp's
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # aiohttp's message can quote the sender's header
    ) -> web.StreamResponse:
        """Answer a request that aiohttp could not read. The log says where we failed, never what was sent."""
        self.header_arrived()
        if isinstance(exc, LineTooLong):
            status = 431
        if status >= 500 and exc is not None:  # our fault
            frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(exc.__traceback__)[-3:]]
            _log.error("request_failed", error=type(exc).__name__, where=frames)
        response = web.Response(status=status, text="try again later\n" if status >= 500 else "bad request\n")
        response.force_close()
        return response


@asynccontextmanager
async def listening(handler: HttpHandler, settings: HttpSettings, gate: ConnectionGate) -> AsyncIterator[str]:
    """Serve the public address while the block runs, then drain. Yields the URL.

    Raises:
        ConfigurationError: the port is in use or may not be opened.
    """
    server = web.Server(handler)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=IN_FLIGHT_SECONDS)
    await runner.setup()
    try:
        listener = await _listen(server, settings, gate)
        try:
            host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host
            yield f"http://{host}:{listener.sockets[0].getsockname()[1]}"
        finally:
            await _drain(listener, gate, settings.drain_seconds)
    finally:
        await runner.cleanup()


async def _listen(server: web.Server, settings: HttpSettings, gate: ConnectionGate) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(
            lambda: _HookConnection(server, settings, gate),
            settings.host,
            settings.port,
            reuse_port=settings.reuse_port or None,
            backlog=1024,
        )
    except OSError as error:
        raise port_problem(error, settings.host, settings.port, "SLOTWIRE_HTTP__PORT") from error


async def _drain(listener: asyncio.Server, gate: ConnectionGate, seconds: float) -> None:
    """Let clients leave before their sockets close: requests that arrive meanwhile are answered `Connection: close`.

    After listening has ended, clients that connected last get the same time again to send their request.
    """
    gate.draining = True
    _log.info("draining", seconds=seconds)
    await asyncio.sleep(seconds)
    listener.close()
    await gate.until_gone(seconds)
    try:
        async with asyncio.timeout(IN_FLIGHT_SECONDS):
            await gate.until_idle()
    except TimeoutError:
        _log.warning("requests_cut_off")
