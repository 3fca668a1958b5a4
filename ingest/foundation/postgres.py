"""Postgres: connections with limits, named SQL from files, and the one place that catches asyncpg's exceptions.

Everything above this module sees `DatabaseUnavailable` (try again later) or `RowRefused` (this data can never be
stored), never an exception of asyncpg.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import asyncpg

from slotwire.ingest.foundation.errors import ConfigurationError, DatabaseUnavailable, RowRefused, SchemaMismatch
from slotwire.ingest.foundation.measured_pool import make_pool
from slotwire.ingest.foundation.postgres_tls import with_tls
from slotwire.ingest.foundation.settings import DatabaseSettings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection, Pool = asyncpg.Connection, asyncpg.Pool

BY_KEY = MappingProxyType(
    {
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "plan_cache_mode": "force_generic_plan",
    }
)
"""For a connection that only looks up and inserts by key. Left to itself the server plans once for the empty table of
the first minute, and scans it as it grows: a plan made then cost 12.7 ms a delivery at 11,000 rows."""
FOR_LISTS = MappingProxyType(
    {
        "plan_cache_mode": "force_custom_plan",
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "enable_sort": "off",
    }
)
"""For lists, whose filters may be left out: each is planned for the filters it is called with, and walks the index that
has just those, in its order. Left to itself the server gathers and sorts all rows of a value it takes for rare."""
_NEVER_SECONDS = 3_600.0
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DATA_ERRORS = frozenset({"22", "23", "54"})
_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)
_UNDEFINED = frozenset({"42P01", "42883", "42703", "3F000"})


def read_queries(package: str, file: str) -> Mapping[str, str]:
    """Read a file of named statements.

    A statement starts with a line `-- name: some_name`, followed by a comment that says what it is for.

    Args:
        package: the importable folder, for example `slotwire.ingest.sql`.
        file: the file's name in it.

    Returns:
        The statements by name, without the name's line.
    """
    text = files(package).joinpath(file).read_text(encoding="utf-8")
    parts = _NAME.split(text)
    return MappingProxyType({name: sql.strip() for name, sql in zip(parts[1::2], parts[2::2], strict=True)})


@contextmanager
def translated() -> Iterator[None]:
    """Translate exceptions of asyncpg and the network into our own.

    Raises:
        RowRefused: SQLSTATE class 22, 23 or 54, or a value that asyncpg cannot write; but not 23514 without a
            constraint's name, which says that a partition is missing: that is not the data's fault.
        SchemaMismatch: a table, column or function is missing.
        ConfigurationError: the role lacks a right, or the address cannot be read.
        DatabaseUnavailable: everything else: unreachable, frozen, demoted, out of space, timed out.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or "XX000"
        if state[:2] in _DATA_ERRORS and not (state == "23514" and not error.constraint_name):
            raise RowRefused("Postgres refused the data", sqlstate=state) from error
        if state in _UNDEFINED:
            raise SchemaMismatch(
                "the database does not have this version's schema", remedy="Run `slotwire migrate`."
            ) from error
        if state == "42501":
            raise ConfigurationError(
                "the database role lacks a right it needs",
                remedy="Make it a member of the runtime role, then run `slotwire migrate`.",
            ) from error
        raise DatabaseUnavailable(f"Postgres answered with SQLSTATE {state}", reason=state) from error
    except asyncpg.exceptions.ClientConfigurationError as error:
        raise _unreadable() from error
    except TimeoutError as error:
        raise DatabaseUnavailable("Postgres did not answer in time", reason="timeout") from error
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):  # asyncpg's own DataError: it cannot write the value, and never will
            raise RowRefused("the data cannot be sent to Postgres", sqlstate="22000") from error
        raise DatabaseUnavailable("Postgres is out of reach", reason="unreachable") from error
    except (OSError, asyncpg.InternalClientError) as error:
        raise _out_of_reach(error) from error


def _out_of_reach(error: Exception) -> DatabaseUnavailable:
    if isinstance(error, ssl.SSLCertVerificationError):
        return DatabaseUnavailable(
            "the certificate of Postgres is not from the authority we trust, or not for this host",
            reason="certificate",
            remedy="Name the authority that signed it in SLOTWIRE_DATABASE__SSL_CAFILE, and the host as it is in it.",
        )
    return DatabaseUnavailable("Postgres is out of reach", reason="unreachable")


