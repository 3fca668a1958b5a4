"""A chore: asks Calendly regularly whether each credential still works, even without traffic.

A connection that was used within the interval is skipped, because that use asked already. If Calendly does not answer,
the next round asks again. Several processes may run this at once: asking twice is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.connections import Connections
from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.defects import defect
from slotwire.ingest.foundation.postgres import read_queries, translated
from slotwire.ingest.foundation.settings import ConnectionsSettings
from slotwire.ingest.foundation.telemetry import get_logger

PAGE = 100
"""Connections read at a time."""
AT_ONCE = 4
"""Connections checked concurrently."""
MAX_ROUND_SECONDS = 60.0
"""The longest pause between two rounds, after which failed checks are repeated."""
STATES = ("active", "expiring", "needs_reauth", "revoked", "error")

_SQL = read_queries("slotwire.ingest.sql", "connections.sql")
_FIRST = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))
_log = get_logger("connections")


@dataclass(frozen=True, slots=True)
class CheckRoundResult:
    """The result of one round.

    Attributes:
        asked: how many connections were checked.
        failed: how many of them have no result: Calendly did not answer, or the connection was deleted.
    """

    asked: int
    failed: int


async def run(connections: Connections, settings: ConnectionsSettings) -> None:
    """Make rounds until cancelled. A failed round is logged, and the next one does its work."""
    seconds = min(settings.check_interval_seconds / 4, MAX_ROUND_SECONDS)
    await repeat(lambda: run_once(connections, settings), stage="connections", seconds=seconds)


async def run_once(connections: Connections, settings: ConnectionsSettings) -> CheckRoundResult:
    """Check every connection that was not used or checked within the interval.

    Raises:
        DatabaseUnavailable: some connections were not checked; the next round does the rest.
    """
    before = connections.clock.now() - timedelta(seconds=settings.check_interval_seconds)
    asked, failed, after = 0, 0, _FIRST
    while due := await _due(connections, before, after):
        answers = await _ask(connections, [connection_id for _, connection_id in due])
        asked, failed, after = asked + len(due), failed + answers.count(False), due[-1]
    return CheckRoundResult(asked, failed)


async def _due(connections: Connections, before: datetime, after: tuple[datetime, UUID]) -> list[tuple[datetime, UUID]]:
    with translated():
        rows = await connections.pool.fetch(_SQL["connections_due"], before, *after, PAGE)
    return [(row["checked_at"], row["id"]) for row in rows]


async def _ask(connections: Connections, due: Sequence[UUID]) -> list[bool]:
    limit = asyncio.Semaphore(AT_ONCE)

    async def ask(connection_id: UUID) -> bool:
        async with limit:
            return await _check(connections, connection_id)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(connection_id)) for connection_id in due]
    return [task.result() for task in tasks]


async def _check(connections: Connections, connection_id: UUID) -> bool:
    """Check one connection; return whether there is a result. A failure does not affect the others."""
    try:
        await connections.check(connection_id, priority=Priority.SWEEP)
    except SlotwireError as problem:
        _log.info("check_failed", connection=str(connection_id), error=problem.message)
        return False
    except Exception as error:  # noqa: BLE001 -- the edge: one connection's must not end the process for all others
        _log.error("check_defect", connection=str(connection_id), **defect(error))
        return False
    return True
