"""A server in Calendly's place that gives scripted answers, and a client of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from aiohttp import web
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport, Refused, open_calendly
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.listener import listen
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.foundation.settings import CalendlySettings
from tests.support.remembered_uses import RememberedUses

TOKEN = "eyJ.a-token-that-nobody-may-see.sig"
QUICK = CallRetries(attempts=3, first_wait_seconds=0.001, max_wait_seconds=0.01, least_limited_seconds=0.001)


@dataclass(frozen=True)
class ScriptedAnswer:
    """One answer of the script."""

    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    html: bool = False


@dataclass
class ScriptedCalendly:
    """Gives the scripted answers in order, and repeats the last one."""

    answers: list[ScriptedAnswer]
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Give the next answer."""
        self.seen.append(request)
        self.bodies.append(await request.read())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.html:
            return web.Response(
                status=answer.status, text=str(answer.body), content_type="text/html", headers=answer.headers
            )
        body = b"" if answer.body is None else json.dumps(answer.body).encode()
        return web.Response(status=answer.status, body=body, content_type="application/json", headers=answer.headers)


def uncounted(settings: CalendlySettings) -> Budgets:
    """Make budgets for callers whose user is not known: they ask no database."""
    return Budgets(cast("Pool", None), SystemClock(), settings, uses=RememberedUses())


@asynccontextmanager
async def connected(
    settings: CalendlySettings, token: SecretStr, *, retries: CallRetries | None = None, refused: Refused | None = None
) -> AsyncIterator[CalendlyTransport]:
    """Open a transport for one token, with connections of its own."""
    async with open_calendly(settings, uncounted(settings)) as calendly:
        caller = calendly.budgets.caller(None, Priority.PERSON)
        yield calendly.transport(token, caller, retries=retries, refused=refused)


@asynccontextmanager
async def scripted_calendly(
    *answers: ScriptedAnswer, retries: CallRetries = QUICK, refused: Refused | None = None
) -> AsyncIterator[tuple[ScriptedCalendly, CalendlyTransport]]:
    """Run the server and a client of it."""
    server = ScriptedCalendly(list(answers))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    async with (
        listen(app, "127.0.0.1", 0, setting="none") as url,
        connected(CalendlySettings(api_url=url), SecretStr(TOKEN), retries=retries, refused=refused) as client,
    ):
        yield server, client


def error_answer(status: int, title: str, message: str, **more: object) -> ScriptedAnswer:
    """Make an error answer."""
    return ScriptedAnswer(status, {"title": title, "message": message, **more})
