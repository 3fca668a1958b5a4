"""A Calendly that gives the answers it was told, and a client of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client.transport import Refused, RetryPolicy, Transport, connect
from slotwire.ingest.foundation.lifecycle import listen
from slotwire.ingest.foundation.settings import CalendlySettings

TOKEN = "eyJ.a-token-that-nobody-may-see.sig"
QUICK = RetryPolicy(attempts=3, first_wait_seconds=0.001, max_wait_seconds=0.01)


@dataclass(frozen=True)
class Said:
    """One answer."""

    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    html: bool = False


@dataclass
class Calendly:
    """A server that gives the answers it was told, in their order; the last one again and again."""

    answers: list[Said]
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Give the next answer."""
        self.seen.append(request)
        self.bodies.append(await request.read())
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if said.html:
            return web.Response(status=said.status, text=str(said.body), content_type="text/html", headers=said.headers)
        body = b"" if said.body is None else json.dumps(said.body).encode()
        return web.Response(status=said.status, body=body, content_type="application/json", headers=said.headers)


@asynccontextmanager
async def calendly(
    *answers: Said, retries: RetryPolicy = QUICK, refused: Refused | None = None
) -> AsyncIterator[tuple[Calendly, Transport]]:
    """Run such a server and a client of it."""
    server = Calendly(list(answers))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    async with (
        listen(app, "127.0.0.1", 0, setting="none") as url,
        connect(CalendlySettings(api_url=url), SecretStr(TOKEN), retries=retries, refused=refused) as client,
    ):
        yield server, client


def refusal(status: int, title: str, message: str, **more: object) -> Said:
    """Make an error answer."""
    return Said(status, {"title": title, "message": message, **more})
