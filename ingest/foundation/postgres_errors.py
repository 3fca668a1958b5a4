"""What goes wrong with Postgres, in words: asyncpg's exceptions become ours here, each with what to do."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from slotwire.ingest.foundation.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DatabaseUnfit,
    RowRefused,
    SchemaMismatch,
    SlotwireError,
)
from slotwire.ingest.foundation.network_errors import errnos_of, tls_problem

OLDEST = 14
"""The oldest major version of Postgres that has what a connection asks of it."""
READ_ONLY = "read_only"
_DATA_ERRORS = frozenset({"22", "23", "54"})
_PASSING = frozenset({"08", "40", "53", "55", "57", "58"})
"""Classes of SQLSTATE that say nothing of the statement: another try may succeed."""
_UNDEFINED = frozenset({"42P01", "42883", "42703", "3F000"})
_NO_SUCH_HOST = "cannot be found by its name"

_REFUSALS = {
    "28P01": (
        "Postgres refused the user or the password",
        "Check the user and the password in {setting}. A character that means something in an address is written %XX.",
    ),
    "3D000": ("Postgres has no such database", "Check the name after the last slash of {setting}."),
    "53300": (
        "Postgres has no connection left for this role",
        "Raise max_connections, or the role's CONNECTION LIMIT, or lower SLOTWIRE_DATABASE__POOL_SIZE.",
    ),
    "57P03": ("Postgres is starting up, or takes no connections", "Wait for it; its log says what it is doing."),
    "25006": (
        "Postgres is read-only",
        "It became a standby, or its disk is full. Work goes on once a host of {setting} takes writes.",
    ),
    "08xxx": (
        "the connection to Postgres was closed",
        "If it stays so: check the host and the port in {setting}, and what stands between.",
    ),
}
"""By SQLSTATE, or by its class: messages, and what to do if it stays so."""
_POOLER = "Let the pooler work in session mode, or name Postgres itself; see docs/howto/run-in-production.md."
_SHARED = frozenset({"26000", "42P05"})
"""A prepared statement that is gone, or there already: the session is not ours alone."""


_ASYNCPGS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class translated:  # noqa: N801 - used as a function
    """Translate exceptions of asyncpg and the network into our own, in a `with` block.

    Raises:
        RowRefused: SQLSTATE class 22, 23 or 54, or a value that asyncpg cannot write; but not 23514 without a
            constraint's name, which says that a partition is missing: that is not the data's fault.
        SchemaMismatch: a table, column or function is missing.
        ConfigurationError: the address cannot be read.
        DatabaseUnfit: the role lacks a right, or a pooler shares our session.
        DatabaseUnavailable: everything else: unreachable, frozen, demoted, out of space, timed out.
    """

    __slots__ = ("_setting",)

    def __init__(self, *, setting: str = "SLOTWIRE_DATABASE_URL") -> None:
        """Begin.

        Args:
            setting: where the address comes from; what to do names it.
        """
        self._setting = setting

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Translate what the block has raised."""
        if isinstance(error, _ASYNCPGS):
            raise explained(error, self._setting) from error


