"""A consumer of aiokafka's, used with care: what it raises, how it closes, and its records.

The workarounds for its known faults are here and in member.py; docs/explanation/consumers.md lists them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiokafka import ConsumerRecord, TopicPartition

from slotwire.handlers.consume.placement import offsets_lost
from slotwire.handlers.records import Partition, Record
from slotwire.ingest.foundation.errors import BrokerUnavailable, RecordRefused
from slotwire.ingest.foundation.kafka import translated

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

CLOSE_TIMEOUT_SECONDS = 5.0

_GONE = "offset_out_of_range"
"""aiokafka's error where no records are left at our place."""
NOT_PLACED = "no_offset_for_partition"
"""Its error where the group has no offset: of a partition that is not ready yet."""


async def close_consumer(consumer: Any, log: FilteringBoundLogger) -> None:
    """Close a consumer, whatever state it is in.

    `stop()` runs in a task of its own: while the broker is away it can raise a CancelledError of its own (it cancels
    its fetches and then awaits one that sleeps), which would cancel the task that awaits it.
    """
    closing = asyncio.create_task(consumer.stop(), name="closing a consumer")
    await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_SECONDS)
    if closing.done() and not closing.cancelled() and closing.exception() is None:
        return
    closing.cancel()
    await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_SECONDS)
    log.info("leaving_failed")
    # A second `stop()` does nothing, and the first one has not closed its connections.
    letting_go = asyncio.create_task(consumer._client.close())  # noqa: SLF001 - no public way, see above
    await asyncio.wait({letting_go}, timeout=CLOSE_TIMEOUT_SECONDS)
    for task in (closing, letting_go):
        if task.done() and not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not warn


@contextmanager
def readable(agent: str, topics: Sequence[str]) -> Iterator[None]:
    """Hold where the client cannot take a batch apart, or where there is nothing at our place any more.

    Raises:
        BrokerUnavailable: naming what is wrong; whatever the client can take apart costs one record at most.
    """
    try:
        yield
    except BrokerUnavailable as error:
        if error.reason != _GONE:
            raise
        gone = "the records that come next are gone, older than Kafka keeps them,"
        raise offsets_lost(agent, " or ".join(topics), gone) from error
    except Exception as error:
        what = error.reason if isinstance(error, RecordRefused) else type(error).__name__
        raise BrokerUnavailable(
            f"Kafka has a batch of records that cannot be read: {what}",
            reason="unreadable",
            remedy="Set the group's offset past it, as docs/runbooks/agent-stopped.md says.",
        ) from error


def records_from(partition: Partition, records: Iterable[ConsumerRecord]) -> Iterator[Record]:
    """Return a partition's records as ours."""
    for each in records:
        yield Record(partition, each.offset, each.key, each.value, tuple(each.headers), _published(each.timestamp))


def _published(timestamp: int) -> datetime:
    """Read a record's timestamp, in milliseconds; any producer sets it, so one out of range counts as the epoch."""
    try:
        return datetime.fromtimestamp(timestamp / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


async def committed_before(
    consumer: Any, partitions: Collection[Partition], seconds: float
) -> dict[Partition, tuple[int, str]]:
    """Return what earlier members have committed: offsets, and what was settled behind them.

    Raises:
        BrokerUnavailable: it did not answer within so many seconds.
    """
    places = [TopicPartition(*partition) for partition in partitions]
    with translated():
        async with asyncio.timeout(seconds):
            # The public `committed()` leaves out what was written beside an offset.
            found = await consumer._coordinator.fetch_committed_offsets(places)  # noqa: SLF001 - see above
    return {Partition(*place): (at.offset, at.metadata) for place, at in found.items()}


async def is_set(event: asyncio.Event) -> None:
    """Wait until an event is set."""
    await event.wait()


async def first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Run all concurrently until one ends or fails, then cancel the others. A failure is raised as it is."""
    tasks = [asyncio.create_task(item) for item in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        if task.cancelled():  # by aiokafka, see `close_consumer`
            raise BrokerUnavailable("Kafka's client cancelled a wait", reason="client_state")
        task.result()
