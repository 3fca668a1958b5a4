"""What a run stands on: a stack of its own in a temporary folder, the contenders as processes, their CPU time.

Slotwire runs with its default settings: `slotwire migrate`, then its processes. A second checkout gets a database and
topics of its own on the same servers, and migrates them itself: its schema may be another one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import orjson
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.children import Child, descendants
from slotwire.ingest.local.databases import Database, database_of
from slotwire.ingest.local.postgres import DATABASE, OWNER, RUNTIME
from slotwire.ingest.local.stack import Stack, embedded_stack
from slotwire.ingest.local.supervisor import Process, Service
from slotwire.schemas.ids import last_segment
from tests.bench import contenders
from tests.bench.deliveries import Target
from tests.bench.load import Job, Measured
from tests.support.public_endpoint import make_hook, settings_for

ROOT = Path(__file__).parents[2]
PARTITIONS = 12
"""Of the naive service's topic: as many as ours have by default."""
POLL_SECONDS = 0.1
"""How often the bench looks whether something has come that no process tells it of."""
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The run cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers all contenders share, and one checkout's Slotwire on them.

    Attributes:
        stack: Postgres and Kafka.
        database: of this checkout.
        settings: the ones that the environment holds, for what the bench does itself.
        target: the hook; its port is that of `slotwire serve`.
        environment: the settings of the processes.
        command: runs this checkout's `slotwire`.
        connection: of the bench, to count with; one, because opening them would weigh in what Postgres costs.
        loader: the load client.
    """

    stack: Stack
    database: Database
    settings: Settings
    org: str
    target: Target
    environment: Mapping[str, str]
    command: Sequence[str | Path]
    connection: Connection
    loader: Loader

    def ours(self, name: str, *arguments: str, show: Callable[[str], None] | None = None) -> Process:
        """Return one of our processes, not started, with a health port of its own."""
        ports = {f"SLOTWIRE_{kind}__PORT": str(free_port()) for kind in ("HEALTH", "ADMIN")}
        service = Service(
            name,
            [*self.command, *arguments],
            {**self.environment, **ports},
            f"http://127.0.0.1:{ports['SLOTWIRE_HEALTH__PORT']}/readyz",
            stdout="pipe" if show else "log",
        )
        return Process(service, self.stack.state, show or _nobody)

    async def beside(self, checkout: Path) -> Stage:
        """Set up another checkout on the same servers.

        Raises:
            BenchError: it cannot migrate its database.
        """
        name = "slotwire_beside"
        superuser = await asyncpg.connect(self.stack.superuser_url)
        try:
            await superuser.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
            # Checkouts before the roles of processes had one group for all of them.
            await superuser.execute(f"CREATE ROLE slotwire_runtime NOLOGIN; GRANT slotwire_runtime TO {RUNTIME}")
        finally:
            await superuser.close()
        server = self.stack.postgres
        database = database_of(server, name)
        return await _set_up(self.stack, database, checkout, self.loader, topic_prefix="beside.")

    def contender(self, name: str, *, pool: int = 0) -> tuple[Process, Target]:
        """Return a contender of `contenders.py`, not started, and where to send to."""
        port = free_port()
        argv = [sys.executable, "-m", "tests.bench.contenders", name, f"--key={self.target.key}"]
        argv += ["--port", str(port), "--pool", str(pool), "--dsn", self.stack.owner_url]
        argv += ["--kafka", self.stack.kafka_bootstrap_servers]
        service = Service(f"bench-{name}", argv, bench_environment(), f"http://127.0.0.1:{port}/readyz")
        return Process(service, self.stack.state, _nobody), Target(port, self.target.path, self.target.key)

    async def count(self, table: str) -> int:
        """Count the rows of a table."""
        return await self.ask(f"SELECT count(*) FROM {table}")

    async def ask(self, statement: str) -> int:
        """Return the one number that a statement answers."""
        return int(await self.connection.fetchval(statement) or 0)

    async def until(self, statement: str, least: int, *, seconds: float) -> None:
        """Wait until the one number that a statement answers is large enough.

        Raises:
            BenchError: it is not in time.
        """
        deadline = time.monotonic() + seconds
        while (found := await self.ask(statement)) < least:
            if time.monotonic() > deadline:
                raise BenchError(f"after {seconds:.0f} s there are {found} instead of {least}: {statement.strip()}")
            await asyncio.sleep(POLL_SECONDS)

    def chain(self) -> dict[str, Process]:
        """Return all that a deployment runs, not started: with a standby relay, and an agent for every booking."""
        return {
            "serve": self.ours("serve", "serve"),
            "relay": self.ours("relay", "relay"),
            "standby relay": self.ours("standby", "relay"),
            "control": self.ours("control", "control"),
            "agents": self.ours("agents", "agents", "run", "tests.bench.agent:agent"),
        }

    def cpu(self, servers: Mapping[str, Process]) -> dict[str, float]:
        """Return the CPU seconds used so far, by these processes, Postgres (all of it) and Kafka."""
        return {
            **{name: cpu_seconds(each.pid) for name, each in servers.items()},
            "postgres": cpu_seconds(self.stack.postgres.child.pid),
            "kafka": cpu_seconds(self.stack.kafka.child.pid) if self.stack.kafka.running else 0.0,
        }


@dataclass(slots=True)
class Loader:
    """The load client's process."""

    process: asyncio.subprocess.Process

    async def perform(
        self, target: Target, connections: int, *, seconds: float, warm_up_seconds: float, prepared: int
    ) -> Measured:
        """Run one closed loop.

        Raises:
            BenchError: something was not acknowledged, or the client ended.
        """
        job = Job(target.port, target.path, target.key, connections, seconds, warm_up_seconds, prepared)
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:  # pragma: no cover - it was started with pipes
            raise AssertionError
        stdin.write(orjson.dumps(job) + b"\n")
        await stdin.drain()
        line = await stdout.readline()
        answer = orjson.loads(line) if line else {"error": "the load client ended; its words are above"}
        if "error" in answer:
            raise BenchError(answer["error"])
        return Measured(**answer)


