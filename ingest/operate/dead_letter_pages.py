"""Dead letters as operators see them: the records that agents gave up.

To drive one again puts its record into the agent's queue, where it waits for the work of its key that runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slotwire.ingest.errors import RequestRefused, RowRefused
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.operate.agent_filter import AgentFilter

if TYPE_CHECKING:
    import asyncpg

_SQL = read_queries("slotwire.ingest.sql", "dead_letters.sql")
_STATES = ["discarded", "open", "queued", "settled"]


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A dead letter.

    Attributes:
        id: its id.
        agent: who gave it up.
        record: topic, partition and offset of its record.
        org: of its event; None, like the four that follow, where it is no event.
        event_id: of its event.
        type: of its event.
        subject: the resource of its event.
        sequence: the position of its event in the log.
        at: when it was given up, last.
        times: how often it was given up.
        reason: why, without personal data.
        attempts: runs that counted; 0 when no handler ran.
        newer: the newest position of its key that the agent has done since.
        edited_at: when its data was edited.
        edited_by: who edited it.
        state: `open`, `queued`, `settled` or `discarded`.
        changed_at: since when.
        note: why it was discarded.
        value_bytes: how long its data is.
    """

    id: UUID
    agent: str
    record: tuple[str, int, int]
    org: str | None
    event_id: UUID | None
    type: str | None
    subject: str | None
    sequence: int | None
    at: datetime
    times: int
    reason: str
    attempts: int
    newer: int | None
    edited_at: datetime | None
    edited_by: str | None
    state: str
    changed_at: datetime
    note: str | None
    value_bytes: int


@dataclass(frozen=True, slots=True)
class LetterContent:
    """What a dead letter holds, personal data included.

    Attributes:
        trace: where it failed: modules, lines and functions.
        key: the record's key.
        headers: the record's headers.
        value: its data.
        edited: the data that an operator put in its place.
    """

    trace: str
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None
    edited: bytes | None


async def read_page(pool: Pool, only: AgentFilter, *, before: UUID | None, limit: int) -> list[LetterRow]:
    """Read dead letters before a place, newest first, without what they hold."""
    states = _STATES if only.state is None else [only.state]
    with translated():
        rows = await pool.fetch(_SQL["dead_letters_page"], before, only.org, only.agent, states, limit)
    return [_row(row) for row in rows]


async def read_one(pool: Pool, letter: UUID, org: str | None) -> tuple[LetterRow, LetterContent] | None:
    """Read one dead letter with what it holds; None when it is not within reach."""
    with translated():
        row = await pool.fetchrow(_SQL["dead_letter"], letter, org)
    if row is None:
        return None
    names = (name.decode(errors="replace") for name in row["header_names"])
    headers = tuple(zip(names, row["header_values"], strict=True))
    return _row(row), LetterContent(row["trace"], row["key"], headers, row["value"], row["edited_value"])


async def open_ids(pool: Pool, agent: str, org: str | None, reason: str | None, *, limit: int) -> list[UUID]:
    """Read which dead letters of an agent may be driven again, in the order they were given up."""
    with translated():
        rows = await pool.fetch(_SQL["open_letters"], agent, org, reason, limit)
    return [row["id"] for row in rows]


async def redrive(
    pool: Pool, letters: Sequence[UUID], org: str | None, *, older: bool, room: int, now: datetime
) -> set[UUID]:
    """Drive dead letters again, in the order of each key; returns those that wait for their agents now.

    Args:
        pool: the database.
        letters: which.
        org: of one organization; None for all.
        older: whether also those that are older than what their agents have done since.
        room: how many records may wait for an agent.
        now: the time.

    Raises:
        RequestRefused: an agent's queue has no room for its letters (`queue_full`); none is driven again.
    """
    try:
        with translated():
            rows = await pool.fetch(_SQL["redrive_letters"], now, list(letters), org, older, room)
    except RowRefused:
        raise RequestRefused(
            f"the agent's queue has no room for them: at most {room} events wait",
            code="queue_full",
            remedy="Wait until the agent has done what waits, or drive fewer again.",
        ) from None
    return {row[0] for row in rows}


async def drop_journals(pool: Pool, letters: Sequence[UUID], org: str | None) -> int:
    """Forget what the runs of dead letters have done so far: steps that ended run once more. Returns how many."""
    with translated():
        gone: int = await pool.fetchval(_SQL["drop_journals"], list(letters), org)
    return gone


async def edit(pool: Pool, letter: UUID, org: str | None, value: bytes, *, by: str, now: datetime) -> bool:
    """Give a dead letter other data; that of the record stays. Returns whether it could be edited."""
    with translated():
        done: bool | None = await pool.fetchval(_SQL["edit_letter"], letter, org, value, now, by)
    return done is not None


async def discard(
    pool: Pool, letters: Sequence[UUID], org: str | None, why: str, *, older_only: bool, now: datetime
) -> set[UUID]:
    """Mark dead letters as not wanted, all or only older ones; what they hold stays. Returns which."""
    with translated():
        rows = await pool.fetch(_SQL["discard_letters"], list(letters), org, now, why, older_only)
    return {row["id"] for row in rows}


def _row(row: asyncpg.Record) -> LetterRow:
    fields: dict[str, Any] = {name: row[name] for name in LetterRow.__slots__ if name in row}
    return LetterRow(
        record=(row["topic"], row["partition"], row["record_offset"]),
        newer=row["newer_sequence"],
        value_bytes=row["bytes"],
        **fields,
    )
