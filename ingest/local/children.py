"""Child processes that end when we do: each has its own process group, a log file and a recorded start time.

They use Popen and polling instead of asyncio's subprocesses, so that a handle belongs to no event loop: one test
can start a stack, and another test, on its own loop, can kill and restart it.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local.folders import Account, write_private

POLL_SECONDS = 0.01
Stdout = Literal["log", "pipe", "terminal", "nowhere"]
"""Where a child's standard output goes; `terminal` is a pipe that the child takes for a terminal, for colours."""
_LINUX: bool = sys.platform == "linux"
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal a process gets when the thread that made it ends."""


@dataclass(slots=True)
class Child:
    """A running (or ended) child process.

    Attributes:
        name: its name in messages.
        log: the file its output goes to.
        log_start: size of the log when the child was started; the rest is the output of this run.
        output_pipe: its standard output, if that is a pipe or a terminal; the reader closes it.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int = 0
    output_pipe: BinaryIO | None = None
    frozen: set[int] = field(default_factory=set)

    @classmethod
    def spawn(
        cls,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str],
        account: Account | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
        stdout: Stdout = "log",
        nice: int = 0,
    ) -> Child:
        """Start a program in a process group of its own.

        Must be called in a thread that lives as long as the child should: on Linux the kernel sends
        `death_signal` when that thread ends.

        Args:
            name: for messages.
            argv: the program and its arguments.
            log: the file its output is appended to.
            environment: its whole environment; nothing of ours is passed on.
            account: the account to run it as; only root can choose one.
            death_signal: the signal it gets when we die without stopping it.
            stdout: where its standard output goes.
            nice: by how much to lower its priority.

        Raises:
            SlotwireError: the program cannot be started.
        """
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        ours, theirs = _output(stdout, descriptor)
        try:
            start = os.fstat(descriptor).st_size
            with warnings.catch_warnings():
                # Newer Pythons warn of any function between fork and exec; ours takes no lock.
                warnings.simplefilter("ignore", DeprecationWarning)
                process = subprocess.Popen(  # noqa: S603 - our own argument lists, no shell
                    [os.fspath(part) for part in argv],
                    stdin=subprocess.DEVNULL,
                    stdout=theirs,
                    stderr=descriptor,
                    cwd="/",
                    env=dict(environment),
                    process_group=0,
                    umask=0o077,
                    preexec_fn=_prepare(death_signal, nice),  # noqa: PLW1509 - prctl and nice only, both async-safe
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                )
        except (OSError, subprocess.SubprocessError) as error:
            if ours is not None:
                ours.close()
            reason = getattr(error, "strerror", None) or str(error)
            raise SlotwireError(
                f"{name} could not be started: {reason.lower()}",
                remedy="Check that the installation is complete and that you may start new processes here.",
            ) from error
        finally:
            os.close(descriptor)
            if ours is not None:
                os.close(theirs)
        return cls(name, process, log, start, ours)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its group."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    @property
    def ending(self) -> str:
        """How it ended, as the end of a sentence."""
        code = self.process.poll()
        if code is None:
            return "runs"
        return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its process group, unless it has ended."""
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for its end; return whether it ended."""
        deadline = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    async def stop(self, *steps: tuple[signal.Signals, float]) -> None:
        """Send the signals one after the other, each with its seconds to act; SIGKILL comes last."""
        self.thaw()
        for number, seconds in steps:
            self.send(number)
            if await self.wait(seconds):
                return
        await self.kill()

    async def kill(self) -> None:
        """`kill -9` its process group and all its descendants, and wait until they are gone."""
        family = [(pid, start_time(pid)) for pid in descendants(self.pid)] if self.running else []
        self.send(signal.SIGKILL)
        for pid, _ in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.frozen.clear()
        await self.wait(10)
        for pid, born in family:
            await _gone(pid, born, 10)

    def freeze(self) -> None:
        """SIGSTOP it and all its descendants: its connections stay open, and it answers nothing."""
        for pid in (self.pid, *descendants(self.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                self.frozen.add(pid)

    def thaw(self) -> None:
        """SIGCONT what `freeze` stopped."""
        for pid in self.frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen.clear()

    def output(self, limit: int = 20_000) -> str:
        """Return the last `limit` bytes of its output in this run."""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self.log_start, size - limit))
            return file.read().decode("utf-8", "replace")


def _output(stdout: Stdout, log: int) -> tuple[BinaryIO | None, int]:
    """Return our end and the child's end of its standard output."""
    if stdout == "log":
        return None, log
    if stdout == "nowhere":
        return None, subprocess.DEVNULL
    ours, theirs = os.openpty() if stdout == "terminal" else os.pipe()
    return os.fdopen(ours, "rb", buffering=0), theirs


def _prepare(death_signal: signal.Signals, nice: int) -> Callable[[], None] | None:
    """Return the code that runs in the child before the program: on Linux it asks to die with its parent."""
    if not _LINUX:
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def between_fork_and_exec() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if nice:
            os.nice(nice)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before the kernel knew

    return between_fork_and_exec


def start_time(pid: int) -> str:
    """Return the start time of a process as text to compare; empty if there is no such process."""
    if _LINUX:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[19]
    found = subprocess.run(  # noqa: S603 - a fixed command
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def descendants(pid: int) -> list[int]:
    """Return the ids of all children of a process, of their children, and so on."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    todo = [pid]
    while todo:
        mine = children.get(todo.pop(), [])
        found += mine
        todo += mine
    return found


def _parents() -> list[tuple[int, int]]:
    """List (process id, parent's id) of every process."""
    if _LINUX:
        pairs = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    pairs.append((int(entry.name), int(fields[1])))
        return pairs
    listing = subprocess.run(["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False)
    return [(int(line.split()[0]), int(line.split()[1])) for line in listing.stdout.splitlines()]


@dataclass(frozen=True, slots=True)
class ChildrenFile:
    """A file that lists the running children, so that the next start can end those that a `kill -9` left behind."""

    path: Path

    def record(self, child: Child) -> None:
        """Add a child that was started."""
        entries = self._read()
        entries[child.name] = [child.pid, start_time(child.pid)]
        write_private(self.path, json.dumps(entries))

    async def end_strays(self) -> list[str]:
        """End the children of an earlier run that still run; return their names."""
        ended = []
        for name, (pid, born) in self._read().items():
            if not born or start_time(int(pid)) != born:
                continue
            ended.append(name)
            for number, seconds in ((signal.SIGCONT, 0.0), (signal.SIGINT, 3.0), (signal.SIGTERM, 2.0)):
                _send(int(pid), number)
                if await _gone(int(pid), str(born), seconds):
                    break
            else:
                _send(int(pid), signal.SIGKILL)
                await _gone(int(pid), str(born), 5.0)
        self.path.unlink(missing_ok=True)
        return ended

    def _read(self) -> dict[str, list[int | str]]:
        try:
            found: dict[str, list[int | str]] = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return found


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


async def _gone(pid: int, born: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while born and start_time(pid) == born:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
