"""Versions of the code beside each other: those that were released, and a next one with planted migrations."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from slotwire.ingest.foundation.migrations import Migration
from slotwire.ingest.local.databases import Database, create_database, drop_database
from slotwire.ingest.local.stack import Stack
from tests.support import fork_server
from tests.support.command import CommandResult
from tools.sources import ROOT

RELEASED = ROOT / "tests" / "migration" / "released"
PLANTED = ROOT / "tests" / "migration" / "planted"
"""Migrations as a next version may have them, of each kind."""
_MIGRATIONS = "slotwire/ingest/sql/migrations/"


@dataclass(frozen=True)
class Release:
    """A version that was released, as its wheel.

    Attributes:
        version: its number.
        wheel: the file.
    """

    version: str
    wheel: Path

    @cached_property
    def migrations(self) -> Mapping[str, bytes]:
        """Its migrations, by their file names."""
        with zipfile.ZipFile(self.wheel) as opened:
            names = [name for name in opened.namelist() if name.startswith(_MIGRATIONS) and name.endswith(".sql")]
            return {name.removeprefix(_MIGRATIONS): opened.read(name) for name in names}

    def unpacked(self, folder: Path) -> Version:
        """Unpack it, to run it."""
        with zipfile.ZipFile(self.wheel) as opened:
            opened.extractall(folder)
        return Version(folder)


@dataclass(frozen=True)
class Version:
    """Code that can be run.

    Attributes:
        path: the folder that `slotwire` is imported from, before the one of this checkout.
    """

    path: Path

    async def run(self, *arguments: str, env: Mapping[str, str]) -> CommandResult:
        """Run one of its commands to its end."""
        code, out, err = await asyncio.to_thread(fork_server.run, arguments, env, b"", version=self.path)
        return CommandResult(code, out.decode(), err.decode())


def releases() -> list[Release]:
    """Return what was released, the oldest first."""
    folders = [folder for folder in RELEASED.iterdir() if folder.is_dir()]
    folders.sort(key=lambda folder: [int(part) for part in folder.name.split(".")])
    return [Release(folder.name, wheel) for folder in folders for wheel in folder.glob("slotwire-*.whl")]


def next_version(folder: Path) -> Version:
    """Make a version of this checkout's code that has the planted migrations, too; all else is ours, by links."""
    target, source = folder, ROOT / "src"
    for name in _MIGRATIONS.rstrip("/").split("/"):
        target, source = target / name, source / name
        target.mkdir()
        for entry in source.parent.iterdir():
            if entry.name != name:
                (target.parent / entry.name).symlink_to(entry.resolve())
    for path in (*source.iterdir(), *PLANTED.glob("*.sql")):
        (target / path.name).symlink_to(path.resolve())
    return Version(folder)


def planted() -> tuple[Migration, ...]:
    """Return the planted migrations, in order."""
    return tuple(Migration(path.stem, path.read_text(encoding="utf-8")) for path in sorted(PLANTED.glob("*.sql")))


@asynccontextmanager
async def empty_database(stack: Stack) -> AsyncIterator[Database]:
    """Make a database in which nothing is, and drop it at the end."""
    database = await create_database(stack.postgres, template="template1")
    try:
        yield database
    finally:
        await drop_database(stack.postgres, database)
