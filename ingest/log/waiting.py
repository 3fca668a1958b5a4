"""Waiting: what came without its counterpart, and does not stay unseen for ever.

A clear that names no mark waits for one at or before its time; after a while it is published under its own
second. Half of a reschedule waits for the other half; after a while it is counted. Both are still joined when
the counterpart comes late (docs/explanation/ordering-and-identity.md).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from slotwire.ingest.errors import RowRefused, SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated
from slotwire.ingest.foundation.settings import WaitingSettings
from slotwire.ingest.foundation.telemetry import WAITING, get_logger
from slotwire.ingest.log.batch import Batch, OverdueClear, read_row
from slotwire.ingest.log.normalize import InviteeEvent, InviteeFact, normalize
from slotwire.ingest.receive.verify import Tenant, VerifiedDelivery, verified_before

PAGE = 100
"""Clears read at a time: their bodies are in memory together."""

_SQL = read_queries("slotwire.ingest.sql", "waiting.sql")
_STORE = read_queries("slotwire.ingest.sql", "store.sql")
_START = ("", UUID(int=0))
_log = get_logger("waiting")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one round found.

    Attributes:
        published: clears published under their own second.
        clears: bookings that wait too long for the mark of a clear all the same: their bodies cannot be read.
        reschedules: bookings that wait too long for the other half of a reschedule.
    """

    published: int
    clears: int
    reschedules: int


async def run(pool: Pool, settings: WaitingSettings, clock: Clock) -> None:
    """Look again and again, for ever. A round that fails is logged, and the next one does its work."""
    while True:
        try:
            await run_once(pool, settings, now=clock.now())
        except SlotwireError as problem:
            _log.warning("round_failed", error=problem.message)
        await asyncio.sleep(settings.interval_seconds)


async def run_once(pool: Pool, settings: WaitingSettings, *, now: datetime) -> Waiting:
    """Publish the clears that have waited long enough, and count what waits on.

    Several processes may do so at once: who comes second finds the booking changed, or the event's id taken.

    Raises:
        DatabaseUnavailable: some clears may be published; the next round does the rest.
    """
    before = now - timedelta(seconds=settings.publish_after_seconds)
    published, after = 0, _START
    with translated():
        async with pool.acquire() as connection:
            while rows := await connection.fetch(_SQL["overdue_clears"], before, *after, PAGE):
                for row in rows:
                    published += await _publish(connection, row["invitee"], _delivery(row), now)
                after = (rows[-1]["invitee"], rows[-1]["id"])
            found = await connection.fetchrow(_SQL["count_waiting"], before)
    if found is None:  # pragma: no cover - a count gives one row
        raise AssertionError
    waiting = Waiting(published, found["clears"], found["reschedules"])
    WAITING.labels("clear").set(waiting.clears)
    WAITING.labels("reschedule").set(waiting.reschedules)
    return waiting


async def _publish(connection: Connection, invitee: str, delivery: VerifiedDelivery, now: datetime) -> bool:
    """Publish one clear; return whether it was, and not its mark or another process quicker."""
    fact = normalize(delivery)
    if not isinstance(fact, InviteeFact) or fact.event is not InviteeEvent.NO_SHOW_DELETED:
        _log.error("clear_unreadable", delivery=str(delivery.id))
        return False
    rows = await connection.fetch(_STORE["read_bookings"], [invitee])
    batch = Batch([OverdueClear(fact)], {row["invitee"]: read_row(dict(row)) for row in rows})
    if not batch.events:
        return False
    arguments = batch.arguments(shard=delivery.tenant.shard, now=now, kept=True)
    try:
        with translated():
            answer = await connection.fetchrow(_STORE["append_batch"], *arguments)
    except RowRefused as refused:
        _log.error("clear_refused", delivery=str(delivery.id), sqlstate=refused.sqlstate)
        return False
    return answer is not None and not answer["conflicts"]


def _delivery(row: Any) -> VerifiedDelivery:
    tenant = Tenant(row["organization"], row["org"], row["shard"], row["external_id"], row["subscription_id"])
    return verified_before(
        row["id"],
        tenant,
        row["body"],
        received_at=row["received_at"],
        signed_at=row["signed_at"],
        traceparent=row["traceparent"],
    )