@asynccontextmanager
async def staged(folder: Path, report: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Start the stack, migrate it, subscribe one organization, start the load client."""
    async with embedded_stack(folder, report=report) as stack, _loading() as loader:
        stage = await _set_up(stack, database_of(stack.postgres, DATABASE), ROOT, loader)
        await _prepare_naive(stack)
        yield stage


async def _set_up(stack: Stack, database: Database, checkout: Path, loader: Loader, *, topic_prefix: str = "") -> Stage:
    found = package_of(checkout)
    if found is None:
        raise BenchError(f"{checkout} is no checkout of Slotwire")
    path, package = found
    # By its module: the installed command would import this checkout.
    command = (sys.executable, "-P", "-m", f"{package}.cli")
    settings = settings_for(database)
    kafka = settings.kafka.model_copy(
        update={
            "bootstrap_servers": stack.kafka_bootstrap_servers,
            "topic_prefix": topic_prefix,
            "replication_factor": 1,
            "min_insync_replicas": 1,
        }
    )
    settings = settings.model_copy(update={"kafka": kafka})
    environment = {**bench_environment(path), **_written(settings, database)}
    await _migrate(stack, command, environment)
    hook = await make_hook(settings, database)
    connection = await asyncpg.connect(database.owner_url)
    target = Target(int(environment["SLOTWIRE_HTTP__PORT"]), hook.path, hook.key)
    return Stage(
        stack, database, settings, last_segment(hook.organization), target, environment, command, connection, loader
    )


def package_of(checkout: Path) -> tuple[Path, str] | None:
    """Return where a checkout's Python path begins and what its `ingest` is called there; None if it has none.

    Before the namespace `slotwire` the packages were imported from the checkout's root.
    """
    for path, package in ((checkout / "src", "slotwire.ingest"), (checkout, "ingest")):
        if (path.joinpath(*package.split("."), "cli", "__main__.py")).is_file():
            return path, package
    return None


def _written(settings: Settings, database: Database) -> dict[str, str]:
    """Write what must be set; everything else is as the settings have it by default."""
    hook_key, vault_key = settings.http.hook_keys[0], settings.vault.keys[0]
    port = free_port()
    return {
        "SLOTWIRE_DATABASE_URL": database.runtime_url,
        "SLOTWIRE_MIGRATE__DATABASE_URL": database.owner_url,
        "SLOTWIRE_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "SLOTWIRE_HTTP__HOST": "127.0.0.1",
        "SLOTWIRE_HTTP__PORT": str(port),
        "SLOTWIRE_HTTP__HOOK_KEYS": hook_key.get_secret_value(),
        "SLOTWIRE_VAULT__KEYS": vault_key.get_secret_value(),
        "SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "SLOTWIRE_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "SLOTWIRE_KAFKA__REPLICATION_FACTOR": str(settings.kafka.replication_factor),
        "SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS": str(settings.kafka.min_insync_replicas),
    }


def bench_environment(*paths: Path) -> dict[str, str]:
    """Return an environment that imports from some folders, and `tests.bench` from this checkout."""
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(str(each) for each in (*paths, ROOT))}


async def _migrate(stack: Stack, command: Sequence[str], environment: Mapping[str, str]) -> None:
    child = Child.spawn("migrate", [*command, "migrate"], log=stack.state.log_file("migrate"), environment=environment)
    if not await child.wait(60) or child.process.returncode:
        raise BenchError(f"`slotwire migrate` {child.ending}:\n{child.output()}")


async def _prepare_naive(stack: Stack) -> None:
    """Make the naive service's table and topic."""
    connection = await asyncpg.connect(stack.owner_url)
    try:
        await connection.execute(contenders.TABLE)
    finally:
        await connection.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(contenders.TOPIC, PARTITIONS, 1)])
    finally:
        await admin.close()


@asynccontextmanager
async def _loading() -> AsyncIterator[Loader]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=bench_environment(),
        cwd=ROOT,
    )
    try:
        yield Loader(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 2)
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def started(*processes: Process) -> AsyncIterator[None]:
    """Run processes while the block runs."""
    begun: list[Process] = []
    try:
        for process in processes:
            begun.append(process)
            await process.start()
        yield
    finally:
        for process in reversed(begun):
            await process.stop()


def free_port() -> int:
    """Find a port of 127.0.0.1 nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its descendants, the ended ones included (Linux; else 0)."""
    return sum(_own_seconds(each) for each in (pid, *descendants(pid)))


def _own_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # proc(5): utime, stime, and cutime, cstime of the children that were waited for
    return sum(int(field) for field in fields[11:15]) / _TICKS


def _nobody(_: str) -> None:
    """Take lines nobody reads."""
