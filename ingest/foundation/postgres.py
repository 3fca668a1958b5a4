"""Postgres: pools and connections with limits, named SQL from files, calls that commit and are never cancelled.

    postgres_address   what the address says, judged before anything connects
    postgres_hosts     the first of several hosts that takes writes
    postgres_session   a connection that is ours alone, with its limits in force; dropped when it cannot work
    postgres_transaction  a transaction in two round trips
    postgres_errors    asyncpg's exceptions in our words

Everything above these modules sees `DatabaseUnavailable` (try again later) or `RowRefused` (this data can never be
stored), never an exception of asyncpg.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import asyncpg

from slotwire.ingest.foundation.errors import DatabaseUnavailable
from slotwire.ingest.foundation.measured_pool import make_pool
from slotwire.ingest.foundation.postgres_address import DatabaseAddress, parse_address
from slotwire.ingest.foundation.postgres_errors import translated
from slotwire.ingest.foundation.postgres_hosts import connect_to, first_writable
from slotwire.ingest.foundation.postgres_session import Session, durability_of, require_durable, require_own_session
from slotwire.ingest.foundation.settings import DatabaseSettings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection, Pool = asyncpg.Connection, asyncpg.Pool

__all__ = [
    "ADDRESS",
    "BY_KEY",
    "OWNER_ADDRESS",
    "Connection",
    "Pool",
    "Session",
    "borrowed",
    "call_outright",
    "close",
    "connect",
    "connect_to_commit",
    "create_pool",
    "read_queries",
    "translated",
]

ADDRESS = "SLOTWIRE_DATABASE_URL"
"""Where the address of the processes comes from."""
OWNER_ADDRESS = "SLOTWIRE_MIGRATE__DATABASE_URL"
"""Where the address of the role that owns the schema comes from."""
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
LEAVE_SECONDS = 1.0
"""How long a process that stops waits for a connection, and for an answer, to give up what only one process has."""
POOL_CLOSE_SECONDS = 10.0
"""How long a pool waits at its end for connections that are in use: whoever has not ended by then does not end."""
_NEVER_SECONDS = 3_600.0
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)


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


@asynccontextmanager
async def create_pool(
    dsn: str, settings: DatabaseSettings, *, application: str, planner: Mapping[str, str] | None = None
) -> AsyncIterator[Pool]:
    """Make a pool that opens its connections when they are first needed, and yield it.

    Entering does not contact the server, so a process can start and answer 503 while Postgres is unreachable. Leaving
    takes bounded time, whatever the server does.

    Args:
        dsn: the database's address.
        settings: the connections' limits.
        application: the name the server shows for them, after `slotwire-`.
        planner: further settings of the sessions, for how their statements are planned.

    Raises:
        ConfigurationError: the address is missing, cannot be read, or may not be used as it is.
    """
    address = parse_address(dsn, setting=ADDRESS, settings=settings)
    options = connection_options(settings, application=application)
    options["server_settings"] |= planner or {}

    async def opened(*_: object, **__: object) -> Session:
        session = await _fit(address, settings, options)
        session.expire = pool.expire_connections
        return session

    pool = make_pool(dsn, max_size=settings.pool_size, connect=opened, connection_class=Session)
    async with pool:
        try:
            yield pool
        finally:
            with suppress(TimeoutError):  # by which it ends what nobody has given back
                async with asyncio.timeout(POOL_CLOSE_SECONDS):
                    await pool.close()


@asynccontextmanager
async def borrowed(pool: Pool, *, seconds: float | None = None) -> AsyncIterator[Connection]:
    """Borrow a pool's connection while the block runs; errors of Postgres in the block become ours.

    Args:
        pool: the pool.
        seconds: how long it may take to get one; None for no limit but those of connecting.

    Raises:
        SlotwireError: see `translated`.
    """
    with translated():
        async with pool.acquire(timeout=seconds) as connection:
            yield connection


async def connect(
    dsn: str,
    settings: DatabaseSettings,
    *,
    application: str,
    planner: Mapping[str, str] | None = None,
    outright: bool = False,
    setting: str = ADDRESS,
) -> Session:
    """Open one connection outside any pool.

    Args:
        dsn: the database's address.
        settings: the connection's limits.
        application: the name the server shows for it, after `slotwire-`.
        planner: further settings of the session, for statements whose plans are known in advance.
        outright: for `call_outright`: no client-side limit cancels a statement.
        setting: the variable that the address comes from; errors name it.

    Raises:
        DatabaseUnavailable: Postgres is out of reach or read-only.
        DatabaseUnfit: it would lose what it commits, is too old, or a pooler shares our session.
        ConfigurationError: the address is missing, cannot be read, or may not be used as it is.
    """
    address = parse_address(dsn, setting=setting, settings=settings)
    options = connection_options(settings, application=application)
    options["server_settings"] |= planner or {}
    if outright:
        options["command_timeout"] = None
    return await _fit(address, settings, options)


async def _fit(address: DatabaseAddress, settings: DatabaseSettings, options: dict[str, Any]) -> Session:
    """Open a connection that can do its work: writable, ours alone, with its limits in force, and durable."""
    session = await first_writable(address, options)

    async def second() -> Session:
        return await connect_to(address, session.host, options)

    try:
        async with asyncio.timeout(settings.connect_timeout_seconds + settings.statement_timeout_seconds):
            row = await require_own_session(session, options["server_settings"], second)
        if settings.durable:
            require_durable(durability_of(row))
    except TimeoutError as error:
        session.terminate()
        raise DatabaseUnavailable("Postgres did not answer in time", reason="timeout") from error
    except BaseException:
        session.terminate()
        raise
    return session


async def connect_to_commit(dsn: str, settings: DatabaseSettings, *, application: str) -> Connection:
    """Open one connection for `call_outright`; see `connect`."""
    connection = await connect(dsn, settings, application=application, planner=BY_KEY, outright=True)
    try:
        await write_times_quickly(connection)
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


def is_lost(connection: Connection) -> bool:
    """Say whether a connection is gone. A pool takes one back at once when Postgres has ended it."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


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


async def give_up(pool: Pool, statement: str, *arguments: object) -> None:
    """Give up what only one process has, as it stops: another one takes it at once, and not when the lease ends.

    Raises:
        DatabaseUnavailable: Postgres did not answer within `LEAVE_SECONDS`; another process waits for the lease's end.
    """
    async with borrowed(pool, seconds=LEAVE_SECONDS) as connection:
        await call_outright(connection, statement, *arguments, seconds=LEAVE_SECONDS)


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
