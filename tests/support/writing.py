"""The writer in a test's hand: what was accepted becomes events when the test says so, or beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from slotwire.ingest.foundation.clock import Clock, SystemClock
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.log.delivery import Delivery, Origin, Tenant
from slotwire.ingest.log.writer import Appended, Writer

TENANT = Tenant("https://api.calendly.com/organizations/ORGANIZATION", "ORGANIZATION", None)
ARRIVED = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
SECONDS = 60.0
"""No wait of these tests is longer."""


DELIVERIES = """
(SELECT d.*, coalesce(r.outcome, 'accepted') AS outcome, r.event_id, r.event_name
 FROM slotwire.deliveries d LEFT JOIN slotwire.results r ON r.shard = d.shard AND r.position = d.position)
"""
"""Deliveries with what became of them, to select from."""


def accepted(body: bytes, *, position: int = 1, tenant: Tenant = TENANT, origin: Origin = Origin.WEBHOOK) -> Delivery:
    """Make a delivery as the writer reads it."""
    return Delivery(
        position=position,
        total=position * 1_000,
        id=UUID(int=position),
        tenant=tenant,
        origin=origin,
        form=origin,
        stale=False,
        content_encoding="",
        received_at=ARRIVED,
        signed_at=ARRIVED,
        traceparent=None,
        body=body,
    )


async def all_overdue(writer: Writer, before: datetime) -> list[Appended]:
    """Publish every clear that has waited since before a moment, page after page."""
    return [each async for page in writer.publish_overdue(before) for each in page]


async def write_all(settings: Settings, *, clock: Clock | None = None, overdue_after: timedelta | None = None) -> int:
    """Write everything that was accepted; return how many events were appended.

    Args:
        settings: of any process.
        clock: the time.
        overdue_after: publish the clears that have waited so long, too.
    """
    clock = clock or SystemClock()
    writer = Writer(settings, 0, clock)
    written: list[Appended] = []
    try:
        async with asyncio.timeout(SECONDS):
            await writer.take_over()
            while appended := await writer.step():
                written += appended
            if overdue_after is not None:
                written += await all_overdue(writer, clock.now() - overdue_after)
            await writer.leave()
    finally:
        await writer.close()
    return sum(len(each.rows) for each in written)


@asynccontextmanager
async def writing(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[None]:
    """Write whatever is accepted while the block runs."""
    writer = Writer(settings, 0, clock or SystemClock())
    await writer.take_over()

    async def run() -> None:
        while True:
            if not await writer.step():
                await asyncio.sleep(0.01)  # another process gives no signal here

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await writer.close()
        if not task.cancelled() and task.exception() is not None:
            task.result()


async def until_written(url: str) -> None:
    """Wait until everything that is accepted is settled, whoever writes it."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(SECONDS):
            while await connection.fetchval(_WAITING):  # noqa: ASYNC110 - another process gives no signal here
                await asyncio.sleep(0.01)
    finally:
        await connection.close()


_WAITING = """
SELECT EXISTS (SELECT FROM slotwire.deliveries d WHERE NOT EXISTS (
    SELECT FROM slotwire.results r WHERE r.shard = d.shard AND r.position = d.position))
"""
