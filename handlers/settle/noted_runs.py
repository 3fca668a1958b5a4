"""Notes of runs, in Postgres, from their start to their end: what is noted when its process is gone may have ended it.

Only where a process has died before: see `dispatch/careful.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from slotwire.handlers.batching import CallBatcher, Reply
from slotwire.handlers.records import Partition
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import borrowed, read_queries, translated

KEPT = timedelta(days=30)
"""For how long a note is kept whose event does not come again."""

_QUERIES = read_queries("slotwire.handlers.sql", "noted_runs.sql")

RunPlace = tuple[Partition, UUID]
"""A partition, and an event of it."""


@dataclass(frozen=True, slots=True)
class RunSuspicion:
    """How an event is suspected.

    Attributes:
        seen: processes that died while it ran.
        deaths: those of them in which nothing else that was suspected ran.
    """

    seen: int
    deaths: int


class NotedRuns:
    """The notes of one agent in one process.

    Every method raises DatabaseUnavailable, SchemaMismatch or ConfigurationError.

    Attributes:
        agent: its name.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], *, agent: str, process: UUID, clock: Clock) -> None:
        """Take what it needs.

        Args:
            pool: the database.
            agent: the agent's name.
            process: this one.
            clock: for the time of a note.
        """
        self._pool = pool
        self.agent = agent
        self._process = process
        self._clock = clock
        self.begin = CallBatcher(self._begin)
        self.end = CallBatcher(self._end)

    async def conclude(
        self, died: Mapping[Partition, UUID], ours: Collection[Partition]
    ) -> dict[RunPlace, RunSuspicion]:
        """Count the deaths of processes, and return which events of partitions are suspected.

        Args:
            died: the process that has died, of each partition of which one has.
            ours: the partitions that this process takes.
        """
        now, mine = self._clock.now(), _columns(ours)
        async with borrowed(self._pool) as connection:
            await connection.execute(_QUERIES["drop_noted"], self.agent, *mine, now - KEPT)
            if died:
                dead = (*_columns(died), list(died.values()))
                await connection.execute(_QUERIES["conclude"], self.agent, *dead, now)
            rows = await connection.fetch(_QUERIES["suspects"], self.agent, *mine)
        return {
            (Partition(row["topic"], row["partition"]), row["event_id"]): RunSuspicion(row["seen"], row["deaths"])
            for row in rows
        }

    async def _begin(self, places: tuple[RunPlace, ...], reply: Reply[RunPlace, None]) -> None:
        await self._write(_QUERIES["note_runs"], places)
        reply(dict.fromkeys(places))

    async def _end(self, places: tuple[RunPlace, ...], reply: Reply[RunPlace, None]) -> None:
        await self._write(_QUERIES["end_runs"], places)
        reply(dict.fromkeys(places))

    async def _write(self, statement: str, places: tuple[RunPlace, ...]) -> None:
        columns = (*_columns([partition for partition, _ in places]), [event_id for _, event_id in places])
        async with borrowed(self._pool) as connection:
            await connection.execute(statement, self.agent, *columns, self._process, self._clock.now())

    async def drop(self, place: RunPlace) -> None:
        """Drop the note of an event that was suspected, and is settled."""
        partition, event_id = place
        with translated():
            await self._pool.execute(_QUERIES["drop_note"], self.agent, *partition, event_id)


def _columns(partitions: Collection[Partition]) -> tuple[list[str], list[int]]:
    return [each.topic for each in partitions], [each.number for each in partitions]
