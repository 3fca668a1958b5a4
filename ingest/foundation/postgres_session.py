"""A session with Postgres: checked when it opens, so that what it sets lasts; dropped as soon as it cannot work.

What is checked costs one round trip. A pooler that gives every statement, or every transaction, to another session of
the server would break limits, locks, notifications and planner settings silently, so it is refused by its name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import asyncpg
from asyncpg.transaction import Transaction

from slotwire.ingest.foundation.errors import DatabaseUnavailable, DatabaseUnfit
from slotwire.ingest.foundation.postgres_address import Host
from slotwire.ingest.foundation.postgres_errors import OLDEST, READ_ONLY, shared_session, too_old, translated

if TYPE_CHECKING:
    _AsyncpgConnection = asyncpg.Connection[asyncpg.Record]
else:
    _AsyncpgConnection = asyncpg.Connection

CLOSE_SECONDS = 1.0
"""How long a server may take to say goodbye; then the connection is dropped."""
SECOND_SECONDS = 2.0
"""How long the second connection, which asks a pooler for its mode, may take for each step."""
_TURNS = (0, 1, 1, 0, 1, 0, 0, 1) * 2
"""Which of two sessions asks next: no steady rhythm, which the rotation of a pooler could keep step with."""
LIMITS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
"""What must be in force on the server: without them a frozen process of ours could hold a lock for ever."""
_KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 7_000))
"""Where the system has them: a server that is silently gone is noticed within 11 s, in the middle of a request 7 s."""
_DESCRIBE = f"""
SELECT pg_backend_pid() AS pid, current_setting('fsync') = 'on' AS fsync,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('synchronous_standby_names') AS standbys, current_setting('TimeZone') AS timezone,
    current_setting('transaction_read_only') = 'on' AS read_only,
    {", ".join(f"current_setting('{name}')::interval AS {name}" for name in LIMITS)}
"""
_STILL_FIT = "SELECT current_setting('transaction_read_only') = 'off' AND pg_backend_pid() = $1"
_SET = "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS wanted (name, value)"


class StatementObserver(Protocol):
    """Is told of each statement of a session, in its order, as it ends."""

    def __call__(self, statement: str, began: float, error: BaseException | None) -> None:
        """Take a statement, the `monotonic` seconds when it began, and why it failed, if it did."""
        ...


class _Nobody:
    """Stands among asyncpg's loggers for an observer, which is told without them."""

    is_async = False

    def cb(self, _: object) -> None:
        """Take what asyncpg tells its loggers."""


_OBSERVED = _Nobody()


class _ObservedStatement:
    """One statement, while it runs."""

    __slots__ = ("_began", "_observer", "_others", "_statement")

    def __init__(
        self, observer: StatementObserver, statement: str, others: AbstractContextManager[None] | None
    ) -> None:
        self._observer = observer
        self._statement = statement
        self._others = others

    def __enter__(self) -> None:
        if self._others is not None:
            self._others.__enter__()
        self._began = monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._observer(self._statement, self._began, error)
        if self._others is not None:
            self._others.__exit__(kind, error, trace)


class Session(_AsyncpgConnection):
    """A connection of asyncpg's that ends in bounded time, whatever the server does, and never goes back unfit.

    Attributes:
        host: where it leads.
        expire: lets a pool replace its other connections when this one has turned read-only.
        again: settings that a pooler did not take at the start; set again after each use.
        pooled: whether a pooler is between us and the server.
        server_process: the server's process that we had at the start; behind a pooler another one makes us unfit.
        is_ready: whether this use has undone already what a reset would undo.
        closed_here: whether somebody of this process has closed it.
        outer: what asyncpg takes for the transaction that is open in a `BriefTransaction`; made by the first one.
        observer: told of its statements. asyncpg's own loggers are called later, and cost as much as half a statement.
    """

    host: Host
    expire: Callable[[], Awaitable[None]] | None = None
    again: Mapping[str, str] | None = None
    pooled = False
    server_process = 0
    is_ready = False
    closed_here = False
    outer: Transaction | None = None
    observer: StatementObserver | None = None

    def observe(self, observer: StatementObserver | None) -> None:
        """Tell somebody of each statement from now on, or nobody."""
        self.observer = observer
        loggers: set[object] = self._query_loggers  # type: ignore[attr-defined]  # it has no stub
        (loggers.discard if observer is None else loggers.add)(_OBSERVED)

    def _time_and_log(self, query: str, args: object, timeout: float | None) -> AbstractContextManager[None]:
        """Do as asyncpg does, which asks for this around each statement while `_query_loggers` has any."""
        usual = super()._time_and_log  # type: ignore[misc]  # it has no stub
        if self.observer is None:
            logged: AbstractContextManager[None] = usual(query, args, timeout)
            return logged
        loggers: set[object] = self._query_loggers  # type: ignore[attr-defined]  # as above
        others = usual(query, args, timeout) if len(loggers) > 1 else None
        return _ObservedStatement(self.observer, query, others)

    def terminate(self) -> None:
        """Close it without waiting; remember that it was not lost."""
        self.closed_here = True
        super().terminate()

    @property
    def read_only(self) -> bool:
        """Whether the server has said, with its last answer, that it takes no writes."""
        if self.is_closed():
            return False
        told = self.get_settings()
        return getattr(told, "in_hot_standby", "") == "on" or getattr(told, "default_transaction_read_only", "") == "on"

    @property
    def is_undone(self) -> bool:
        """Whether nothing of this use is left, and the server is to be asked for nothing before the next one."""
        if not self.is_ready or self.pooled or self.is_closed() or self.read_only:
            return False
        return not (self._listeners or self._log_listeners)  # type: ignore[attr-defined]  # they have no stub

    def require_writable(self) -> None:
        """Refuse to go on with a server that takes no writes any more.

        Raises:
            DatabaseUnavailable: so it has said with its last answer.
        """
        if self.read_only:
            raise DatabaseUnavailable("Postgres became read-only", reason=READ_ONLY)

    def get_reset_query(self) -> str:
        """Return what undoes a use of this connection; behind a pooler that also undoes our settings."""
        usual = super().get_reset_query()
        if self.again is None:
            return usual
        again = (f"SELECT pg_catalog.set_config('{name}', '{value}', false);" for name, value in self.again.items())
        return "\n".join([usual, *again])

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's signature
        """Make ready for the next use. A connection that cannot work is dropped: no failure of its last use."""
        ready, self.is_ready = self.is_ready, False
        try:
            async with asyncio.timeout(timeout):
                await (self._reset() if ready else super().reset())
                unfit = self.read_only or (self.pooled and not await self.fetchval(_STILL_FIT, self.server_process))
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.terminate()
            return
        if unfit:
            if self.expire is not None:
                await self.expire()
            self.terminate()

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's signature
        """Say goodbye; a server that does not answer is left."""
        self.closed_here = True
        try:
            await super().close(timeout=CLOSE_SECONDS if timeout is None else timeout)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.terminate()

    def notice_silence(self) -> None:
        """Let the system end the connection when the other side no longer answers."""
        transport: asyncio.Transport = getattr(self, "_transport")  # noqa: B009 - asyncpg has no public way to it
        connected: socket.socket | None = transport.get_extra_info("socket")
        if connected is None or connected.family == getattr(socket, "AF_UNIX", None):
            return
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


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


