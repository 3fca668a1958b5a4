"""A primary and a streaming standby of its own for a test: to lose the one, and promote the other.

Both run beside the stack of the run, each in a folder of its own, so that no other test notices. The standby is a base
backup that follows the primary's log. Roles and passwords are the primary's, and a `Database` has an address on each.
Every primary begins as a copy of one that this process has made and migrated once:

    async with primary_and_standby() as pair:
        before, after = pair.on_primary, pair.on_standby
        await pair.primary.kill()
        await pair.standby.promote()
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from slotwire.ingest.foundation.migrations import PROCESSES, role_of
from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.local.children import Child
from slotwire.ingest.local.databases import Database, create_database, database_of, migrate_template
from slotwire.ingest.local.folders import unprivileged_account
from slotwire.ingest.local.postgres import OWNER, RUNTIME, SUPERUSER, EmbeddedPostgres
from slotwire.ingest.local.state import StateFolder, wipe

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "standby"
"""What the standby calls itself, for `synchronous_standby_names`."""
SECONDS = 60.0
"""No wait of this module is longer."""
_ROLES = (SUPERUSER, OWNER, RUNTIME, *(role_of(process, "slotwire") for process in PROCESSES))
_prepared: list[EmbeddedPostgres] = []
_SETTINGS = {"max_connections": "60", "shared_buffers": "32MB", "wal_keep_size": "256MB"}
_STREAMS = "SELECT count(*) FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming'"
_CONFIRMS = "SELECT count(*) FROM pg_stat_replication WHERE application_name = $1 AND sync_state IN ('sync', 'quorum')"
_HAS = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)"


class Standby(EmbeddedPostgres):
    """A server that follows a primary until it is promoted. Stopped, killed, frozen and started like any other."""

    async def copy(self, primary: EmbeddedPostgres) -> None:
        """Take a base backup of a running primary, as one who follows it when it starts.

        Raises:
            SlotwireError: the backup failed; the log file of this server says why.
        """
        self._account = unprivileged_account()
        programs = await asyncio.to_thread(self._programs)
        backup = Child.spawn(
            "pg_basebackup",
            [
                programs / "pg_basebackup", "--pgdata", self._home() / "data", "--write-recovery-conf",
                "--wal-method=stream", "--checkpoint=fast", "--no-sync",
                "--dbname", f"{primary.url(SUPERUSER, 'postgres')}?application_name={NAME}",
            ],
            log=self.state.log_file(self.key),
            environment={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            account=self._account,
        )  # fmt: skip
        await self._run_tool(backup, SECONDS, "the base backup could not be taken")

    async def promote(self) -> None:
        """Make it a primary on a timeline of its own; returns when it takes writes.

        Raises:
            AssertionError: it was no standby any more, or did not become a primary in time.
        """
        async with superuser(self) as connection:
            assert await connection.fetchval("SELECT pg_promote(true, $1)", int(SECONDS))

    async def _provision(self, connection: Connection) -> None:
        """Nothing: roles and databases come from the primary."""


@dataclass(frozen=True)
class Pair:
    """A primary, its standby, and one migrated database on both.

    Attributes:
        on_primary: the database's addresses while the primary lives.
        on_standby: its addresses on the standby: read-only until it is promoted.
    """

    primary: EmbeddedPostgres
    standby: Standby
    on_primary: Database
    on_standby: Database

    def url_of_either(self, role: str = RUNTIME) -> str:
        """Return an address that names both servers and finds the one that takes writes."""
        server, name = self.primary, self.on_primary.name
        hosts = f"127.0.0.1:{server.port},127.0.0.1:{self.standby.port}"
        secret = server.state.secret(role)
        return f"postgresql://{role}:{secret}@{hosts}/{name}?target_session_attrs=read-write"

    async def caught_up(self) -> None:
        """Wait until the standby has replayed everything that the primary has written."""
        async with superuser(self.primary) as primary, superuser(self.standby) as standby:
            end = await primary.fetchval("SELECT pg_current_wal_insert_lsn()")
            await _until(standby, _HAS, end)

    async def require_standby(self) -> None:
        """From now on let each commit of the primary wait until the standby has it on disk."""
        async with superuser(self.primary) as primary:
            await primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
            await primary.execute("SELECT pg_reload_conf()")
            await _until(primary, _CONFIRMS, NAME)


@asynccontextmanager
async def primary_and_standby(settings: Mapping[str, str] | None = None) -> AsyncIterator[Pair]:
    """Run a new primary with a migrated database, and a standby that streams from it.

    Args:
        settings: of both servers, on top of ours.
    """
    async with _folder() as first, _folder() as second:
        primary = EmbeddedPostgres(first, {**_SETTINGS, **(settings or {})}, sync_new=False)
        await _begin_prepared(primary)
        try:
            await primary.start()
            database = await create_database(primary)
            async with standby_of(primary, second) as standby:
                yield Pair(primary, standby, database, database_of(standby, database.name))
        finally:
            await _end(primary)


@asynccontextmanager
async def standby_of(primary: EmbeddedPostgres, state: StateFolder) -> AsyncIterator[Standby]:
    """Run a standby of a running primary, in a claimed folder of its own; it streams when the block begins."""
    for role in _ROLES:
        state.store_secret(role, primary.state.secret(role))
    standby = Standby(state, primary.settings, sync_new=False)
    await standby.copy(primary)
    try:
        await standby.start()
        async with superuser(primary) as connection:
            await _until(connection, _STREAMS, NAME)
        yield standby
    finally:
        await _end(standby)


async def _begin_prepared(server: EmbeddedPostgres) -> None:
    """Give a server that was never started the data and the passwords of one that was migrated."""
    if not _prepared:
        made = _new_folder()
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        with StateFolder.claim(made / "state") as state:
            first = EmbeddedPostgres(state, _SETTINGS, sync_new=False)
            await first.start()
            await migrate_template(first)
            await first.stop()
        _prepared.append(first)
    [first] = _prepared
    server._account = unprivileged_account()
    copy = await asyncio.create_subprocess_exec("cp", "-a", first._home() / "data", server._home() / "data")
    assert await copy.wait() == 0
    for role in _ROLES:
        server.state.store_secret(role, first.state.stored_secret(role))


@asynccontextmanager
async def _folder() -> AsyncIterator[StateFolder]:
    """Claim a new state folder, and delete it at the end."""
    folder = _new_folder()
    try:
        with StateFolder.claim(folder / "state") as state:
            yield state
        await wipe(folder / "state")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="slotwire-"))
    folder.chmod(0o711)  # Postgres's account passes through it
    return folder


async def _end(server: EmbeddedPostgres) -> None:
    """End a server, whatever the test has made of it, at once: nobody needs its data any more."""
    server.thaw()
    if server.running:
        await server.kill()


@asynccontextmanager
async def superuser(server: EmbeddedPostgres) -> AsyncIterator[Connection]:
    """Connect to a server as its superuser; commits of this connection wait for no standby."""
    connection = await asyncpg.connect(
        server.url(SUPERUSER, "postgres"), timeout=60, server_settings={"synchronous_commit": "local"}
    )
    try:
        yield connection
    finally:
        await connection.close()


async def _until(connection: Connection, query: str, *arguments: object) -> None:
    async with asyncio.timeout(SECONDS):
        while not await connection.fetchval(query, *arguments):  # noqa: ASYNC110 - the server gives no signal
            await asyncio.sleep(0.02)