def connection_options(settings: DatabaseSettings, *, application: str) -> dict[str, Any]:
    """Return asyncpg's options for a connection that writes.

    The timeouts are set on the server, so that a frozen client cannot hold a lock forever, and on the client, so that
    a frozen server cannot hold a request forever.
    """
    statement = int(settings.statement_timeout_seconds * 1000)
    return {
        "timeout": settings.connect_timeout_seconds,
        "command_timeout": settings.statement_timeout_seconds + 0.5,
        "target_session_attrs": "read-write",
        "server_settings": {
            "application_name": f"slotwire-{application}",
            "timezone": "UTC",
            "lock_timeout": str(int(settings.lock_timeout_seconds * 1000)),
            "statement_timeout": str(statement),
            "idle_in_transaction_session_timeout": str(statement),
            # A commit that waits for a standby is not ended, and so made visible, because its client is gone.
            "client_connection_check_interval": "0",
            "tcp_keepalives_idle": "5",
            "tcp_keepalives_interval": "2",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": "7000",
        },
    }


def create_pool(
    dsn: str, settings: DatabaseSettings, *, application: str, planner: Mapping[str, str] | None = None
) -> Pool:
    """Make a pool that opens its connections when they are first needed.

    Enter it with `async with`. Entering does not contact the server, so a process can start and answer 503 while
    Postgres is unreachable.

    Args:
        dsn: the database's address.
        settings: the connections' limits.
        application: the name the server shows for them, after `slotwire-`.
        planner: further settings of the sessions, for how their statements are planned.

    Raises:
        ConfigurationError: the address is missing or cannot be read.
    """
    _require_address(dsn)
    options = connection_options(settings, application=application)
    options["server_settings"] |= planner or {}
    try:
        address, tls = with_tls(dsn, settings)
        return make_pool(address, max_size=settings.pool_size, ssl=tls, **options)
    except ValueError as error:
        raise _unreadable() from error


async def connect(
    dsn: str,
    settings: DatabaseSettings,
    *,
    application: str,
    planner: Mapping[str, str] | None = None,
    outright: bool = False,
) -> Connection:
    """Open one connection outside any pool.

    Args:
        dsn: the database's address.
        settings: the connection's limits.
        application: the name the server shows for it, after `slotwire-`.
        planner: further settings of the session, for statements whose plans are known in advance.
        outright: for `call_outright`: no client-side limit cancels a statement.

    Raises:
        DatabaseUnavailable: Postgres is out of reach or read-only.
        ConfigurationError: the address is missing or cannot be read.
    """
    _require_address(dsn)
    try:
        with translated():
            options = connection_options(settings, application=application)
            options["server_settings"] |= planner or {}
            if outright:
                options["command_timeout"] = None
            address, tls = with_tls(dsn, settings)
            connection: Connection = await asyncpg.connect(address, ssl=tls, **options)
    except ValueError as error:
        raise _unreadable() from error
    return connection


async def connect_to_commit(dsn: str, settings: DatabaseSettings, *, application: str) -> Connection:
    """Open one connection for `call_outright`, to a server that keeps what it commits.

    Args:
        dsn: the database's address.
        settings: the connection's limits, and whether the server must keep what it commits.
        application: the name the server shows for it, after `slotwire-`.

    Raises:
        DatabaseUnavailable: Postgres is out of reach or read-only.
        ConfigurationError: the address is missing or cannot be read, or the server would lose what it commits.
    """
    connection = await connect(dsn, settings, application=application, planner=BY_KEY, outright=True)
    try:
        await write_times_quickly(connection)
        await require_durable(connection, settings)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def close(connection: Connection, *, seconds: float) -> None:
    """Close a connection; if the server does not answer in time, drop it."""
    try:
        async with asyncio.timeout(seconds):
            await connection.close()
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


