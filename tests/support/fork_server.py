"""A process that has imported what commands import, and forks one for each command it is asked to run.

A command spends most of its second on imports; the suite runs hundreds. What is forked is a process of its own,
with its own environment, streams and exit code; only the imports are shared. Nothing here runs a thread or an
event loop, so that a fork copies nothing half done. Commands as users start them are in `tests/acceptance`.
There is one such process for each version of the code that a test runs.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cache
from pathlib import Path

SECONDS = 120.0
"""A command that has not ended by then is killed."""
MAX_REQUEST = 1_048_576
COMMAND = "slotwire.ingest.cli:main"

_NOUNS = ("audit", "bookings", "connections", "events", "keys", "organizations", "quarantine", "subscriptions")
_OF_ANY_VERSION = (
    "slotwire.ingest.cli",
    "slotwire.handlers.process",
    "slotwire.ingest.operate.process",
    "slotwire.ingest.receive.process",
    "slotwire.ingest.relay.process",
)
_OF_OURS = (
    "slotwire.ingest.mcp.process",
    "slotwire.ingest.operate.actions",
    "slotwire.ingest.operate.admin_api",
    "slotwire.ingest.operate.vault_rotation",
    "slotwire.ingest.control.hole_rounds",
    "slotwire.ingest.cli.simulate",
    "slotwire.ingest.control.oauth_listener",
    "slotwire.ingest.control.rounds",
    "slotwire.ingest.simulator.app",
    "tests.support.dying_control",
    *(f"slotwire.ingest.cli.{noun}" for noun in _NOUNS),
)


def run(
    arguments: tuple[str, ...],
    env: Mapping[str, str],
    stdin: bytes,
    *,
    entry: str = COMMAND,
    version: Path | None = None,
) -> tuple[int, bytes, bytes]:
    """Run a command to its end, or another function of a module; returns its code and what it wrote to both streams.

    Args:
        arguments: of `slotwire`.
        env: its environment.
        stdin: its input.
        entry: the function.
        version: the folder that the code of another version is imported from.

    Raises:
        TimeoutError: it had to be killed.
    """
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        socket.socket(socket.AF_UNIX) as line,
    ):
        given.write(stdin)
        given.seek(0)
        line.settimeout(SECONDS)
        line.connect(_address(version))
        wanted = {"arguments": arguments, "env": dict(env), "folder": str(Path.cwd()), "entry": entry}
        request = json.dumps(wanted).encode()
        socket.send_fds(line, [request], [given.fileno(), out.fileno(), err.fileno()])
        pid = int(line.recv(32))
        try:
            code = int(line.recv(32))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()


class Forked:
    """A command that runs until it is told to end, as `asyncio.subprocess.Process` is one.

    Attributes:
        pid: its own.
        returncode: its code, or its signal with a minus; None while it runs.
        stdout: what it prints, if it was begun by `piped`.
        stderr: its errors, likewise.
    """

    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    def __init__(
        self,
        arguments: tuple[str, ...],
        env: Mapping[str, str],
        folder: Path,
        *streams: int,
        version: Path | None = None,
        entry: str = COMMAND,
    ) -> None:
        """Begin it, in a running loop.

        Args:
            arguments: of `slotwire`.
            env: its environment.
            folder: where it runs.
            streams: descriptors of its input, its output and its errors; without them what it writes is nobody's.
            version: as of `run`.
            entry: as of `run`.
        """
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(_address(version))
        wanted = {"arguments": arguments, "env": dict(env), "folder": str(folder), "entry": entry}
        request = json.dumps(wanted).encode()
        with Path(os.devnull).open("r+b") as nowhere:
            socket.send_fds(self._line, [request], list(streams or [nowhere.fileno()] * 3))
        self.pid = int(self._line.recv(32))
        self.returncode: int | None = None
        self._line.setblocking(False)
        self._end = asyncio.ensure_future(self._ended())

    async def _ended(self) -> int:
        try:
            self.returncode = int(await asyncio.get_running_loop().sock_recv(self._line, 32))
        finally:
            self._line.close()
        return self.returncode

    async def wait(self) -> int:
        """Wait for its end; returns its code, or its signal with a minus."""
        return await asyncio.shield(self._end)

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


@asynccontextmanager
async def piped(*arguments: str, env: Mapping[str, str], version: Path | None = None) -> AsyncIterator[Forked]:
    """Run a command of which the block reads what it writes; if it still runs at the end, it is killed."""
    async with AsyncExitStack() as closing:
        ours, theirs = zip(*(socket.socketpair() for _ in range(2)), strict=True)
        readers = []
        for each in ours:
            reader, writer = await asyncio.open_connection(sock=each)
            closing.callback(writer.close)
            readers.append(reader)
        streams = (0, *(each.fileno() for each in theirs))
        running = Forked(arguments, env, Path.cwd(), *streams, version=version)
        for each in theirs:
            each.close()
        running.stdout, running.stderr = readers
        try:
            yield running
        finally:
            running.kill()
            await running.wait()


def put_command(folder: Path) -> None:
    """Put a `slotwire` into a folder of the PATH, for lines that a shell runs; it asks as `run` does."""
    command = folder / "slotwire"
    command.write_text(_COMMAND.format(python=sys.executable, address=_address()), encoding="ascii")
    command.chmod(0o755)


_COMMAND = """\
#!{python} -IS
import json, os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
request = {{"arguments": sys.argv[1:], "env": dict(os.environ), "folder": os.getcwd()}}
socket.send_fds(line, [json.dumps(request).encode()], [0, 1, 2])
line.recv(32)
sys.exit(int(line.recv(32)))
"""


@cache
def _address(version: Path | None = None) -> str:
    """Start the process of a version on first use; it ends with this one."""
    folder = tempfile.TemporaryDirectory(prefix="slotwire-commands-")
    atexit.register(folder.cleanup)
    path = str(Path(folder.name) / "line")
    names = _OF_ANY_VERSION if version else (*_OF_ANY_VERSION, *_OF_OURS)
    process = subprocess.Popen(
        (sys.executable, "-m", "tests.support.fork_server", path, *names),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(version)} if version else None,
    )
    atexit.register(process.wait)
    atexit.register(process.terminate)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return path


def serve(path: str, names: Sequence[str]) -> None:
    """Import modules, then fork for each request, until terminated."""
    for name in names:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is never scanned again stays shared with those who are forked
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who answer
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print("ready", flush=True)  # noqa: T201 -- what the parent waits for
        while True:
            line, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(line)
                os._exit(0)
            line.close()


def _answer(line: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, _, _ = socket.recv_fds(line, MAX_REQUEST, 3)
    request = json.loads(message)
    pid = os.fork()
    if pid == 0:
        line.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # Ours may have been made for a file, in which one can seek, as pytest captures it; theirs may be none.
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
        os.chdir(request["folder"])
        _command(request["arguments"], request["env"], request.get("entry", COMMAND))
    line.sendall(f"{pid}".encode().ljust(32))
    _, status = os.waitpid(pid, 0)
    line.sendall(f"{os.waitstatus_to_exitcode(status)}".encode())


def _command(arguments: list[str], env: Mapping[str, str], entry: str) -> None:
    module, _, name = entry.partition(":")
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["slotwire", *arguments]
    code: object = None
    try:
        getattr(importlib.import_module(module), name)()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 -- as the interpreter does at the end of a process
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
