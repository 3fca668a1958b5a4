"""Postgres and Kafka together: started and stopped in parallel; each can be killed and restarted by itself."""

from __future__ import annotations

import asyncio
import errno
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local import postgres
from slotwire.ingest.local.jars import Jar, Report
from slotwire.ingest.local.kafka import EmbeddedKafka
from slotwire.ingest.local.postgres import EmbeddedPostgres
from slotwire.ingest.local.state import StateFolder, no_space, wipe


@dataclass(frozen=True, slots=True)
class StackOptions:
    """The options of a stack.

    Attributes:
        mirror: the address of a Maven repository to download Kafka from; None takes the default.
        postgres: server settings on top of ours.
        kafka: broker settings on top of ours.
        jars: the broker's jars; None takes the pinned ones.
        ephemeral: the state folder is deleted at the end; commits are flushed to disk all the same.
    """

    mirror: str | None = None
    ephemeral: bool = False
    postgres: dict[str, str] = field(default_factory=dict)
    kafka: dict[str, str] = field(default_factory=dict)
    jars: Sequence[Jar] | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack. It belongs to no event loop: code on any loop may kill and restart its servers.

    Attributes:
        state: the claimed state folder.
        postgres: the database server.
        kafka: the broker.
        ephemeral: the state folder is deleted at the end.
    """

    state: StateFolder
    postgres: EmbeddedPostgres
    kafka: EmbeddedKafka
    ephemeral: bool = False

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
        """Return the servers of a claimed folder, not started yet."""
        options = options or StackOptions()
        return cls(
            state,
            EmbeddedPostgres(state, options.postgres, sync_new=not options.ephemeral),
            EmbeddedKafka(state, options.kafka, mirror=options.mirror, report=report, jars=options.jars),
            options.ephemeral,
        )

    async def start(self) -> None:
        """Start both servers in parallel.

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
        """End the processes that a killed earlier run left behind."""
        strays = await self.state.children.end_strays()
        if strays:
            self.kafka.report(f"ended processes that an earlier run left behind: {', '.join(strays)}")

    async def stop(self) -> None:
        """Stop both servers in parallel; kill one that does not stop. Where the data is deleted, end them at once."""
        if self.ephemeral:
            await together(self.postgres.discard(), self.kafka.discard())
        else:
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
        state_dir: the folder of the data; created if it does not exist.
        report: called with each line of progress.
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
    """Create a state folder, and delete it at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="slotwire-"))
    folder.chmod(0o711)
    try:
        yield folder / "state"
    finally:
        with suppress(SlotwireError):  # it was never made, or is no state folder any more
            asyncio.run(wipe(folder / "state"))
        shutil.rmtree(folder, ignore_errors=True)


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Run coroutines in parallel; when all have ended, raise the first error of ours or of the system, alone."""
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
    """Turn an error of the file system into one with a message and a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise no_space(folder) from error
        raise SlotwireError(
            f"the state folder {folder} cannot be used: {(error.strerror or 'unknown error').lower()}",
            remedy="Check that you own its files, name another folder with --state-dir, or delete it with --wipe.",
        ) from error
