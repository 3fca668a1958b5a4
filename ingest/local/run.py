"""`slotwire local`: servers, migrations, processes and demo; each starts as soon as what it needs is ready.

Postgres ── schema ──┬── serve, control, mcp ── demo organization subscribed ──┐
Kafka ──── topics ───┴── relay, demo agent ────────────────────────────────────┼── ready
simulator ─────────────────────────────────────────────────────────────────────┘
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from slotwire.ingest.errors import SchemaMismatch, SlotwireError
from slotwire.ingest.foundation.local_stack import AGENTS_FILE, ENVIRONMENT_FILE, READY_FILE
from slotwire.ingest.local.console import Console, ReadyLine
from slotwire.ingest.local.demo import DemoSubscription, mcp_token, start_story, subscribe
from slotwire.ingest.local.folders import write_private
from slotwire.ingest.local.stack import Stack, StackOptions, disk_problems, together
from slotwire.ingest.local.state import StateFolder
from slotwire.ingest.local.supervisor import AfterStart, Process, Service, Supervisor, Unit
from slotwire.ingest.local.wiring import MCP_AGENT, Wiring

STOP_SECONDS = 4.4
"""For everything together, a process and then a server; the rest is killed, so that the command ends within 5 s."""


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """The options of `slotwire local`.

    Attributes:
        state_dir: the folder of all data, keys and logs.
        demo: make meetings happen.
        mirror: the address of a Maven repository to download Kafka from; None takes the default.
        log_level: the level of the processes' logs.
        ephemeral: the state folder is deleted at the end.
    """

    state_dir: Path
    demo: bool = True
    mirror: str | None = None
    log_level: str = "info"
    ephemeral: bool = False


async def run_local(options: LocalOptions, console: Console) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP, then stop every process.

    Raises:
        SlotwireError: something cannot start; the rest is stopped.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.create_task(_claim_and_run(options, console), name="local")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not work.done():
        console.say("stopping")
        work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    console.say("stopped")


async def _claim_and_run(options: LocalOptions, console: Console) -> None:
    with StateFolder.claim(options.state_dir) as state, disk_problems(state.path):
        stack = Stack.of(
            state, report=console.progress, options=StackOptions(mirror=options.mirror, ephemeral=options.ephemeral)
        )
        installation = Installation(Wiring(stack, options.log_level, console.colour), console, demo=options.demo)
        try:
            await installation.start()
            await installation.supervise()
        finally:
            await installation.stop()


@dataclass(slots=True)
class Installation:
    """Everything that `slotwire local` runs.

    Attributes:
        wiring: addresses, keys, and the table of processes.
        console: prints progress and events.
        demo: make meetings happen.
    """

    wiring: Wiring
    console: Console
    demo: bool
    processes: list[Process] = field(default_factory=list)
    _schema: asyncio.Event = field(default_factory=asyncio.Event)
    _simulator: asyncio.Event = field(default_factory=asyncio.Event)
    _subscription: DemoSubscription | None = None
    _mcp_token: str = ""

    async def start(self) -> None:
        """Start everything, in parallel where possible, and print the ready line.

        Raises:
            SlotwireError: something cannot start.
        """
        write_private(self.wiring.stack.state.path / ENVIRONMENT_FILE, self.wiring.environment_file())
        write_private(self.wiring.stack.state.path / AGENTS_FILE, self.wiring.agents_file())
        await self.wiring.stack.end_strays()
        self.wiring.require_ports()
        self.wiring.require_clock()
        self.console.progress("starting Postgres, Kafka and the simulator")
        await together(self._database_side(), self._broker_side(), self._calendly_side())
        ready = await self._ready_line()
        write_private(self.wiring.stack.state.path / READY_FILE, ready.line() + "\n")
        self.console.ready(ready, demo=self.demo)
        if self.demo:
            await start_story(self.wiring.simulator_url)

    async def supervise(self) -> None:
        """Restart the processes and servers that die, until cancelled."""
        supervisor = Supervisor(self.console.say)
        async with supervisor.watching([self.wiring.stack.postgres, self.wiring.stack.kafka, *self.processes]):
            await asyncio.Event().wait()

    async def stop(self) -> None:
        """Stop our processes, then the servers; kill those that do not stop in time."""
        (self.wiring.stack.state.path / READY_FILE).unlink(missing_ok=True)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._stop_in_order()
        except TimeoutError:
            units: tuple[Unit, ...] = (*self.processes, self.wiring.stack.postgres, self.wiring.stack.kafka)
            late = [unit for unit in units if unit.running]
            self.console.say(f"killed, because they did not stop in time: {', '.join(unit.name for unit in late)}")
            await together(*(unit.kill() for unit in late))

    async def _stop_in_order(self) -> None:
        """Stop Kafka as soon as the relay and the agent have ended, and Postgres last: it has begun to write before."""
        stops = {process.name: asyncio.create_task(process.stop()) for process in self.processes}
        if self.wiring.stack.ephemeral:
            await _ended(stops.values())
            await self.wiring.stack.stop()
            return

        async def stop_broker() -> None:
            await _ended(stops[name] for name in stops.keys() & {"relay", "demo-agent"})
            await self.wiring.stack.kafka.stop()

        checkpoint = asyncio.create_task(self.wiring.stack.postgres.checkpoint())
        try:
            await together(stop_broker(), _ended(stops.values()))
        finally:
            checkpoint.cancel()
            await asyncio.wait({checkpoint})
        await self.wiring.stack.stop()

    async def _database_side(self) -> None:
        await self.wiring.stack.postgres.start()
        await self._migrate()
        self._schema.set()
        processes = (self.wiring.serve(), self.wiring.control(), self.wiring.mcp())
        await together(*(self._run(process) for process in processes), self._subscribe())

    async def _broker_side(self) -> None:
        from slotwire.ingest.local.topics import make_topics

        await self.wiring.stack.kafka.start()
        await make_topics(self.wiring.settings().kafka, self.console.progress)
        await self._schema.wait()
        await together(self._run(self.wiring.relay()), self._run(self.wiring.demo_agent()))

    async def _calendly_side(self) -> None:
        await self._run(self.wiring.simulator(), after=self._resume_story)
        self._simulator.set()

    async def _run(self, service: Service, after: AfterStart | None = None) -> None:
        process = Process(service, self.wiring.stack.state, self.console.show, after)
        self.processes.append(process)
        await process.start()

    async def _resume_story(self) -> None:
        """Start the story again after the simulator died: a new process does not know of it."""
        if self.demo and self._simulator.is_set():
            await start_story(self.wiring.simulator_url)

    async def _migrate(self) -> None:
        """Migrate the schema as `slotwire migrate` does, but in this process. A later start finds it up to date."""
        from slotwire.ingest.foundation import migrations
        from slotwire.ingest.foundation.clock import clock_of
        from slotwire.ingest.foundation.postgres import connect

        settings = self.wiring.settings()
        migrate, limits = settings.migrate, settings.migrate.limits(settings.database)
        connection = await connect(self.wiring.stack.owner_url, limits, application="migrate")
        try:
            await migrations.migrate(
                connection, role_prefix=migrate.role_prefix, shards=migrate.shards, now=clock_of(settings).now()
            )
        except SchemaMismatch as error:
            wipe = f"Or delete this local data: slotwire local --wipe --state-dir {self.wiring.stack.state.path}"
            raise SchemaMismatch(error.message, remedy=f"{error.remedy}\n{wipe}") from error
        finally:
            await connection.close()

    async def _subscribe(self) -> None:
        await self._simulator.wait()
        state = self.wiring.stack.state
        self._subscription = await subscribe(self.wiring.settings(), state.stored_secret("admin-key"))
        state.store_secret("admin-key", self._subscription.admin_key)
        self._mcp_token = await mcp_token(self.wiring.settings(), MCP_AGENT, self._subscription.organization)

    async def _ready_line(self) -> ReadyLine:
        wiring, subscription = self.wiring, self._subscription
        if subscription is None:
            raise SlotwireError("the demo organization is not subscribed")
        return ReadyLine(
            hook_url=subscription.hook_url,
            signing_key=subscription.signing_key,
            organization=subscription.organization,
            public_url=wiring.public_url,
            admin_url=wiring.admin_url,
            admin_key=subscription.admin_key,
            health_url=wiring.health_url,
            database_url=wiring.stack.runtime_url,
            kafka_bootstrap_servers=wiring.stack.kafka_bootstrap_servers,
            simulator_url=wiring.simulator_url,
            simulator_token=subscription.token,
            mcp_url=wiring.mcp_url,
            mcp_token=self._mcp_token,
            state_dir=str(wiring.stack.state.path),
        )


async def _ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Wait for tasks, and raise what one of them raised."""
    await asyncio.gather(*tasks)
