"""A connection to the first of several hosts that takes writes; a host that hangs holds up none of the others.

    0.00 s  a ──────────────── hangs …        a loser, and whatever it brings later, is closed
    0.25 s    b ── refused ╮
    0.26 s                 ╰ c ── takes writes: it wins

The next host is tried as soon as one has failed, or after `STAGGER_SECONDS`; each has its own time to connect.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from slotwire.ingest.foundation.errors import DatabaseUnavailable, DatabaseUnfit, SlotwireError
from slotwire.ingest.foundation.postgres_address import DatabaseAddress, Host
from slotwire.ingest.foundation.postgres_errors import READ_ONLY, explained
from slotwire.ingest.foundation.postgres_session import Session

STAGGER_SECONDS = 0.25
"""How long the next host waits for the one before it (RFC 8305 proposes this)."""
CLOSE_SECONDS = 1.0
"""How long attempts that lost may take to end."""
_TELLING = ("unfit", "28P01", "28000", "3D000", "53300", "tls", READ_ONLY, "57P03", "unreachable", "timeout")
"""Reasons, the one first that says most about what a person has to mend."""

Open = Callable[[Host], Awaitable[Session]]


async def first_writable(address: DatabaseAddress, options: dict[str, Any]) -> Session:
    """Connect to the first host that takes writes.

    Args:
        address: the hosts, in the order in which they are tried.
        options: asyncpg's, `timeout` among them: the time to connect to one host.

    Raises:
        DatabaseUnavailable: none takes writes; the message says why of each.
        ConfigurationError: the address cannot be used.
    """

    async def attempt(host: Host) -> Session:
        return await connect_to(address, host, options)

    return await _race(address, attempt)


async def connect_to(address: DatabaseAddress, host: Host, options: dict[str, Any]) -> Session:
    """Connect to one host.

    Raises:
        DatabaseUnavailable: it does not answer, refuses us, or is read-only.
        ConfigurationError: the address cannot be used.
    """
    try:
        return await _open(address, host, options)
    except asyncpg.PostgresError as error:
        if error.sqlstate != "08P01" or "startup parameter" not in str(error):
            raise explained(error, address.setting, str(host)) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        raise explained(error, address.setting, str(host)) from error
    # A pooler takes only those settings with the start of a session that it knows. The others are set afterwards.
    try:
        named = {"application_name": options["server_settings"]["application_name"]}
        return await _open(address, host, {**options, "server_settings": named})
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        raise explained(error, address.setting, str(host)) from error


async def _open(address: DatabaseAddress, host: Host, options: dict[str, Any]) -> Session:
    opened: Session = await asyncpg.connect(
        address.dsn,
        host=host.name,
        port=host.port,
        ssl=address.ssl,
        connection_class=Session,
        **options,
    )
    opened.host = host
    opened.notice_silence()
    return opened


async def _race(address: DatabaseAddress, attempt: Open) -> Session:
    waiting, problems = deque(address.hosts), list[SlotwireError]()
    running: list[asyncio.Task[Session]] = []
    try:
        while waiting or running:
            if waiting:
                running.append(asyncio.ensure_future(attempt(waiting.popleft())))
            done, _ = await asyncio.wait(
                running, timeout=STAGGER_SECONDS if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in [each for each in running if each in done]:  # in the order of the hosts
                problem = task.exception()
                if problem is None:
                    running.remove(task)
                    return task.result()
                running.remove(task)
                if not isinstance(problem, SlotwireError):
                    raise problem
                problems.append(problem)
    finally:
        await _end(running)
    raise together(address.setting, problems)


async def _end(losers: Sequence[asyncio.Task[Session]]) -> None:
    """Close what the others have opened, or are opening."""
    for task in losers:
        task.add_done_callback(_close_loser)
        task.cancel()
    if losers:
        await asyncio.wait(losers, timeout=CLOSE_SECONDS)


def _close_loser(task: asyncio.Task[Session]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()


def together(setting: str, problems: Sequence[SlotwireError]) -> SlotwireError:
    """Make one error of what happened at each host; its reason is the one that says most."""
    if len(problems) == 1:
        return problems[0]
    told = [problem for problem in problems if isinstance(problem, DatabaseUnavailable)]
    if len(told) < len(problems):
        return next(problem for problem in problems if problem not in told)
    first = min(told, key=_rank)
    message = f"no host of {setting} takes writes: {'; '.join(dict.fromkeys(each.message for each in told))}"
    remedy = "\n".join(dict.fromkeys(line for each in told for line in each.remedy.splitlines()))
    return type(first)(message, reason=first.reason, remedy=remedy)


def _rank(problem: DatabaseUnavailable) -> int:
    reason = "unfit" if isinstance(problem, DatabaseUnfit) else problem.reason
    return _TELLING.index(reason) if reason in _TELLING else 0
