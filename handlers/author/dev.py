"""`slotwire agents dev`: an agent on the local stack, started again whenever its files change.

The agent runs in a process of its own, so that whatever its code does ends that process and not this one. It gets the
settings of agents alone; the migrations of its tables run before it, in another process, with the owner's.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.local_stack import AGENTS_FILE, ENVIRONMENT_FILE, LocalStack

LOOK_SECONDS = 0.25
"""How often the files are looked at."""
STOP_SECONDS = 10.0
"""How long a process may take to stop before it is killed; its handlers have `GRACE_SECONDS` of it, and some more to be
let go if they do not end."""
GRACE_SECONDS = 2.0
MAX_FILES = 5_000
"""Files that are looked at; a folder with more is probably not the agent's."""
_ENDINGS = (".py", ".sql")
_LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages"})
_OF_CHILDREN = {
    "SLOTWIRE_HEALTH__PORT": "0",
    "SLOTWIRE_LOG__FORMAT": "text",
    "SLOTWIRE_LOG__LEVEL": "info",
    # A member with a name has its partitions back at once, also after it was killed.
    "SLOTWIRE_AGENTS__GROUP_INSTANCE_ID": "dev",
    "SLOTWIRE_AGENTS__STOP_GRACE_SECONDS": str(GRACE_SECONDS),
    "PYTHONDONTWRITEBYTECODE": "1",
    # A fault in native code says in which line of the author's it came.
    "PYTHONFAULTHANDLER": "1",
}

Seen = Mapping[Path, tuple[int, int]]
"""Each file with its time and its size."""


class DevelopmentLoop:
    """Runs an agent until a stop is asked for."""

    def __init__(self, reference: str, stack: LocalStack, folder: Path, say: Callable[[str], None]) -> None:
        """Take what it needs.

        Args:
            reference: `package.module:agent`.
            stack: where it runs.
            folder: whose files are watched, and the working directory.
            say: told what this process does; the agent's prints go to its own streams.
        """
        self._reference = reference
        self._stack = stack
        self._folder = folder
        self._say = say
        self._migrated = b""

    async def run(self, stop: asyncio.Event) -> None:
        """Start the agent, and again after each change; one that ended by itself waits for a change."""
        while not stop.is_set():
            seen = look_at(self._folder)
            child = await self._start(seen)
            changed = await self._until_changed(seen, stop, child)
            if child is not None:
                await _end(child)
            if changed:
                self._say(f"{changed} changed: starting again")

    async def _start(self, seen: Seen) -> asyncio.subprocess.Process | None:
        digest = _digest(path for path in seen if path.suffix == ".sql")
        if digest != self._migrated:
            migrating = await self._spawn("migrate", ENVIRONMENT_FILE)
            if await migrating.wait():
                return None
            self._migrated = digest
        return await self._spawn("run", AGENTS_FILE, "--lines", "--alone")

    async def _spawn(self, command: str, settings: str, *options: str) -> asyncio.subprocess.Process:
        environment = self._stack.environment(settings) | _OF_CHILDREN
        words = (sys.executable, "-m", "slotwire.ingest.cli", "agents", command, self._reference, *options)
        return await asyncio.create_subprocess_exec(*words, cwd=self._folder, env=environment)

    async def _until_changed(self, seen: Seen, stop: asyncio.Event, child: asyncio.subprocess.Process | None) -> str:
        """Wait for a change, and return the file's name; nothing if a stop was asked for."""
        told = child is None
        if told:
            self._say("waiting for a change")
        while not await wait_for(stop, LOOK_SECONDS):
            if not told and child is not None and child.returncode is not None:
                self._say(f"the agent ended with {child.returncode}: waiting for a change")
                told = True
            now = look_at(self._folder)
            if now != seen:
                different = sorted(path for path in {*now, *seen} if now.get(path) != seen.get(path))
                return str(different[0].relative_to(self._folder))
        return ""


def look_at(folder: Path) -> Seen:
    """Look at the Python and SQL files of a folder; hidden folders and those of environments are left out."""
    seen: dict[Path, tuple[int, int]] = {}
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_left_out(Path(above, name))]
        for name in names:
            if name.endswith(_ENDINGS) and len(seen) < MAX_FILES:
                path = Path(above, name)
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue  # an editor writes it just now
                seen[path] = (found.st_mtime_ns, found.st_size)
    return seen


def _is_left_out(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in _LEFT_OUT or (folder / "pyvenv.cfg").exists()


def _digest(files: Iterator[Path]) -> bytes:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.digest()


async def _end(child: asyncio.subprocess.Process) -> None:
    """Ask a process to stop, and kill it if it does not."""
    if child.returncode is not None:
        return
    child.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
