"""How a process starts, stops and fails: signals, listeners, tasks with names.

A signal asks for a stop. Running work is finished or handed back; interrupted work counts as not done, never as
failed. A side task that dies ends the process: half a process is worse than none.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import random
import signal
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.telemetry import get_logger


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a process's main coroutine on uvloop until it returns.

    Args:
        main: gets an event that is set when SIGINT or SIGTERM asks for a stop.
    """
    import uvloop

    # Imported modules live as long as the process, so the collector need not scan them again. Deliveries make too few
    # objects for frequent collections to pay.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)

    async def body() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())


async def until_stopped(stop: asyncio.Event, **work: Coroutine[Any, Any, None]) -> None:
    """Run named side tasks until a stop is asked for, then cancel them and wait for their end.

    Raises:
        BaseExceptionGroup: a side task raised; the others are cancelled.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(item, name=name) for name, item in work.items()]
        await stop.wait()
        for task in tasks:
            task.cancel()


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for at most this many seconds; return whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def pause(seconds: float) -> None:
    """Sleep for about so long: a tenth more or less, so that several processes do not run their chores in step."""
    await asyncio.sleep(seconds * random.uniform(0.9, 1.1))  # noqa: S311 - jitter, not a secret


@asynccontextmanager
async def listen(app: web.Application, host: str, port: int, *, setting: str) -> AsyncIterator[str]:
    """Serve an application while the block runs; yields its address with the real port.

    Raises:
        ConfigurationError: the port is in use or may not be opened.
    """
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        listener = await _listener(runner, host, port, setting)
        try:
            yield f"http://{host if ':' not in host else f'[{host}]'}:{listener.sockets[0].getsockname()[1]}"
        finally:
            listener.close()
    finally:
        await runner.cleanup()


async def _listener(runner: web.AppRunner, host: str, port: int, setting: str) -> asyncio.Server:
    loop, server = asyncio.get_running_loop(), runner.server
    if server is None:  # pragma: no cover - the runner's setup makes it
        raise AssertionError
    try:
        return await loop.create_server(lambda: _OperatorConnection(server, loop=loop), host, port)
    except OSError as error:
        raise port_problem(error, host, port, setting) from error


class _OperatorConnection(web.RequestHandler):
    """A connection of an operator's listener. A request that is not valid HTTP is answered with a problem document.

    aiohttp's own answer and log would show what was sent, which may be a key with one octet too many.
    """

    def __init__(self, server: web.Server, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop, access_log=None)  # type: ignore[arg-type]  # documented as the way to have none

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002  # the signature is aiohttp's
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # aiohttp's words can hold the sender's header
    ) -> web.StreamResponse:
        """Answer a request that aiohttp could not read, and log our own failures."""
        if isinstance(exc, LineTooLong):
            status = 431
        problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
        if status < 500:
            problem |= {"code": "request_unreadable", "detail": "the request is not valid HTTP, or too long"}
            problem["remedy"] = "Shorten the address and the headers, and use visible characters only."
        else:
            trace = None if exc is None else exc.__traceback__
            frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(trace)[-3:]]
            get_logger("listener").error("request_failed", error=type(exc).__name__, where=frames)
            problem |= {"code": "internal", "detail": "something went wrong on our side"}
        response = web.Response(status=status, body=orjson.dumps(problem), content_type="application/problem+json")
        response.headers["Cache-Control"] = "no-store"
        response.force_close()
        return response


def port_problem(error: OSError, host: str, port: int, setting: str) -> ConfigurationError:
    """Make the error for a port that could not be opened."""
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(
            f"port {port} on {host} is in use",
            remedy=f"Stop the program that uses it, or set {setting} to another port.",
        )
    return ConfigurationError(
        f"port {port} on {host} cannot be opened: {error.strerror}", remedy=f"Set {setting} to another port."
    )