@contextmanager
def written_by_hand(name: str) -> Iterator[None]:
    """Translate what Postgres says of statements that a person wrote, who has to read it: in its own words.

    Args:
        name: of the file.

    Raises:
        SchemaMismatch: it refused one.
        DatabaseUnavailable: it is away, or could not get a lock.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "")[:2] in _PASSING:
            raise explained(error, "SLOTWIRE_DATABASE_URL") from error
        line = f", at character {error.position}" if getattr(error, "position", None) else ""
        raise SchemaMismatch(
            f"{name} was refused: {_first_line(error)}{line}",
            remedy="Nothing of it was kept. Correct the file, and run this again.",
        ) from error


def explained(error: Exception, setting: str, place: str = "") -> SlotwireError:
    """Return our error for one of asyncpg's or the network's.

    Args:
        error: the exception.
        setting: where the address comes from.
        place: the host with its port, where one was being connected to.
    """
    if isinstance(error, asyncpg.PostgresError):
        return _answered(error, setting)
    if isinstance(error, asyncpg.exceptions.TargetServerAttributeNotMatched):
        return DatabaseUnavailable(
            f"Postgres{_at(place)} is read-only", reason=READ_ONLY, remedy=f"{setting} must lead to the primary."
        )
    if isinstance(error, asyncpg.exceptions.ClientConfigurationError):
        return ConfigurationError(f"{setting} cannot be read: {_first_line(error)}", remedy="See the manual of libpq.")
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        # asyncpg's own DataError: it cannot write the value, and never will
        return RowRefused("the data cannot be sent to Postgres", sqlstate="22000")
    if isinstance(error, ssl.SSLError):
        return _untrusted(error, setting, place)
    return _out_of_reach(error, setting, place)


def _answered(error: asyncpg.PostgresError, setting: str) -> SlotwireError:
    """Explain what Postgres said, or a pooler in its name."""
    text = str(error)
    state = _told_by_pooler(text) if error.sqlstate == "08P01" else error.sqlstate or "XX000"
    if state[:2] in _DATA_ERRORS and not (state == "23514" and not error.constraint_name):
        return RowRefused("Postgres refused the data", sqlstate=state)
    if state in _UNDEFINED:
        return SchemaMismatch(
            "the database does not have this version's schema", remedy="Run `slotwire migrate --pre`."
        )
    return _unfit(state, text) or _refused(state, text, setting)


def _unfit(state: str, text: str) -> DatabaseUnfit | None:
    """Explain what a person has to mend before this server can be used at all."""
    if state == "42501":
        what = "may not connect to this database" if "for database" in text else "lacks a right it needs"
        remedy = "Make it a member of its process's role, then run `slotwire migrate`."
        return DatabaseUnfit(f"the database role {what}", reason=state, remedy=remedy)
    if state == "42704" and "configuration parameter" in text:
        return too_old("this server")
    if state[:2] == "08" and "pooling mode" in text:
        return shared_session("statement")
    return shared_session("transaction") if state in _SHARED else None


def _refused(state: str, text: str, setting: str) -> DatabaseUnavailable:
    """Explain an answer after which another try may succeed."""
    if state == "28000":
        return _not_let_in(text, setting)
    if state == "08P01" and "startup parameter" in text:
        message = f"a pooler does not take what the address sets: {text.rpartition(': ')[2]}"
        remedy = f"Remove it from {setting}, or let the pooler ignore it (ignore_startup_parameters)."
        return DatabaseUnavailable(message, reason=state, remedy=remedy)
    unknown = (f"Postgres answered with SQLSTATE {state}", "")
    message, remedy = _REFUSALS.get(state) or _REFUSALS.get(f"{state[:2]}xxx") or unknown
    return DatabaseUnavailable(message, reason=state, remedy=remedy.format(setting=setting))


def _told_by_pooler(text: str) -> str:
    """Return the SQLSTATE that Postgres itself gives; PgBouncer has 08P01 for everything, and words."""
    if "authentication failed" in text or "no such user" in text:
        return "28P01"
    return "3D000" if "no such database" in text or "does not exist" in text else "08P01"


def _not_let_in(text: str, setting: str) -> DatabaseUnavailable:
    """Explain 28000, for which Postgres has many reasons and only words to tell them apart, in its own language."""
    if "no pg_hba.conf entry" in text and ("no encryption" in text or "SSL off" in text):
        message = "Postgres lets nobody in from here without TLS"
        remedy = f"Add ?sslmode=verify-full to {setting}, or a line for this client to pg_hba.conf."
    elif "no pg_hba.conf entry" in text:
        message = "Postgres lets this user in from no address like ours"
        remedy = "Add a line to pg_hba.conf for this client's address, user and database."
    elif "certificate" in text:
        message = "Postgres asks for a client certificate that it can trust"
        remedy = f"Name one in {setting}: &sslcert=FILE&sslkey=FILE"
    else:
        message = "Postgres refused the user: there is no such role, or it may not log in"
        remedy = f"Check the user in {setting}; make the role with LOGIN, as docs/howto/run-in-production.md says."
    return DatabaseUnavailable(message, reason="28000", remedy=remedy)


def _untrusted(error: ssl.SSLError, setting: str, place: str) -> DatabaseUnavailable:
    """Explain why TLS did not come about."""
    message, remedy = tls_problem(error)
    remedy = remedy.format(
        authority=f"sslrootcert in {setting}, or with SLOTWIRE_DATABASE__SSL_CAFILE", address=setting
    )
    return DatabaseUnavailable(f"Postgres{_at(place)}: {message}", reason="tls", remedy=remedy)


def _out_of_reach(error: Exception, setting: str, place: str) -> DatabaseUnavailable:
    """Explain a network that does not lead there, or a server that went away."""
    at = _at(place)
    remedy = f"Check that the server runs, and the host and the port in {setting}."
    if isinstance(error, TimeoutError):
        remedy = f"{remedy}\nA firewall that drops packets looks like this too."
        return DatabaseUnavailable(f"Postgres{at} did not answer in time", reason="timeout", remedy=remedy)
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error):
        remedy = f"Turn TLS on at the server (ssl = on), or take sslmode out of {setting}."
        return DatabaseUnavailable(f"Postgres{at} does not offer TLS", reason="tls", remedy=remedy)
    if isinstance(error, socket.gaierror):
        return DatabaseUnavailable(f"Postgres{at} {_NO_SUCH_HOST}", reason="unreachable", remedy=remedy)
    if errno.ECONNREFUSED in errnos_of(error):
        message = f"Postgres is out of reach: nothing listens{at}" if place else "Postgres is out of reach"
        return DatabaseUnavailable(message, reason="unreachable", remedy=remedy)
    return DatabaseUnavailable(f"Postgres{at} is out of reach", reason="unreachable", remedy=remedy)


def too_old(which: str) -> DatabaseUnfit:
    """Make the error for a server of a version that is not supported."""
    remedy = f"Slotwire works with Postgres {OLDEST} to 18."
    return DatabaseUnfit(f"{which} is older than Postgres {OLDEST}", reason="version", remedy=remedy)


def shared_session(mode: str) -> DatabaseUnfit:
    """Make the error for a pooler that gives our statements to sessions that others use too."""
    message = f"a pooler in {mode} mode is between us and Postgres: what a session sets does not last"
    return DatabaseUnfit(message, reason="pooler", remedy=_POOLER)


def _at(place: str) -> str:
    return f" at {place}" if place else ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
