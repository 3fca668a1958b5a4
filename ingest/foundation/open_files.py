"""How many files and sockets a process may have open (RLIMIT_NOFILE), and how many connections fit.

A process that has no descriptor left accepts nobody, counts nothing and cannot reach Postgres. So the limit is raised
at the start as far as the system allows, and a listener takes no more connections than fit beside our own.
"""

from __future__ import annotations

import resource
from contextlib import suppress

from slotwire.ingest.foundation.errors import ConfigurationError

BACKLOG = 1_024
"""Connections that the system accepts for us before we see the first of them; all at once, in a flood."""
RESERVED = 384
"""Descriptors that are not a listener's: up to 100 connections to Postgres, those to Kafka, the health port, logs."""
FEWEST_CONNECTIONS = 16
"""With room for fewer a listener does not start."""
_ENOUGH = (1_048_576, 65_536, 10_240)
"""Tried where there is no hard limit; macOS refuses more than the last."""


def raise_limit() -> None:
    """Raise the soft limit of this process to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in _ENOUGH if hard == resource.RLIM_INFINITY else (hard,):
        if soft == resource.RLIM_INFINITY or soft >= limit:
            return
        with suppress(ValueError, OSError):  # more than the system has
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            return


def open_files_limit() -> int:
    """Return how many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _ENOUGH[0] if soft == resource.RLIM_INFINITY else soft


def reachable_limit() -> int:
    """Return how many descriptors a process may have open once it has raised its limit, as each does at its start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _ENOUGH[0] if hard == resource.RLIM_INFINITY else hard


def backlog_for(connections: int) -> int:
    """Return how many connections may wait to be accepted, beside a cap."""
    return min(connections, BACKLOG)


def needed(connections: int) -> int:
    """Return the descriptors that a process with so many connections needs at most."""
    return connections + backlog_for(connections) + RESERVED


def fitting(connections: int, limit: int) -> int:
    """Return how many of the wanted connections fit into a limit of descriptors.

    Raises:
        ConfigurationError: not even `FEWEST_CONNECTIONS` do.
    """
    if needed(connections) <= limit:
        return connections
    left = limit - RESERVED
    fits = max(left // 2, left - BACKLOG)
    if fits < min(connections, FEWEST_CONNECTIONS):
        raise ConfigurationError(
            f"only {limit} files may be open, and {needed(FEWEST_CONNECTIONS)} are needed to take connections",
            remedy=f"Raise the hard limit (`ulimit -Hn`, LimitNOFILE of systemd) to {needed(connections)}.",
        )
    return fits
