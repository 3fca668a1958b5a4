"""The readiness check of processes that need Postgres: it answers, and its schema fits this version."""

from __future__ import annotations

import asyncio

from slotwire.ingest.foundation.errors import DatabaseUnavailable, SlotwireError
from slotwire.ingest.foundation.migrations import require_fitting
from slotwire.ingest.foundation.postgres import Pool, translated

READY_SECONDS = 2.0
"""How long readiness waits for Postgres."""


async def postgres_problem(pool: Pool) -> str | None:
    """Return why Postgres cannot be used now, or None if it can."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            with translated():
                connection = await pool.acquire(timeout=READY_SECONDS)
            try:
                await require_fitting(connection)
            finally:
                await pool.release(connection, timeout=READY_SECONDS)
    except TimeoutError:
        return "Postgres does not answer"
    except DatabaseUnavailable as problem:
        return problem.message
    except SlotwireError as problem:
        return f"{problem.message} {problem.remedy}".strip()
    return None