async def describe(session: Session) -> asyncpg.Record:
    """Ask a session what it is; see `_DESCRIBE`."""
    with translated():
        row = await session.fetchrow(_DESCRIBE)
    if row is None:  # pragma: no cover - a SELECT without FROM gives one row
        raise AssertionError
    return row


def durability_of(row: asyncpg.Record) -> Durability:
    """Read how much a commit survives from a session's description."""
    return Durability(row["fsync"], row["synchronous_commit"], row["standbys"])


def require_durable(found: Durability) -> None:
    """Refuse a server that would lose what it has committed.

    Raises:
        DatabaseUnfit: fsync or synchronous_commit is off.
    """
    if not found.survives_crash:
        raise DatabaseUnfit(
            "Postgres runs with fsync or synchronous_commit off: an acknowledged delivery could be lost",
            reason="durability",
            remedy="Turn both on, or accept the loss with SLOTWIRE_DATABASE__DURABLE=false.",
        )


async def require_own_session(
    session: Session, wanted: Mapping[str, str], second: Callable[[], Awaitable[Session]]
) -> asyncpg.Record:
    """Refuse a session that is not ours alone, or on which our limits are not in force.

    Args:
        session: new.
        wanted: the settings it was opened with.
        second: opens another one to the same place; used only where a pooler answers.

    Returns:
        The session's description.

    Raises:
        DatabaseUnfit: the server is too old, or a pooler shares sessions between us and others.
        DatabaseUnavailable: it answers no more, or is read-only.
    """
    if session.get_server_version().major < OLDEST:
        raise too_old("this server")
    row = await describe(session)
    session.server_process = row["pid"]
    session.pooled = session.get_server_pid() != session.server_process
    if not in_force(row, wanted):
        session.again = wanted
        with translated():
            await session.execute(_SET, list(wanted), list(wanted.values()))
    if session.pooled:
        await _require_session_mode(session, second)
    if session.again is not None and not in_force(row := await describe(session), wanted):
        raise DatabaseUnfit(
            "what a session sets does not last: something between us and Postgres undoes it",
            reason="pooler",
            remedy="Name Postgres itself, or a pooler in session mode; see docs/howto/run-in-production.md.",
        )
    if row["read_only"]:
        raise DatabaseUnavailable("Postgres is read-only", reason=READ_ONLY, remedy="Wait for a primary.")
    return row


def in_force(row: asyncpg.Record, wanted: Mapping[str, str]) -> bool:
    """Whether a session has the limits and the time zone that it was opened with."""
    limits = all(row[name] == timedelta(milliseconds=int(wanted[name])) for name in LIMITS)
    return limits and row["timezone"] == wanted["timezone"]


async def _require_session_mode(first: Session, second: Callable[[], Awaitable[Session]]) -> None:
    """Ask a pooler for its mode: in session mode a session stays with one process of the server, and has it alone.

    Each of two asks many times in turn and holds nothing in between: others who do the same at once move the processes
    about, and never wait for us.

    Raises:
        DatabaseUnfit: it works in another mode than session mode.
    """
    await _execute(first, "BEGIN")  # in statement mode a pooler refuses it
    await _execute(first, "COMMIT")
    sessions, other = [first], None
    try:
        try:
            async with asyncio.timeout(SECOND_SECONDS):
                other = await second()
                await _process_of(other)
            sessions.append(other)
        except (TimeoutError, DatabaseUnavailable):
            pass  # no second one to be had now, as in session mode when the pool is used up
        process_of: dict[int, int] = {}
        session_of: dict[int, int] = {}
        for turn in _TURNS:
            index = turn % len(sessions)
            process = await _process_of(sessions[index])
            if process_of.setdefault(index, process) != process or session_of.setdefault(process, index) != index:
                raise shared_session("transaction")
    finally:
        if other is not None:
            other.terminate()


async def _process_of(session: Session) -> int:
    with translated():
        pid: int = await session.fetchval("SELECT pg_backend_pid()")
    return pid


async def _execute(session: Session, statement: str) -> None:
    with translated():
        await session.execute(statement)
