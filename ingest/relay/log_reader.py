"""The relay's side of Postgres: the next events of a shard, as records; the cursor's mirror; parked events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from slotwire.ingest.errors import ConfigurationError, SchemaMismatch
from slotwire.ingest.foundation.event_rows import attributes_of
from slotwire.ingest.foundation.kafka import full_name
from slotwire.ingest.foundation.migrations import require_fitting
from slotwire.ingest.foundation.postgres import Connection, connect, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.relay.cursor import Cursor, cursor_mismatch
from slotwire.ingest.relay.lease import QUERIES, Lease
from slotwire.ingest.relay.publisher import OutgoingRecord
from slotwire.schemas.codec import encode_headers
from slotwire.schemas.events import BY_TYPE

BATCH_BYTES = 4_194_304
"""Data one transaction carries at the most, unless one event alone is larger."""
LAG_LIMIT = 100_000
"""Waiting events are counted up to here: the metric then says "at least"."""
FRAMING_BYTES = 256
"""What a record costs beside its key, value and headers, at the most: lengths, and its batch's header."""
HEADER_BYTES = 8
"""What a header costs beside its name and value, at the most."""


@dataclass(frozen=True)
class LogIdentity:
    """Which log this is.

    Attributes:
        log_id: made with the log.
        shards: how many it has, for ever.
    """

    log_id: UUID
    shards: int


@dataclass(frozen=True)
class LogEntry:
    """An event of the log, ready to be sent.

    Attributes:
        elsewhere: whether its data stays behind, with a reference in its place.
        traceparent: the trace of its delivery.
    """

    position: int
    event_id: UUID
    type: str
    record: OutgoingRecord
    elsewhere: bool
    traceparent: str | None = None


async def read_identity(settings: Settings) -> LogIdentity:
    """Ask which log the database holds.

    Raises:
        SchemaMismatch: none yet, or its schema is not one that this version works on.
        DatabaseUnavailable: Postgres is out of reach.
    """
    dsn = settings.database_url.get_secret_value()
    connection = await connect(dsn, settings.database, application="relay")
    try:
        await require_fitting(connection)
        with translated():
            row = await connection.fetchrow(QUERIES["read_identity"])
    finally:
        await connection.close()
    if row is None:
        raise SchemaMismatch("the log has not been made", remedy="Run `slotwire migrate`.")
    return LogIdentity(row["log_id"], row["shards"])


async def read_entries(lease: Lease, settings: Settings, after: int, limit: int) -> Sequence[LogEntry]:
    """Read the shard's next events.

    Args:
        lease: the shard's.
        settings: the limit of a record's size, and the topics' prefix.
        after: the position that was passed last.
        limit: how many at the most.

    Raises:
        SchemaMismatch: the next event is of a type this version does not know; those before it come first.
    """
    async with lease.session() as connection:
        rows = await connection.fetch(
            QUERIES["read_batch"], lease.shard, after, limit, BATCH_BYTES, settings.relay.max_record_bytes
        )
    entries: list[LogEntry] = []
    for row in rows:
        if row["type"] not in BY_TYPE:
            if entries:
                break
            raise SchemaMismatch(
                f"the log holds an event of type {row['type']}, which this version does not know",
                remedy="Run a relay that is at least as new as the processes that write the log.",
            )
        entries.append(entry_of(settings, {**row, "id": row["event_id"]}))
    return entries


def entry_of(settings: Settings, row: Mapping[str, Any]) -> LogEntry:
    """Make the record of an event; data that would make it too large is referred to instead."""
    key = row["key"].encode()
    headers = encode_headers(attributes_of(row, row["id"]))
    value = row["data"]
    fixed = FRAMING_BYTES + len(key) + sum(HEADER_BYTES + len(name) + len(item) for name, item in headers)
    elsewhere = value is None or fixed + len(value) > settings.relay.max_record_bytes
    if elsewhere:
        headers = encode_headers(attributes_of(row, row["id"], dataref=f"/v1/events/{row['id']}"))
        value = b""
    topic = full_name(settings.kafka, BY_TYPE[row["type"]].topic)
    return LogEntry(
        row["position"],
        row["id"],
        row["type"],
        OutgoingRecord(topic, key, value, headers),
        elsewhere,
        row["traceparent"],
    )


async def require_place(lease: Lease, cursor: Cursor | None, log: LogIdentity) -> Cursor:
    """Check that a cursor fits the log; without one, that nothing says there was one.

    Returns:
        The cursor to go on from.

    Raises:
        CursorMismatch: the log was restored or replaced, or the cursor was lost.
    """
    async with lease.session() as connection:
        return await _place(connection, lease.shard, cursor, log)


async def fitting_place(settings: Settings, shard: int, cursor: Cursor | None, log: LogIdentity) -> Cursor:
    """Do as `require_place`, without leading the shard.

    Raises:
        CursorMismatch: see `require_place`.
        DatabaseUnavailable: Postgres is out of reach.
    """
    connection = await connect(settings.database_url.get_secret_value(), settings.database, application="relay")
    try:
        with translated():
            return await _place(connection, shard, cursor, log)
    finally:
        await connection.close()


