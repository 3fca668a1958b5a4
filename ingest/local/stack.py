"""Postgres and Kafka together: started at once, stopped at once, each to be killed and restarted at will."""

from __future__ import annotations

import asyncio
import errno
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local import postgres
from slotwire.ingest.local.jars import Report
from slotwire.ingest.local.kafka import EmbeddedKafka
from slotwire.ingest.local.postgres import EmbeddedPostgres
from slotwire.ingest.local.state import StateFolder, no_space, wipe


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What a stack is told.

    Attributes:
        mirror: a Maven repository to fetch Kafka from in place of the default.
        postgres: server settings on top of ours.
        kafka: broker settings on top of ours.
        ephemeral: the state folder goes at the end; what is committed is flushed all the same.
    """

    mirror: str | None = None
    ephemeral: bool = False
    postgres: dict[str, str] = field(default_factory=dict)
    kafka: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack. Its handles belong to no event loop: any may kill and restart its servers.

    Attributes:
        state: the claimed state folder.
        postgres: the database server.
        kafka: the broker.
    """

    state: StateFolder
    postgres: EmbeddedPostgres
    kafka: EmbeddedKafka

    @property
    def owner_url(self) -> str:
        """The database as the role that owns the schema; `migrate` uses it."""
        return self.postgres.url(postgres.OWNER)

    @property
    def runtime_url(self) -> str:
        """The database as the role of the running processes."""
        return self.postgres.url(postgres.RUNTIME)

    @property
    def superuser_url(self) -> str:
        """The server's maintenance database as its superuser."""
        return self.postgres.url(postgres.SUPERUSER, "postgres")

    @property
    def kafka_bootstrap_servers(self) -> str:
        """The broker's address, `host:port`."""
        return self.kafka.bootstrap_servers

    @classmethod
    def of(cls, state: StateFolder, *, report: Report, options: StackOptions | None = None) -> Stack:
        """Put the servers of a claimed folder together; nothing is started."""
        options = options or StackOptions()
        return cls(
            state,
            EmbeddedPostgres(state, options.postgres, sync_new=not options.ephemeral),
            EmbeddedKafka(state, options.kafka, mirror=options.mirror, report=report),
        )

    async def start(self) -> None:
        """Start both at once.

        Raises:
            SlotwireError: one of them cannot start; the other one is stopped.
        """
        try:
            with disk_problems(self.state.path):
                await self.end_strays()
                await together(self.postgres.start(), self.kafka.start())
        except BaseException:
            await self.stop()
            raise

    async def end_strays(self) -> None:
        """End what an earlier run left behind when it was killed."""
        strays = await self.state.children.end_strays()
        if strays:
            self.kafka.report(f"ended what an earlier run left behind: {', '.join(strays)}")

    async def stop(self) -> None:
        """Stop both at once; what does not listen is killed."""
        await together(self.postgres.stop(), self.kafka.stop())
        if not (self.postgres.running or self.kafka.running):
            self.state.children.path.unlink(missing_ok=True)


@asynccontextmanager
async def embedded_stack(
    state_dir: Path, *, report: Report, options: StackOptions | None = None
) -> AsyncIterator[Stack]:
    """Claim a state folder and run Postgres and Kafka in it while the block runs.

    Must be entered in a thread that outlives the block: on Linux the servers die with it.

    Args:
        state_dir: where the data is kept; made when missing.
        report: told about progress, a line at a time.
        options: see `StackOptions`.

    Raises:
        SlotwireError: the folder is in use, or one of the servers cannot start.
    """
    with StateFolder.claim(state_dir) as state:
        stack = Stack.of(state, report=report, options=options)
        await stack.start()
        try:
            yield stack
        finally:
            await stack.stop()


@contextmanager
def ephemeral_folder() -> Iterator[Path]:
    """Make a state folder that is wiped at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="slotwire-"))
    folder.chmod(0o711)
    try:
        yield folder / "state"
    finally:
        with suppress(SlotwireError):  # it was never made, or is no state folder any more
            asyncio.run(wipe(folder / "state"))
        shutil.rmtree(folder, ignore_errors=True)


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Run several coroutines at once and raise the first failure alone, after all have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            for item in work:
                group.create_task(item)
    except* SlotwireError as problems:
        raise _first(problems) from None
    except* OSError as problems:
        raise _first(problems) from None


def _first(problems: BaseExceptionGroup[Any]) -> BaseException:
    found: BaseException = problems.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


@contextmanager
def disk_problems(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into a message with a way out."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise no_space(folder) from error
        raise SlotwireError(
            f"the state folder {folder} cannot be used: {(error.strerror or 'unknown error').lower()}",
            remedy="Are its files owned by you? Name another folder with --state-dir, or wipe it with --wipe.",
        ) from error
