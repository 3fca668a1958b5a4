"""Opens a port, with the same limits for every listener of ours, and closes it without cutting anybody off."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import hdrs, web

from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.guarded_connection import Answer, GuardedConnection, counting
from slotwire.ingest.foundation.open_connections import ListenerLimits, OpenConnections
from slotwire.ingest.foundation.open_files import backlog_for, fitting, needed, open_files_limit
from slotwire.ingest.foundation.telemetry import get_logger

HEALTH = ListenerLimits(name="health", max_connections=64)
ADMIN = ListenerLimits(name="admin", max_connections=256)
GRACE_SECONDS = 60.0
"""How long a listener waits at its end for requests that run, where nothing else is said."""

_log = get_logger("listener")


def within_open_files(limits: ListenerLimits) -> ListenerLimits:
    """Lower a cap that the process has not enough descriptors for, with a warning.

    Raises:
        ConfigurationError: there are too few for any listener.
    """
    limit = open_files_limit()
    fits = fitting(limits.max_connections, limit)
    if fits < limits.max_connections:
        _log.warning(
            "connections_limited",
            listener=limits.name,
            wanted=limits.max_connections,
            allowed=fits,
            open_files=limit,
            remedy=f"Raise the hard limit of open files to {needed(limits.max_connections)}, or lower max_connections.",
        )
    return replace(limits, max_connections=fits)


async def open_port(
    server: web.Server,
    connections: OpenConnections,
    answer: Answer,
    *,
    host: str,
    port: int,
    setting: str,
    **options: Any,
) -> asyncio.Server:
    """Open a port on which every connection is guarded.

    Args:
        server: gets the requests.
        connections: of this listener.
        answer: makes the answer to a request that could not be read.
        host: the address to listen on.
        port: 0 chooses a free one.
        setting: the variable that changes the port.
        options: more for the event loop's `create_server`.

    Raises:
        ConfigurationError: the port is in use or may not be opened.
    """
    backlog = backlog_for(connections.limits.max_connections)
    try:
        return await asyncio.get_running_loop().create_server(
            lambda: GuardedConnection(server, connections, answer), host, port, backlog=backlog, **options
        )
    except OSError as error:
        raise _port_problem(error, host, port, setting) from error


@asynccontextmanager
async def listen(
    app: web.Application,
    host: str,
    port: int,
    *,
    setting: str,
    limits: ListenerLimits = ADMIN,
    grace_seconds: float = GRACE_SECONDS,
    cancelled: bool = False,
) -> AsyncIterator[str]:
    """Serve an application while the block runs; yields its address with the real port.

    Args:
        app: the application.
        host: the address to listen on.
        port: 0 chooses a free one.
        setting: the variable that changes the port.
        limits: of the listener.
        grace_seconds: how long running requests may go on after the block.
        cancelled: whether a request is cancelled when its client goes.

    Raises:
        ConfigurationError: the port is in use or may not be opened.
    """
    connections = OpenConnections(limits)
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=grace_seconds, handler_cancellation=cancelled
    )
    await runner.setup()
    try:
        server = runner.server
        if server is None:  # pragma: no cover - the runner's setup makes it
            raise AssertionError
        server.request_handler = counting(server.request_handler)
        server.request_factory = _hiding_expect(server.request_factory)
        listener = await open_port(server, connections, _problem, host=host, port=port, setting=setting)
        try:
            yield f"http://{host if ':' not in host else f'[{host}]'}:{listener.sockets[0].getsockname()[1]}"
        finally:
            listener.close()
    finally:
        await runner.cleanup()


def _hiding_expect(make: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """Keep `Expect` from aiohttp's router, which answers it with 100 before anything is checked.

    `awaiting_body` answers it when the body is wanted; the raw fields still have it.
    """

    def request(message: Any, *rest: Any) -> web.BaseRequest:
        if hdrs.EXPECT in message.headers:
            headers = message.headers.copy()
            del headers[hdrs.EXPECT]
            message = message._replace(headers=headers)
        return make(message, *rest)

    return request


def _problem(status: int) -> web.Response:
    """Answer a request that is not valid HTTP with a problem document.

    aiohttp's own answer and log would show what was sent, which may be a key with one octet too many.
    """
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if status < 500:
        problem |= {"code": "request_unreadable", "detail": "the request is not valid HTTP, or too long"}
        problem["remedy"] = "Shorten the address and the headers, and use visible characters only."
    else:
        problem |= {"code": "internal", "detail": "something went wrong on our side"}
    response = web.Response(status=status, body=orjson.dumps(problem), content_type="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _port_problem(error: OSError, host: str, port: int, setting: str) -> ConfigurationError:
    """Make the error for a port that could not be opened."""
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(
            f"port {port} on {host} is in use",
            remedy=f"Stop the program that uses it, or set {setting} to another port.",
        )
    return ConfigurationError(
        f"port {port} on {host} cannot be opened: {error.strerror}", remedy=f"Set {setting} to another port."
    )
