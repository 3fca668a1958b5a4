"""What the embedded Postgres and the embedded Kafka have in common: a child process with its port, data and log."""

from __future__ import annotations

import asyncio
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local.children import Child
from slotwire.ingest.local.state import StateFolder, no_space

READY_SECONDS = 180.0
"""How long a server may take until it answers; one that recovers from a crash answers late."""
POLL_SECONDS = 0.02
FULL_DISK_SIGNS = ("No space left", "File size limit", "File too large", "quota exceeded")
"""How the servers' logs say that the disk, the quota or the file size limit is used up."""

T = TypeVar("T")


@dataclass
class EmbeddedServer(ABC):
    """One server with its data in a state folder. A subclass starts it; the rest is the same for both.

    Attributes:
        state: the claimed folder.
        settings: server settings on top of ours, for tests.
        name: what messages call the server.
        product: the name that stands before a version number.
        key: under which the state folder has its port and its log.
        compatible_parts: how many leading parts of the version must agree for a server to read the data of another.
        stop_steps: the signals that end it cleanly, each with the seconds it has to act.
        discard_steps: those that end it when its data is about to be deleted.
    """

    state: StateFolder
    settings: dict[str, str] = field(default_factory=dict)
    _child: Child | None = field(default=None, init=False)

    name: ClassVar[str]
    product: ClassVar[str]
    key: ClassVar[str]
    compatible_parts: ClassVar[int]
    stop_steps: ClassVar[Sequence[tuple[signal.Signals, float]]]
    discard_steps: ClassVar[Sequence[tuple[signal.Signals, float]]] = ()

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return self.state.port(self.key)

    @property
    def child(self) -> Child:
        """The server's process.

        Raises:
            SlotwireError: the server was not started.
        """
        if self._child is None:
            raise SlotwireError(f"{self.name} is not started")
        return self._child

    @property
    def running(self) -> bool:
        """Whether the server runs."""
        return self._child is not None and self._child.running

    @property
    def ending(self) -> str:
        """How it ended, as the end of a sentence."""
        return self.child.ending

    @abstractmethod
    async def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            SlotwireError: the data is of another version, the port is in use, the disk is full, or the server fails.
        """

    async def stop(self) -> None:
        """Stop the server cleanly; kill it if it does not stop in time."""
        await self._end(self.stop_steps)

    async def discard(self) -> None:
        """End the server at once: its data is about to be deleted."""
        await self._end(self.discard_steps)

    async def restart(self) -> None:
        """Start the server again after `kill` or `stop`, on the same port and data."""
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """`kill -9` the server with all its processes: a crash."""
        await self.child.kill()

    def freeze(self) -> None:
        """SIGSTOP the server with all its processes."""
        self.child.freeze()

    def thaw(self) -> None:
        """SIGCONT what `freeze` stopped."""
        self.child.thaw()

    @abstractmethod
    def _reason(self, output: Sequence[str]) -> str | None:
        """Return the line of the server's output that says best why it failed."""

    async def _end(self, steps: Sequence[tuple[signal.Signals, float]]) -> None:
        if self._child is not None:
            await self._child.stop(*steps)

    def _started(self, child: Child) -> None:
        """Take a process that was just started for the server's, and record it in the state folder."""
        self._child = child
        self.state.children.record(child)

    async def _first_answer(self, ask: Callable[[], Awaitable[T | None]]) -> T:
        """Call `ask` until it returns something; it returns None while the server is not ready."""
        deadline = time.monotonic() + READY_SECONDS
        while (answer := await ask()) is None:
            if not self.child.running:
                raise self._failure(f"{self.name} ended while it started", self.child)
            if time.monotonic() > deadline:
                raise self._failure(f"{self.name} did not become ready within {READY_SECONDS:.0f} s", self.child)
            await asyncio.sleep(POLL_SECONDS)
        return answer

    async def _run_tool(self, tool: Child, seconds: float, failed: str) -> None:
        """Wait for the end of a program that prepares the data; kill it when the time is up.

        Raises:
            SlotwireError: with the message `failed`: it did not end in time, or not with 0.
        """
        try:
            ended = await tool.wait(seconds)
        finally:
            await tool.kill()
        if not ended or tool.process.returncode:
            raise self._failure(failed, tool)

    def _require_version(self, mark: Path, ours: str) -> None:
        """Check that this version can read the data; `mark` holds the version that wrote it, if there is data."""
        if not mark.exists():
            return
        found = mark.read_text().strip()
        theirs, mine = (each.split(".")[: self.compatible_parts] for each in (found, ours))
        if theirs != mine:
            raise SlotwireError(
                f"the data in {mark.parent} was written by {self.product} {found}; "
                f"this version runs {self.product} {'.'.join(mine)}",
                remedy=f"Delete the local data with `slotwire local --wipe --state-dir {self.state.path}` and start "
                "again,\nor keep it and name another folder with --state-dir.",
            )

    def _failure(self, message: str, child: Child) -> SlotwireError:
        """Turn what a process wrote before it failed into an error with a remedy."""
        output = child.output()
        if any(sign in output for sign in FULL_DISK_SIGNS):
            return no_space(self.state.path)
        reason = self._reason(output.splitlines()) or f"it {child.ending}"
        return SlotwireError(f"{message}: {reason.strip()}", remedy=f"Its log has the details: {child.log}")
