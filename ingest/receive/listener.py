"""The public listener: hooks only, and a stop that resets nobody.

aiohttp's plain shutdown resets clients that keep their connection alive. So a stop goes in steps: not ready → answer
with `Connection: close` → stop listening → let running requests finish.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from slotwire.ingest.foundation.guarded_connection import HttpHandler
from slotwire.ingest.foundation.listener import open_port
from slotwire.ingest.foundation.open_connections import ListenerLimits, OpenConnections
from slotwire.ingest.foundation.settings import HttpSettings
from slotwire.ingest.foundation.telemetry import get_logger

IN_FLIGHT_SECONDS = 10.0
"""How long a stopping process waits for running requests: longer than any response may take."""

_log = get_logger("listener")


def limits_of(settings: HttpSettings) -> ListenerLimits:
    """Return the limits of the public listener."""
    return ListenerLimits(
        name="hooks", max_connections=settings.max_connections, max_header_bytes=settings.max_header_bytes
    )


@asynccontextmanager
async def listening(handler: HttpHandler, settings: HttpSettings, connections: OpenConnections) -> AsyncIterator[str]:
    """Serve the public address while the block runs, then drain. Yields the URL.

    Raises:
        ConfigurationError: the port is in use or may not be opened.
    """
    server = web.Server(handler)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=IN_FLIGHT_SECONDS)
    await runner.setup()
    try:
        listener = await open_port(
            server,
            connections,
            _plain,
            host=settings.host,
            port=settings.port,
            setting="SLOTWIRE_HTTP__PORT",
            reuse_port=settings.reuse_port or None,
        )
        try:
            host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host
            yield f"http://{host}:{listener.sockets[0].getsockname()[1]}"
        finally:
            await _drain(listener, connections, settings.drain_seconds)
    finally:
        await runner.cleanup()


def _plain(status: int) -> web.Response:
    return web.Response(status=status, text="try again later\n" if status >= 500 else "bad request\n")


async def _drain(listener: asyncio.Server, connections: OpenConnections, seconds: float) -> None:
    """Let clients leave before their sockets close: requests that arrive meanwhile are answered `Connection: close`.

    After listening has ended, clients that connected last get the same time again to send their request.
    """
    connections.draining = True
    _log.info("draining", seconds=seconds)
    await asyncio.sleep(seconds)
    listener.close()
    await connections.until_gone(seconds)
    try:
        async with asyncio.timeout(IN_FLIGHT_SECONDS):
            await connections.until_idle()
    except TimeoutError:
        _log.warning("requests_cut_off")
