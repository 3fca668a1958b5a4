"""What a run stands on: a stack of its own in a temporary folder, the contenders as processes, their CPU time.

Slotwire is the installed command with its own settings: `slotwire migrate`, then `slotwire serve`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import orjson
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.children import Child, descendants
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.postgres import DATABASE
from slotwire.ingest.local.stack import Stack, embedded_stack
from slotwire.ingest.local.supervisor import Process, Service
from tests.bench import contenders
from tests.bench.deliveries import Target
from tests.bench.load import Job, Measured
from tests.support.public_endpoint import make_hook, settings_for

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("slotwire")
PARTITIONS = 12
"""Of the naive service's topic: as many as ours have by default."""
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The run cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers all contenders share, and our settings.

    Attributes:
        stack: Postgres and Kafka.
        target: our hook; its port is that of `slotwire serve`.
        environment: the settings of our processes.
        loader: the load client.
    """

    stack: Stack
    target: Target
    environment: Mapping[str, str]
    loader: Loader

    def ours(
        self,
        name: str,
        *arguments: str,
        show: Callable[[str], None] | None = None,
        command: Sequence[str | Path] = (COMMAND,),
    ) -> Process:
        """Return one of our processes, not started, with a health port of its own."""
        port = free_port()
        environment = {**self.environment, "SLOTWIRE_HEALTH__PORT": str(port)}
        service = Service(
            name,
            [*command, *arguments],
            environment,
            f"http://127.0.0.1:{port}/readyz",
            stdout="pipe" if show else "log",
        )
        return Process(service, self.stack.state, show or _nobody)

    def contender(self, name: str, *, pool: int = 0) -> tuple[Process, Target]:
        """Return a contender of `contenders.py`, not started, and where to send to."""
        port = free_port()
        argv = [sys.executable, "-m", "tests.bench.contenders", name, "--key", self.target.key]
        argv += ["--port", str(port), "--pool", str(pool), "--dsn", self.stack.owner_url]
        argv += ["--kafka", self.stack.kafka_bootstrap_servers]
        service = Service(f"bench-{name}", argv, _environment(), f"http://127.0.0.1:{port}/readyz")
        return Process(service, self.stack.state, _nobody), Target(port, self.target.path, self.target.key)

    async def count(self, table: str) -> int:
        """Count the rows of a table."""
        connection = await asyncpg.connect(self.stack.owner_url)
        try:
            return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
        finally:
            await connection.close()

    def cpu(self, server: Process) -> dict[str, float]:
        """Return the CPU seconds used so far, by the server, Postgres (all of it) and Kafka."""
        return {
            "server": cpu_seconds(server.pid),
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
    async with embedded_stack(folder, report=report) as stack:
        database = Database(DATABASE, stack.owner_url, stack.runtime_url)
        settings = settings_for(database)
        environment = _settings(stack, settings)
        await _migrate(stack, environment)
        hook = await make_hook(settings, database)
        await _prepare_naive(stack)
        async with _loading() as loader:
            port = int(environment["SLOTWIRE_HTTP__PORT"])
            yield Stage(stack, Target(port, hook.path, hook.key), environment, loader)


def _settings(stack: Stack, settings: Settings) -> dict[str, str]:
    """Write what must be set; everything else is as the settings have it by default."""
    hook_key, vault_key = settings.http.hook_keys[0], settings.vault.keys[0]
    port = free_port()
    return {
        **_environment(),
        "SLOTWIRE_DATABASE_URL": stack.runtime_url,
        "SLOTWIRE_MIGRATE__DATABASE_URL": stack.owner_url,
        "SLOTWIRE_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "SLOTWIRE_HTTP__HOST": "127.0.0.1",
        "SLOTWIRE_HTTP__PORT": str(port),
        "SLOTWIRE_HTTP__HOOK_KEYS": hook_key.get_secret_value(),
        "SLOTWIRE_VAULT__KEYS": vault_key.get_secret_value(),
        "SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS": stack.kafka_bootstrap_servers,
        "SLOTWIRE_KAFKA__REPLICATION_FACTOR": "1",
        "SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS": "1",
    }


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}


async def _migrate(stack: Stack, environment: Mapping[str, str]) -> None:
    child = Child.spawn("migrate", [COMMAND, "migrate"], log=stack.state.log_file("migrate"), environment=environment)
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
        env=_environment(),
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