async def _place(connection: Connection, shard: int, cursor: Cursor | None, log: LogIdentity) -> Cursor:
    if cursor is None:
        mirror = await connection.fetchrow(QUERIES["read_mirror"], shard)
        if mirror is not None and mirror["position"] > 0:
            why = f"it is gone from Kafka, and Postgres remembers it at {mirror['position']}"
            raise cursor_mismatch(shard, why)
        return Cursor(log.log_id, shard)
    if cursor.log_id != log.log_id:
        raise cursor_mismatch(shard, "it belongs to another log")
    if cursor.position == 0:
        return cursor
    event_id = await connection.fetchval(QUERIES["read_event_id"], shard, cursor.position)
    if event_id is None:
        raise cursor_mismatch(shard, f"there is no event at its position {cursor.position}")
    if event_id != cursor.event_id:
        raise cursor_mismatch(shard, f"another event stands at its position {cursor.position}")
    return cursor


@dataclass(frozen=True)
class CursorFrom:
    """Where an operator wants the relay to go on if its cursor does not fit the log.

    Attributes:
        place: `mirror`, `beginning`, or a position.
        skip: how many unpublished events may be left out at the most, as the operator has confirmed.
    """

    place: str
    skip: int = 0


async def chosen_place(lease: Lease, log: LogIdentity, choice: CursorFrom, found: Cursor | None) -> Cursor:
    """Find the cursor an operator chose with `--cursor-from`.

    Args:
        lease: the shard's.
        log: the log.
        choice: the place.
        found: the cursor in Kafka, which does not fit.

    Raises:
        ConfigurationError: there is no such place in this log, or it leaves out more than was confirmed.
    """
    start = Cursor(log.log_id, lease.shard)
    if choice.place == "beginning":
        return start
    mirror = await _read_mirror(lease, log)
    if choice.place == "mirror":
        if mirror is None:
            raise ConfigurationError(
                f"Postgres remembers no cursor of shard {lease.shard} in this log",
                remedy="Use --cursor-from POSITION or --cursor-from beginning.",
            )
        return mirror
    position = int(choice.place)
    # A cursor of this log tells what was published, wherever the log ends now; the mirror may lag behind it.
    published = (found if found is not None and found.log_id == log.log_id else mirror or start).position
    async with lease.session() as connection:
        end = await connection.fetchval(QUERIES["read_end"])
        if position > end:
            raise ConfigurationError(
                f"the log ends at position {end}, before {position}",
                remedy=f"Use --cursor-from {end} to go on with what comes next, or a smaller position.",
            )
        skipped = await connection.fetchval(QUERIES["count_unpublished"], lease.shard, published, position)
        if skipped > choice.skip:
            raise ConfigurationError(
                f"{skipped} events of shard {lease.shard} up to position {position} were never published, and would be"
                " left out",
                remedy=f"Use --cursor-from {published} to publish them. To leave them out, add --skip {skipped}.",
            )
        row = await connection.fetchrow(QUERIES["find_place"], lease.shard, position)
    return start if row is None else start.after(row["position"], row["event_id"])


async def resumed_place(lease: Lease, log: LogIdentity) -> Cursor | None:
    """Return where the relay goes on after a restore, if `slotwire migrate --after-restore` has noted it."""
    return await _read_mirror(lease, log, only_if_resumes=True)


async def _read_mirror(lease: Lease, log: LogIdentity, *, only_if_resumes: bool = False) -> Cursor | None:
    async with lease.session() as connection:
        mirror = await connection.fetchrow(QUERIES["read_mirror"], lease.shard)
    if mirror is None or mirror["log_id"] != log.log_id or (only_if_resumes and not mirror["resumes"]):
        return None
    return Cursor(log.log_id, lease.shard, mirror["position"], mirror["event_id"])


async def pass_over_positions(lease: Lease, published: int) -> None:
    """Let the log go on beyond a position that was published, wherever the cursor goes back to."""
    async with lease.session() as connection:
        await connection.execute(QUERIES["pass_over_positions"], published)


async def write_mirror(lease: Lease, cursor: Cursor, now: datetime) -> None:
    """Copy the cursor to Postgres: for pruning, dashboards and lag; nothing resumes from it silently."""
    async with lease.session() as connection:
        await connection.execute(
            QUERIES["write_mirror"], lease.shard, cursor.log_id, cursor.position, cursor.event_id, now
        )


async def park(lease: Lease, entry: LogEntry, reason: str, now: datetime) -> None:
    """Keep note of an event the broker refuses; committed when this returns."""
    async with lease.session() as connection:
        await connection.execute(QUERIES["park_event"], entry.event_id, lease.shard, entry.position, reason, now)


async def read_lag(lease: Lease, after: int | None) -> tuple[int, datetime | None]:
    """Count the events that wait, up to `LAG_LIMIT`, and say since when the oldest does.

    Args:
        lease: the shard's.
        after: the cursor's position; None asks its mirror, because the cursor cannot be read yet.
    """
    async with lease.session() as connection:
        if after is None:
            mirror = await connection.fetchrow(QUERIES["read_mirror"], lease.shard)
            after = 0 if mirror is None else mirror["position"]
        row = await connection.fetchrow(QUERIES["read_lag"], lease.shard, after, LAG_LIMIT)
    return (0, None) if row is None else (row["events"], row["since"])
