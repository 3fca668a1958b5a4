"""The queue of an agent, in Postgres: records that it handles later, whole, so that its offsets need not wait for them.

Per lane in the order of their offsets. What waits there: a record whose next attempt is far off, all that came after it
in its lane, and dead letters that are driven again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from slotwire.handlers.batching import CallBatcher, Reply
from slotwire.handlers.records import Lane, Partition, Record, event_id_of
from slotwire.ingest.foundation.agents_settings import AgentsSettings
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import borrowed, read_queries, translated

HEADS_AT_ONCE = 500
"""Lanes that one look at the queue finds due, at most."""
_ALWAYS = datetime(9999, 1, 1, tzinfo=UTC)

_QUERIES = read_queries("slotwire.handlers.sql", "queue.sql")

Place = tuple[Partition, Lane]
_Settled = tuple[Partition, int, UUID | None]
"""A record's partition and offset, and its dead letter if it was driven again."""


@dataclass(frozen=True)
class QueuedRecord:
    """A record that waits.

    Attributes:
        record: the record, with edited bytes where its dead letter was edited.
        attempts: runs of its handler that counted so far.
        due_at: when it may be handled.
        letter: the dead letter that is driven again; None for a record that is handled late.
        newer: the newest position of its key that the agent has settled since it was given up.
        edited: whether its bytes were edited.
    """

    record: Record
    attempts: int
    due_at: datetime
    letter: UUID | None = None
    newer: int | None = None
    edited: bool = False


class PostgresQueue:
    """The queue of one agent.

    Every method raises DatabaseUnavailable, SchemaMismatch or ConfigurationError.
    """

    def __init__(
        self, pool: asyncpg.Pool[asyncpg.Record], *, agent: str, clock: Clock, settings: AgentsSettings
    ) -> None:
        self._pool = pool
        self._agent = agent
        self._clock = clock
        self._limits = settings.max_queued, settings.max_queued_per_key
        # Many lanes have their turns at once, when what waited for one moment is due.
        self._first = CallBatcher(self._load_first)
        self._gone = CallBatcher(self._remove)

    async def lanes(self, partitions: Collection[Partition]) -> set[Place]:
        """Return the lanes of partitions in which records wait."""
        return await self._heads(partitions, _ALWAYS, None)

    async def due(self, partitions: Collection[Partition], at_once: int = HEADS_AT_ONCE) -> set[Place]:
        """Return the lanes of partitions whose first record may be handled now; at most so many."""
        return await self._heads(partitions, self._clock.now(), at_once)

    async def lettered(self, partitions: Collection[Partition]) -> set[Place]:
        """Return the lanes of partitions that have dead letters which may be driven again."""
        with translated():
            rows = await self._pool.fetch(_QUERIES["lettered_lanes"], self._agent, *_columns(partitions))
        return {(Partition(row["topic"], row["partition"]), row["lane"]) for row in rows}

    async def length(self, partitions: Collection[Partition]) -> int:
        """Count the records of partitions that wait."""
        with translated():
            count: int = await self._pool.fetchval(_QUERIES["queue_length"], self._agent, *_columns(partitions))
        return count

    async def put(self, record: Record, *, attempts: int, due_at: datetime) -> bool:
        """Put a record at the end of its lane; putting it twice is no error.

        Returns:
            Whether it waits there now; if not, its lane or the agent has no room.
        """
        names = [name.encode(errors="surrogateescape") for name, _ in record.headers]
        values = [value for _, value in record.headers]
        with translated():
            free: bool = await self._pool.fetchval(
                _QUERIES["queue_put"],
                *(self._agent, *record.partition, record.offset, record.lane, event_id_of(record)),
                *(record.key, record.value, names, values, record.published_at, attempts, due_at),
                *(*self._limits, self._clock.now()),
            )
        return free

    async def head(self, partition: Partition, lane: Lane) -> QueuedRecord | None:
        """Return the first record of a lane; None when the lane is empty."""
        return await self._first((partition, lane))

    async def _load_first(self, places: tuple[Place, ...], reply: Reply[Place, QueuedRecord | None]) -> None:
        columns = (*_columns([partition for partition, _ in places]), [lane for _, lane in places])
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["queue_first"], self._agent, *columns)
        found = {(Partition(row["topic"], row["partition"]), row["lane"]): _queued(row) for row in rows}
        reply({place: found.get(place) for place in places})

    async def postpone(self, record: Record, *, attempts: int, due_at: datetime) -> None:
        """Have a record that waits be tried again later."""
        with translated():
            place = (self._agent, *record.partition, record.offset)
            await self._pool.execute(_QUERIES["queue_postpone"], *place, attempts, due_at)

    async def settle(self, queued: QueuedRecord) -> None:
        """Take a record off, unless its dead letter is driven again; that is settled, unless it was given up again."""
        await self._gone((queued.record.partition, queued.record.offset, queued.letter))

    async def _remove(self, settled: tuple[_Settled, ...], reply: Reply[_Settled, None]) -> None:
        columns = (*_columns([partition for partition, _, _ in settled]), [offset for _, offset, _ in settled])
        letters = [letter for _, _, letter in settled]
        async with borrowed(self._pool) as connection:
            await connection.execute(_QUERIES["queue_settle"], self._agent, *columns, self._clock.now(), letters)
        reply(dict.fromkeys(settled))

    async def passed(self, record: Record, sequence: int) -> bool:
        """Note that a record of a lane with dead letters is settled; returns whether one is older than it."""
        with translated():
            place = (self._agent, *record.partition, record.lane, record.offset)
            tag = await self._pool.execute(_QUERIES["letters_passed"], *place, sequence)
        return tag != "UPDATE 0"

    async def _heads(self, partitions: Collection[Partition], by: datetime, limit: int | None) -> set[Place]:
        with translated():
            rows = await self._pool.fetch(_QUERIES["queue_heads"], self._agent, *_columns(partitions), by, limit)
        return {(Partition(row["topic"], row["partition"]), row["lane"]) for row in rows}


def _queued(row: asyncpg.Record) -> QueuedRecord:
    names = (name.decode(errors="surrogateescape") for name in row["header_names"])
    headers = tuple(zip(names, row["header_values"], strict=True))
    if row["edited"]:  # the reference is to the data as it was
        headers = tuple((name, value) for name, value in headers if name != "ce_dataref")
    partition = Partition(row["topic"], row["partition"])
    record = Record(partition, row["record_offset"], row["key"], row["value"], headers, row["published_at"])
    about = (row["attempts"], row["due_at"], row["letter"], row["newer_sequence"], bool(row["edited"]))
    return QueuedRecord(record, *about)


def _columns(partitions: Collection[Partition]) -> tuple[list[str], list[int]]:
    return [each.topic for each in partitions], [each.number for each in partitions]