async def call_outright(connection: Connection, statement: str, *arguments: object, seconds: float) -> Any:
    """Call a function that commits, and never cancel it: return its one row.

    To cancel a commit that waits for a standby is to make it visible before it is durable. So where the time is over,
    or whoever called is cancelled, the connection is closed instead: the server ends the transaction as it will, and
    what became of it is not known.

    Args:
        connection: any; it is closed where the answer does not come.
        statement: selects from the function.
        arguments: of the statement.
        seconds: how long the answer may take.

    Raises:
        RowRefused, SchemaMismatch, DatabaseUnavailable: see `translated`.
    """
    # A pool's connection has a limit of its own, past which asyncpg would cancel: this one is never reached.
    limit = seconds + _NEVER_SECONDS
    asked = asyncio.ensure_future(connection.fetchrow(statement, *arguments, timeout=limit))
    try:
        with translated():
            done, _ = await asyncio.wait({asked}, timeout=seconds)
            if not done:
                raise DatabaseUnavailable("Postgres did not answer in time", reason="timeout")
            return asked.result()
    finally:
        if not asked.done():
            connection.terminate()
            asked.add_done_callback(_heard)


def _heard(asked: asyncio.Future[Any]) -> None:
    """Ask a call that nobody waits for what became of it, so that it does not warn."""
    if not asked.cancelled():
        asked.exception()


async def write_times_quickly(connection: Connection) -> None:
    """Let times travel as Postgres keeps them, microseconds since 2000: asyncpg's own way costs four times that."""
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        format="tuple",
        encoder=lambda time: ((time - _EPOCH) // _MICROSECOND,),
        decoder=lambda told: _EPOCH + timedelta(microseconds=told[0]),
    )


def _require_address(dsn: str) -> None:
    """Refuse at the start an address that asyncpg would refuse only at the first connection."""
    if not dsn:
        raise ConfigurationError(
            "SLOTWIRE_DATABASE_URL is not set", remedy="Set it to postgresql://user:password@host/database."
        )
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise _unreadable()


def _unreadable() -> ConfigurationError:
    return ConfigurationError(
        "SLOTWIRE_DATABASE_URL cannot be read", remedy="The form is postgresql://user:password@host/database."
    )


@dataclass(frozen=True)
class Durability:
    """How much a commit survives on this server.

    Attributes:
        fsync: whether the server flushes commits to disk.
        synchronous_commit: the server's setting for our sessions.
        standbys: `synchronous_standby_names`; empty if a commit waits for no other server.
    """

    fsync: bool
    synchronous_commit: str
    standbys: str

    @property
    def survives_crash(self) -> bool:
        """Whether an acknowledged commit survives a crash of this server."""
        return self.fsync and self.synchronous_commit in {"on", "remote_write", "remote_apply", "local"}

    @property
    def promise(self) -> str:
        """The promise in words, for `doctor` and the log at start."""
        if not self.survives_crash:
            return "none: an acknowledged delivery can be lost when the server crashes"
        if self.standbys and self.synchronous_commit in {"on", "remote_apply"}:
            return "survives the loss of the primary: a standby confirms each commit"
        return "survives a crash of the server; a failover to an asynchronous standby can lose the last commits"


async def read_durability(connection: Connection) -> Durability:
    """Read the server's durability settings."""
    with translated():
        row = await connection.fetchrow(
            "SELECT current_setting('fsync') = 'on' AS fsync, current_setting('synchronous_commit') AS commit,"
            " current_setting('synchronous_standby_names') AS standbys"
        )
    if row is None:  # pragma: no cover - a SELECT without FROM gives one row
        raise AssertionError
    return Durability(row["fsync"], row["commit"], row["standbys"])


async def require_durable(connection: Connection, settings: DatabaseSettings) -> None:
    """Refuse a server that would lose what it has committed, unless the settings accept that.

    Raises:
        ConfigurationError: fsync or synchronous_commit is off.
    """
    durability = await read_durability(connection)
    if settings.durable and not durability.survives_crash:
        raise ConfigurationError(
            "Postgres runs with fsync or synchronous_commit off: an acknowledged delivery could be lost",
            remedy="Turn both on, or accept the loss with SLOTWIRE_DATABASE__DURABLE=false.",
        )
