"""Starts processes, watches them, restarts those that die, and stops them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local.children import Child, Stdout
from slotwire.ingest.local.state import StateFolder

READY_SECONDS = 180.0
"""How long a process may take until it is ready."""
STOP_SECONDS = 2.0
"""How long a process may take to stop; Postgres and Kafka, which stop after them, need as long."""
FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 30.0
STEADY_SECONDS = 20.0
"""A process that ran this long before it died is restarted at once."""
WATCH_SECONDS = 0.1
MAX_LINE_BYTES = 65_536
"""A longer line of a shown process is omitted."""

Say = Callable[[str], None]
"""Prints one line for the user."""


AfterStart = Callable[[], Awaitable[None]]
"""Runs each time a process has become ready."""


class Unit(Protocol):
    """Something that runs and may die: a server of the stack or one of our processes."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    @property
    def running(self) -> bool:
        """Whether it runs."""
        ...

    @property
    def ending(self) -> str:
        """How it ended, as the end of a sentence: `was killed by SIGKILL`."""
        ...

    async def restart(self) -> None:
        """Start it again and wait until it is ready.

        Raises:
            SlotwireError: it did not become ready.
        """
        ...

    async def kill(self) -> None:
        """`kill -9` it and wait until it is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """How one process is run.

    Attributes:
        name: its name in messages, and that of its log.
        argv: program and arguments.
        environment: its whole environment.
        ready_url: an address that answers 200 once it is ready; if empty, it is ready at once.
        stdout: `pipe` or `terminal` to show its standard output to the user, `nowhere` if that holds secrets.
    """

    name: str
    argv: Sequence[str | Path]
    environment: Mapping[str, str]
    ready_url: str = ""
    stdout: Stdout = "log"


@dataclass(slots=True)
class Process:
    """One service as a child of ours.

    Attributes:
        service: how it is run.
        state: the folder of its log.
        show: prints a line of its standard output, if that is to be shown.
        after_start: runs each time it has become ready.
    """

    service: Service
    state: StateFolder
    show: Say
    after_start: AfterStart | None = None
    _child: Child | None = None
    _reader: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.service.name

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._child is not None and self._child.running

    @property
    def ending(self) -> str:
        """How it ended, as the end of a sentence."""
        return "was not started" if self._child is None else self._child.ending

    @property
    def pid(self) -> int:
        """The process id of the current or last run."""
        return self._child.pid if self._child else 0

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            SlotwireError: it ended or did not become ready; the remedy quotes the end of its log.
        """
        self._child = child = Child.spawn(
            self.name,
            self.service.argv,
            log=self.state.log_file(self.name),
            environment=self.service.environment,
            stdout=self.service.stdout,
        )
        self.state.children.record(child)
        if child.output_pipe is not None:
            self._reader = asyncio.create_task(_show_lines(child.output_pipe, self.show), name=f"show {self.name}")
        deadline = time.monotonic() + READY_SECONDS
        while self.service.ready_url and await http_status(self.service.ready_url) != 200:
            if not child.running:
                raise SlotwireError(f"{self.name} {child.ending}", remedy=_log_tail(child))
            if time.monotonic() > deadline:
                raise SlotwireError(f"{self.name} is not ready after {READY_SECONDS:.0f} s", remedy=_log_tail(child))
            await asyncio.sleep(0.02)
        if self.after_start is not None:
            await self.after_start()

    async def stop(self, *, steps: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, STOP_SECONDS),)) -> None:
        """Ask it to stop, and kill it if it does not stop in time."""
        if self._child is not None:
            await self._child.stop(*steps)
        if self._reader is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._reader, 0.5)
            self._reader = None

    async def kill(self) -> None:
        """`kill -9` it and wait until it is gone."""
        if self._child is not None:
            await self._child.kill()

    async def restart(self) -> None:
        """Start it again and wait until it is ready."""
        await self.stop(steps=())
        await self.start()


async def _show_lines(output: BinaryIO, show: Say) -> None:
    """Show each line of a child's standard output until it is closed."""
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), output
    )
    try:
        while not reader.at_eof():
            try:
                line = await reader.readline()
            except ValueError:  # longer than the limit: the reader drops the line
                continue
            except OSError:  # the other end of the terminal is closed
                break
            if line:
                show(line.decode("utf-8", "replace").rstrip("\r\n"))
    finally:
        transport.close()


def _log_tail(child: Child) -> str:
    """Return the last lines of a log, enough to see the reason, and its path."""
    lines = [line[:300] for line in child.output().splitlines() if line.strip()][-6:]
    return "\n".join([*lines, f"Its log: {child.log}"])


@dataclass(slots=True)
class Supervisor:
    """Watches units and restarts those that die.

    Attributes:
        say: prints each death and each restart.
        deaths: how often each unit died, by name.
    """

    say: Say
    deaths: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def watching(self, units: Sequence[Unit]) -> AsyncIterator[None]:
        """Restart the units that die while the block runs."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._watch(unit), name=f"watch {unit.name}") for unit in units]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _watch(self, unit: Unit) -> None:
        delay = FIRST_DELAY_SECONDS
        started = time.monotonic() - STEADY_SECONDS
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if unit.running:
                continue
            self.deaths[unit.name] = self.deaths.get(unit.name, 0) + 1
            if time.monotonic() - started >= STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
                self.say(f"{unit.name} {unit.ending}; restarting it")
            else:
                self.say(f"{unit.name} {unit.ending}; restarting it in {delay:g} s")
                await asyncio.sleep(delay)
                delay = min(delay * 2, MAX_DELAY_SECONDS)
            started = time.monotonic()
            try:
                await unit.restart()
            except SlotwireError as error:
                self.say("\n".join(part for part in (error.message, error.remedy) if part))
            else:
                self.say(f"{unit.name} runs again")


async def http_status(url: str, seconds: float = 2.0) -> int:
    """Send GET to a loopback address; return the status, or 0 if no answer comes."""
    parts = urlsplit(url)
    request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(request.encode())
                words = (await reader.readline()).split()
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, ValueError):
        return 0
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
