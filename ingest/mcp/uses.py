"""The audit of what agents did here: every call of a tool, and every token, with what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated

MAX_TARGET = 2_000
"""Characters of a target that are kept."""
_SQL = read_queries("slotwire.ingest.sql", "mcp.sql")


@dataclass(frozen=True, slots=True)
class Uses:
    """Writes the audit, by a function that adds and does nothing else."""

    pool: Pool
    clock: Clock

    async def note(
        self,
        use: UUID,
        agent: UUID,
        user: str,
        what: str,
        *,
        target: str | None = None,
        result: str = "done",
        code: str | None = None,
    ) -> None:
        """Write one use.

        Args:
            use: its id, in order of time.
            agent: who did it.
            user: for whom.
            what: the tool, or `token`.
            target: the URI of what it was about.
            result: `done`, `refused` or `failed`.
            code: why it was not done.

        Raises:
            DatabaseUnavailable: it is not written.
        """
        about = None if target is None else target[:MAX_TARGET]
        with translated():
            await self.pool.execute(_SQL["note_mcp_use"], use, self.clock.now(), agent, user, what, about, result, code)
