"""The simulator as a whole: state file, world, sender and HTTP server on 127.0.0.1.

async with simulator(Options(port=0, state_file=path, seed="7")) as running:
    running.url, running.engine
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.simulator.access import Access
from slotwire.ingest.simulator.bookings import Bookings
from slotwire.ingest.simulator.clock import DrivenClock
from slotwire.ingest.simulator.control import Control
from slotwire.ingest.simulator.database import SimulatorDatabase
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.gate import RestGate, json_answer
from slotwire.ingest.simulator.jobs import Jobs
from slotwire.ingest.simulator.ledger import DeliveryLedger
from slotwire.ingest.simulator.model import uri
from slotwire.ingest.simulator.oauth import OAuthCalls
from slotwire.ingest.simulator.oauth_grants import Grants
from slotwire.ingest.simulator.problems import SimulatedRefusal, not_found
from slotwire.ingest.simulator.rates import DEFAULT_RATE_LIMIT
from slotwire.ingest.simulator.rest_account import AccountCalls
from slotwire.ingest.simulator.rest_availability import AvailabilityCalls
from slotwire.ingest.simulator.rest_contacts import ContactCalls
from slotwire.ingest.simulator.rest_event_types import EventTypeCalls
from slotwire.ingest.simulator.rest_invitees import InviteeCalls
from slotwire.ingest.simulator.rest_people import PeopleCalls
from slotwire.ingest.simulator.rest_scheduling import SchedulingCalls
from slotwire.ingest.simulator.rest_subscriptions import SubscriptionCalls
from slotwire.ingest.simulator.sender import DeliveryPolicy, Sender
from slotwire.ingest.simulator.transport import is_loopback
from slotwire.ingest.simulator.world import World, make_world, oauth_app

HOST = "127.0.0.1"
STOP_SECONDS = 1.0
MAX_PORT = 65_535
BACKLOG = 1024
MAX_REQUEST_BYTES = 4 * 1_048_576


@dataclass(frozen=True, slots=True)
class Options:
    """How to start. Port 0 takes a free port; without a state file nothing survives; others follow the clock's file."""

    port: int = 0
    state_file: Path | None = None
    seed: str = "slotwire"
    organizations: int = 1
    rate_limit: int = DEFAULT_RATE_LIMIT
    policy: DeliveryPolicy = field(default_factory=DeliveryPolicy)
    clock: DrivenClock | None = None
    clock_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Simulator:
    """A running simulator; the task `sending` ends only with the context, or when the sender fails."""

    url: str
    engine: Engine
    gate: RestGate
    sending: asyncio.Task[None]

    @property
    def world(self) -> World:
        """The organizations and people of the seed."""
        return self.engine.world

    @property
    def owner_token(self) -> str:
        """The token of the first organization's owner, with all scopes."""
        return self.world.tokens[0].value

    @property
    def organization(self) -> str:
        """The first organization's URI."""
        return uri("organizations", next(iter(self.world.organizations)))


@contextlib.asynccontextmanager
async def simulator(options: Options) -> AsyncIterator[Simulator]:
    """Run a simulator while the context is open.

    Raises:
        SlotwireError: the state file is in use or was made with another seed; the port is taken.
    """
    database = SimulatorDatabase(options.state_file)
    try:
        engine, gate = _build(database, options)
        listener = _listener(options.port)
        jobs = Jobs(engine)
        runner = web.AppRunner(
            application(engine, gate, jobs), access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS
        )
        await runner.setup()
        await web.SockSite(runner, listener).start()
        sending = asyncio.create_task(engine.sender.run(), name="simulator-sender")
        try:
            yield Simulator(f"http://{HOST}:{listener.getsockname()[1]}", engine, gate, sending)
        finally:
            await jobs.stop_all()
            await runner.cleanup()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    finally:
        database.close()


def application(engine: Engine, gate: RestGate, jobs: Jobs) -> web.Application:
    """Return the web application: Calendly's paths and `/simulator/`."""
    app = web.Application(middlewares=[_errors, _this_machine_only], client_max_size=MAX_REQUEST_BYTES)
    for calls in (PeopleCalls, EventTypeCalls, AccountCalls, AvailabilityCalls, ContactCalls):
        app.add_routes(calls(engine).routes(gate))
    for others in (SubscriptionCalls, SchedulingCalls, InviteeCalls):
        app.add_routes(others(engine).routes(gate))
    app.add_routes(Access(engine, gate).routes())
    app.add_routes(OAuthCalls(engine, gate, oauth_app(engine.seed), Grants(engine, gate)).routes())
    app.add_routes(Control(engine, gate).routes())
    app.add_routes(jobs.routes())
    return app


@web.middleware
async def _this_machine_only(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    # Refuse web pages: a browser sends Origin, and after DNS rebinding a Host that is not loopback. The consent form is
    # our own.
    host = urlsplit(f"//{request.host}").hostname or ""
    origin = request.headers.get("Origin")
    own_form = request.path == "/oauth/authorize" and origin in {f"http://{request.host}", "null"}
    if (origin is not None and not own_form) or not is_loopback(host):
        raise SimulatedRefusal(403, "Permission Denied", "The simulator answers only programs on this machine.")
    return await handler(request)


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except SimulatedRefusal as refusal:
        return json_answer(refusal.body, refusal.status)
    except SlotwireError as error:
        return json_answer({"title": "Service Unavailable", "message": f"{error.message}. {error.remedy}"}, 503)
    except web.HTTPNotFound:
        return json_answer(not_found().body, 404)
    except web.HTTPException as error:
        return json_answer({"title": error.reason, "message": error.reason}, error.status)


def _build(database: SimulatorDatabase, options: Options) -> tuple[Engine, RestGate]:
    _check_seed(database, options)
    try:
        world = make_world(options.seed, options.organizations)
    except ValueError as error:
        raise SlotwireError(str(error), remedy="Choose another number of organizations.") from None
    clock = options.clock or DrivenClock()
    clock.advance(timedelta(seconds=float(database.meta("clock_offset_seconds") or 0)))
    if options.clock_file is not None:
        clock.show_in(options.clock_file)
    bookings, ledger = Bookings(database), DeliveryLedger(database)
    sender = Sender(options.seed, clock, database, ledger, options.policy)
    engine = Engine(options.seed, world, clock, database, bookings, ledger, sender)
    return engine, RestGate(engine, options.rate_limit)


def _check_seed(database: SimulatorDatabase, options: Options) -> None:
    mine = orjson.dumps([options.seed, options.organizations]).decode()
    known = database.meta("world")
    if known not in {None, mine}:
        seed, organizations = orjson.loads(known or "")
        raise SlotwireError(
            f"the simulator's state file was made with --seed {seed} --organizations {organizations}",
            remedy="Start with the same values, or name another file with --state-file.",
        )
    database.set_meta("world", mine)
    database.commit()


def _listener(port: int) -> socket.socket:
    # create_server leaks its socket if the port is out of range, so that is checked first.
    try:
        if not 0 <= port <= MAX_PORT:
            raise OSError(f"ports go from 0 to {MAX_PORT}")  # noqa: TRY301 -- same message, same remedy
        return socket.create_server((HOST, port), backlog=BACKLOG)
    except OSError as error:
        raise SlotwireError(
            f"the simulator cannot listen on {HOST}:{port}: {error.strerror or error}",
            remedy="Choose another --port, or 0 for a free one.",
        ) from error
