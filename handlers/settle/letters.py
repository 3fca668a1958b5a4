"""Keeps what an agent gave up in Postgres, where operators list it, edit it, and drive it again.

The topic of dead letters has the same record for everybody else.
"""

from __future__ import annotations

import asyncpg

from slotwire.handlers.outcome import MAX_REASON_CHARACTERS
from slotwire.handlers.records import Record, event_id_of, sequence_of
from slotwire.handlers.settle.dead_letters import MAX_TRACE_CHARACTERS, DeadLetters, GiveUpReason
from slotwire.ingest.foundation.clock import Clock, ordered_id
from slotwire.ingest.foundation.postgres import read_queries, translated

MAX_TEXT = 2_000
"""Characters of a record's type or subject; events of ours have fewer."""
_ORGANIZATIONS = "/organizations/"

_QUERIES = read_queries("slotwire.handlers.sql", "queue.sql")


class KeptLetters:
    """The dead letters of one agent: first a row, then a record, so that what is in the topic can be driven again."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], topic: DeadLetters, *, agent: str, clock: Clock) -> None:
        self._pool = pool
        self._topic = topic
        self._agent = agent
        self._clock = clock

    async def put(self, record: Record, why: GiveUpReason) -> None:
        """Keep a record that is given up, for the first time or again. To put it twice writes it to the topic twice.

        Raises:
            DatabaseUnavailable, SchemaMismatch, ConfigurationError: nothing is kept.
            BrokerUnavailable, RecordRefused: it is not in the topic.
        """
        await self._keep(record, why)
        await self._topic.put(record, why)

    async def _keep(self, record: Record, why: GiveUpReason) -> None:
        now = self._clock.now()
        event_id = event_id_of(record)
        source = _text(record.header("ce_source")) or ""
        about = (
            source.removeprefix(_ORGANIZATIONS) if event_id is not None and source.startswith(_ORGANIZATIONS) else None,
            event_id,
            _text(record.header("ce_type")) if event_id is not None else None,
            _text(record.header("ce_subject")) if event_id is not None else None,
            sequence_of(record) if event_id is not None else None,
        )
        with translated():
            await self._pool.execute(
                _QUERIES["letter_put"],
                *(ordered_id(now), self._agent, *record.partition, record.offset, record.lane, *about),
                *(record.key, record.value),
                [name.encode(errors="surrogateescape") for name, _ in record.headers],
                [value for _, value in record.headers],
                *(record.published_at, now, _clean(why.reason)[:MAX_REASON_CHARACTERS], why.attempts),
                _clean(why.trace)[:MAX_TRACE_CHARACTERS],
            )


def _text(value: bytes | None) -> str | None:
    return None if value is None else _clean(value.decode(errors="replace"))[:MAX_TEXT]


def _clean(text: str) -> str:
    """Replace what Postgres cannot keep as text."""
    return text.replace("\x00", "�").encode(errors="replace").decode()
