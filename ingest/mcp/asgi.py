"""From a request of aiohttp to an ASGI application, and its answer back, while it is written.

A request's body is read whole, under our limits, before the application begins. After it `receive` waits until the
request ends: an application that asks again and again whether its client is there costs nothing. When the client goes,
aiohttp cancels the request's task, and so the application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from aiohttp import web

from slotwire.ingest.foundation.guarded_connection import SERVER

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


async def serve(application: Application, request: web.Request, body: bytes, **extra: object) -> web.StreamResponse:
    """Have an application answer a request.

    Args:
        application: gets the request.
        request: as it came in.
        body: its body.
        extra: more members of the scope.
    """
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.raw_path.partition("?")[0].encode("latin-1"),
        "query_string": request.query_string.encode(),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": None,
        "server": None,
        **extra,
    }
    answering = _Answering(request, body)
    await application(scope, answering.receive, answering.send)
    return await answering.finished()


class _Answering:
    """The two callables of one request."""

    def __init__(self, request: web.Request, body: bytes) -> None:
        self._request = request
        self._body: bytes | None = body
        self._response: web.StreamResponse | None = None

    async def receive(self) -> Message:
        """Hand over the body, then wait until the request is over."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError  # pragma: no cover - the request's task is cancelled there

    async def send(self, message: Message) -> None:
        """Write what the application answers; waits while the client does not read."""
        if message["type"] == "http.response.start":
            response = web.StreamResponse(status=message["status"])
            for name, value in message.get("headers", ()):
                if name.lower() not in (b"connection", b"transfer-encoding"):
                    response.headers.add(name.decode("latin-1"), value.decode("latin-1"))
            response.headers.setdefault("Cache-Control", "no-store")
            response.headers.setdefault("Server", SERVER)
            await response.prepare(self._request)
            self._response = response
        elif self._response is not None:
            if message.get("body"):
                await self._response.write(message["body"])
            if not message.get("more_body"):
                await self._response.write_eof()

    async def finished(self) -> web.StreamResponse:
        """Return the answer; one that never began is a failure of ours."""
        return self._response if self._response is not None else web.Response(status=500)
