"""The readiness check of processes that need Postgres: it takes writes, and its schema fits this version."""

from __future__ import annotations

import asyncio

from slotwire.ingest.foundation.errors import DatabaseUnavailable, SlotwireError
from slotwire.ingest.foundation.migrations import require_fitting
from slotwire.ingest.foundation.postgres import Pool, borrowed
from slotwire.ingest.foundation.postgres_errors import READ_ONLY

READY_SECONDS = 2.0
"""How long readiness waits for Postgres."""
_WAITS = (
    "SELECT current_setting('synchronous_standby_names') <> ''"
    " AND current_setting('synchronous_commit') NOT IN ('off', 'local')"
)
_UNCONFIRMED = (
    "commits wait for a synchronous standby that does not confirm them: no delivery is acknowledged."
    " docs/runbooks/postgres-away.md"
)
_COMMIT = "SELECT pg_logical_emit_message(true, 'slotwire', '')"


async def postgres_problem(pool: Pool) -> str | None:
    """Return why Postgres cannot be used now and what to do, in one line, or None if it can."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            await require_working(pool)
    except TimeoutError:
        return "Postgres does not answer"
    except SlotwireError as problem:
        return problem.in_one_line
    return None


async def commits_problem(pool: Pool) -> str | None:
    """Return in one line that commits wait for standbys that do not confirm them; None otherwise.

    Asked by committing nothing, and only where the server waits for standbys. That Postgres is away another check says.
    """
    waits = False
    try:
        async with asyncio.timeout(READY_SECONDS), borrowed(pool, seconds=READY_SECONDS) as connection:
            waits = await connection.fetchval(_WAITS)
            if waits:
                await connection.execute(_COMMIT)
    except (TimeoutError, SlotwireError):
        return _UNCONFIRMED if waits else None
    return None


async def require_working(pool: Pool) -> None:
    """Ask for what every process needs: a schema that fits, on a server that takes writes.

    Raises:
        DatabaseUnavailable: Postgres is away, or read-only; connections that were opened before are not used again.
        SchemaMismatch: `slotwire migrate` has to run first.
    """
    async with borrowed(pool, seconds=READY_SECONDS) as connection:
        await require_fitting(connection)
        read_only = await connection.fetchval("SELECT current_setting('transaction_read_only') = 'on'")
    if read_only:
        await pool.expire_connections()
        raise DatabaseUnavailable(
            "Postgres is read-only",
            reason=READ_ONLY,
            remedy="Wait for a primary; its own log says why it takes no writes.",
        )
