"""A server between us and the simulator that alters some of its answers, as Calendly's own may be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
from aiohttp import web

from slotwire.ingest.foundation.listener import listen
from tests.support.plain_http import NO_TLS

Answer = tuple[int, Any]
"""Status and document; octets are answered as they are, as HTML if they are that."""
Alter = Callable[[web.Request, int, Any], Answer | None]
"""Returns the answer to give instead, or None to leave it as it is."""


@dataclass
class AlteredCalendly:
    """Passes requests on, and alters answers.

    Attributes:
        alter: what is done to each answer.
        refuse: what is answered in place of asking the simulator, if anything.
        asked: the paths that were asked, in their order.
        holding: awaited before each answer.
    """

    upstream: str
    alter: Alter = lambda *_: None
    refuse: Callable[[web.Request], Answer | None] = lambda _: None
    url: str = ""
    asked: list[str] = field(default_factory=list)
    holding: Callable[[web.Request], Awaitable[None]] | None = None

    async def answer(self, request: web.Request) -> web.Response:
        """Pass a request on."""
        self.asked.append(request.path)
        if (refused := self.refuse(request)) is not None:
            return web.json_response(refused[1], status=refused[0])
        passed = {"Authorization": request.headers.get("Authorization", ""), "Content-Type": "application/json"}
        async with httpx.AsyncClient(base_url=self.upstream, trust_env=False, verify=NO_TLS) as client:
            told = await client.request(
                request.method, request.path_qs, headers=passed, content=await request.read(), timeout=60
            )
        document = orjson.loads(told.content) if told.content else None
        altered = self.alter(request, told.status_code, document)
        status, document = altered or (told.status_code, document)
        if self.holding is not None:
            await self.holding(request)
        if isinstance(document, bytes):
            kind = "text/html" if document.startswith(b"<") else "application/json"
            return web.Response(status=status, body=document, content_type=kind)
        body = b"" if document is None else orjson.dumps(document)
        return web.Response(status=status, body=body, content_type="application/json")


@asynccontextmanager
async def altered_calendly(upstream: str) -> AsyncIterator[AlteredCalendly]:
    """Run the server in front of a simulator."""
    altered = AlteredCalendly(upstream)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", altered.answer)
    async with listen(app, "127.0.0.1", 0, setting="none") as altered.url:
        yield altered
