"""After a restore of Postgres: what was published stays published, and the relay goes on by itself.

The cursor in Kafka is then beyond the log. It says that every event the restored log still has was published, since
the relay passes them in their order. So the relay may go on from the log's end, with positions beyond all that were
given away. What came after the backup is not in the log any more: its events are in Kafka, and Calendly sends nothing
twice, so it is fetched again from Calendly's API, under the ids that it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slotwire.ingest.errors import SchemaMismatch
from slotwire.ingest.foundation.postgres import Connection, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.relay.cursor import Cursor, cursor_mismatch, read_cursor
from slotwire.ingest.relay.lease import QUERIES
from slotwire.ingest.relay.log_reader import LogIdentity

FETCH_AGAIN = timedelta(days=1)
"""Meetings that began so long before the last delivery that is left are fetched again, too."""

_SQL = read_queries("slotwire.ingest.sql", "restore.sql")


@dataclass(frozen=True)
class RestoredShard:
    """What became of one shard.

    Attributes:
        published: up to where Kafka has events; None where Kafka has no cursor of this log.
        end: the last position that the restored log has of those.
        resumes: whether the relay goes on from there; if not, its cursor fits as it is, or there is none.
    """

    shard: int
    published: int | None
    end: int
    resumes: bool


@dataclass(frozen=True)
class Restored:
    """What was done after a restore.

    Attributes:
        shards: each shard.
        since: when the last delivery came that is left; None without any.
        organizations: whose meetings `slotwire control` fetches again.
    """

    shards: Sequence[RestoredShard]
    since: datetime | None
    organizations: Sequence[str]


async def after_restore(settings: Settings, connection: Connection, *, now: datetime) -> Restored:
    """Let the relay and `control` go on after a restore. To do it twice does no harm.

    Args:
        settings: Kafka, for its cursor.
        connection: of the owner.
        now: when the cursor's copy is written.

    Raises:
        SchemaMismatch: there is no log.
        BrokerUnavailable: Kafka does not answer. Nothing was changed.
        CursorMismatch: the cursor's record cannot be read, or the log is not an earlier state of what was published.
            Nothing was changed.
    """
    with translated():
        row = await connection.fetchrow(QUERIES["read_identity"])
    if row is None:
        raise SchemaMismatch("the log has not been made", remedy="Restore the backup first, then run this again.")
    log = LogIdentity(row["log_id"], row["shards"])
    cursors = [await read_cursor(settings, shard) for shard in range(log.shards)]
    with translated():
        async with connection.transaction():
            published = max((each.position for each in cursors if each and each.log_id == log.log_id), default=0)
            await connection.execute(_SQL["pass_over_all"], published)
            shards = [await _place(connection, log, shard, cursor, now) for shard, cursor in enumerate(cursors)]
            since, orgs = await connection.fetchval(_SQL["last_accepted"]), []
            if since is not None:
                orgs = [row["org"] for row in await connection.fetch(_SQL["fetch_again"], since - FETCH_AGAIN)]
    return Restored(shards, since, orgs)


async def _place(
    connection: Connection, log: LogIdentity, shard: int, cursor: Cursor | None, now: datetime
) -> RestoredShard:
    if cursor is None or cursor.log_id != log.log_id:
        end = await connection.fetchrow(QUERIES["find_place"], shard, 2**63 - 1)
        return RestoredShard(shard, None, 0 if end is None else end["position"], resumes=False)
    last = await connection.fetchrow(QUERIES["find_place"], shard, cursor.position)
    if last is not None and last["position"] == cursor.position and last["event_id"] != cursor.event_id:
        raise cursor_mismatch(shard, f"another event stands at its position {cursor.position}")
    place = Cursor(log.log_id, shard) if last is None else Cursor(log.log_id, shard, last["position"], last["event_id"])
    resumes = place != cursor
    if resumes:
        await connection.execute(_SQL["resume_from"], shard, log.log_id, place.position, place.event_id, now)
    return RestoredShard(shard, cursor.position, place.position, resumes)
