"""A receiver with scripted answers, and a simulator subscribed to it whose clock does not move by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import orjson
from aiohttp import web

from slotwire.ingest.simulator.app import Options, Simulator, simulator
from slotwire.ingest.simulator.clock import DrivenClock
from slotwire.ingest.simulator.model import Attempt, Message
from tests.support.plain_http import NO_TLS

INVITEE_EVENTS = ("invitee.created", "invitee.canceled", "invitee_no_show.created", "invitee_no_show.deleted")
KEY = "5mEzn9C-I28UtwOjZJtFoob0sAAFZ95GbZkqj4y3i0I"
STILL = 1_795_000_000.75
AMPLE = 60_000
"""A rate limit whose turns are a millisecond apart, where a test is about something else."""


@dataclass(frozen=True)
class Delivery:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: object

    @property
    def parsed(self) -> dict[str, Any]:
        """The body, parsed."""
        parsed: dict[str, Any] = orjson.loads(self.body)
        return parsed

    @property
    def event(self) -> str:
        """The event's name."""
        return str(self.parsed["event"])


@dataclass
class Receiver:
    """Answers each delivery with the next of `statuses`, then with `status`; `hold` delays answers."""

    url: str = ""
    status: int = 204
    statuses: list[int] = field(default_factory=list)
    hold: asyncio.Event | None = None
    deliveries: list[Delivery] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.Response:
        """Take a delivery."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        head = {name.lower(): value for name, value in request.headers.items()}
        self.deliveries.append(Delivery(request.path, head, await request.read(), request.transport))
        async with self._arrived:
            self._arrived.notify_all()
        if self.hold:
            await self.hold.wait()
        self.at_once -= 1
        status = self.statuses.pop(0) if self.statuses else self.status
        return web.Response(status=status, headers={"Location": "/elsewhere"} if 300 <= status < 400 else None)

    async def received(self, count: int) -> None:
        """Wait until so many deliveries arrived."""
        async with asyncio.timeout(60), self._arrived:
            await self._arrived.wait_for(lambda: len(self.deliveries) >= count)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Run a receiver on a free port."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        if receiver.hold:
            receiver.hold.set()
        await runner.cleanup()


@dataclass(frozen=True)
class SimulatedCalendly:
    """A running simulator with its owner's REST client."""

    running: Simulator
    http: httpx.AsyncClient

    async def subscribe(self, url: str, **more: object) -> str:
        """Subscribe to every invitee event of the organization; returns the subscription's id."""
        body: dict[str, object] = {
            "url": url,
            "events": INVITEE_EVENTS,
            "organization": self.running.organization,
            "scope": "organization",
            "signing_key": KEY,
        }
        answer = await self.http.post("/webhook_subscriptions", json={**body, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["resource"]["uri"]).rsplit("/", 1)[-1]

    async def subscription(self, ident: str) -> dict[str, Any]:
        """Read a subscription."""
        resource: dict[str, Any] = (await self.http.get(f"/webhook_subscriptions/{ident}")).json()["resource"]
        return resource

    async def act(self, path: str, **body: object) -> dict[str, Any]:
        """Cause something, and wait until nothing more is due."""
        answer = await self.http.post(f"/simulator/{path}", json=body)
        assert answer.is_success, answer.text
        await self.settled()
        found: dict[str, Any] = answer.json()
        return found

    async def advance(self, **by: float) -> None:
        """Move the clock and wait until everything that became due was tried."""
        await self.act("clock", advance_seconds=timedelta(**by).total_seconds())

    async def settled(self) -> None:
        """Wait until nothing is due or in flight."""
        async with asyncio.timeout(60):
            await self.running.engine.sender.idle()

    def ledger(self) -> list[tuple[Message, list[Attempt]]]:
        """Return every message with its attempts."""
        engine = self.running.engine
        numbers = range(1, 1000)
        found = [engine.ledger.message(f"m{number}") for number in numbers]
        return [(message, engine.ledger.attempts(message.id)) for message in found if message]

    def states(self) -> list[str]:
        """Return the state of every message, in order."""
        return [message.state for message, _ in self.ledger()]


@asynccontextmanager
async def simulated_calendly(options: Options | None = None, *, still: bool = True) -> AsyncIterator[SimulatedCalendly]:
    """Run a simulator; with `still`, its clock moves only when the test moves it."""
    chosen = options or Options()
    if still:
        chosen = Options(
            **{name: getattr(chosen, name) for name in chosen.__slots__ if name != "clock"},
            clock=DrivenClock(real=lambda: STILL),
        )
    async with simulator(chosen) as running:
        head = {"Authorization": f"Bearer {running.owner_token}"}
        async with httpx.AsyncClient(base_url=running.url, headers=head, timeout=60, verify=NO_TLS) as http:
            yield SimulatedCalendly(running, http)
