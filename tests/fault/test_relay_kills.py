"""The relay killed at every place where it waits: readers of committed records see each event once, in order."""

from __future__ import annotations

import asyncio
import gc
import socket
import types
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import suppress
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection

from slotwire.ingest.errors import BrokerUnavailable, DatabaseUnavailable
from slotwire.ingest.local.databases import Database
from tests.support.relay_setup import (
    LoggedEvent,
    RelaySetup,
    committed_records,
    drain,
    ids,
    in_order,
    leading_relay,
    relay_setup,
)

BATCH = 3
MANY = 400
"""More places to die than a take-over and a step have; the test ends when one is not reached any more."""


class Killed(BaseException):
    """The end of a process, as far as one can be played inside another."""


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log, topics and a writer of the test's own."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


@types.coroutine
def _counted(work: Coroutine[Any, Any, Any], place: int, *, cut: bool) -> Generator[Any, Any, bool]:
    """Run work up to its n-th wait and let it die there; if it gets to its end, say whether it waited so often.

    With `cut` its connections and background tasks end and it is never resumed: a killed process. Without, its
    task is cancelled and it may clean up.
    """
    waits = 0
    raised: BaseException | None = None
    while True:
        try:
            future = work.send(None) if raised is None else work.throw(raised)
        except StopIteration:
            return waits >= place
        raised = None
        waits += 1
        if waits == place and cut:
            _cut()
            raise Killed
        if waits == place:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        try:
            yield future
        except BaseException as error:  # noqa: BLE001 - handed on to the work, as the event loop would
            raised = error


async def _dies(work: Coroutine[Any, Any, Any], place: int, *, cut: bool) -> bool:
    """Run work in a task of its own that dies at its n-th wait; say whether it died."""
    task = asyncio.ensure_future(_awaited(work, place, cut=cut))
    await asyncio.wait({task})
    if task.cancelled() or isinstance(task.exception(), Killed | BrokerUnavailable | DatabaseUnavailable):
        return True
    return task.result()  # the library swallows some cancellations


async def _awaited(work: Coroutine[Any, Any, Any], place: int, *, cut: bool) -> bool:
    return await _counted(work, place, cut=cut)


def _cut() -> None:
    """Cut every connection of the relay, and end its background tasks, as the kernel does with a killed process's."""
    for thing in gc.get_objects():
        if isinstance(thing, AIOKafkaConnection) and thing._writer is not None:
            thing._writer.transport.abort()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if "aiokafka" in str(task.get_coro()) or "MessageAccumulator" in str(task.get_coro()):
            task.cancel()


async def _bury(dead: list[Coroutine[Any, Any, int]], broker: int) -> None:
    """Close what the dead left open, by the broker's port: aiokafka forgets a connection whose opening is cancelled.

    All of it, and here: what the collector found later it would report in a test that has nothing to do with it.
    """
    for work in dead:
        with suppress(RuntimeError):  # it would like to clean up
            work.close()
    dead.clear()
    for thing in gc.get_objects():
        if isinstance(thing, AIOKafkaConnection):
            thing.close()
        elif isinstance(thing, asyncio.Transport) and _leads_to(thing.get_extra_info("socket"), broker):
            thing.abort()
    await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next turn
    for thing in gc.get_objects():
        if isinstance(thing, socket.socket) and _leads_to(thing, broker):
            thing.close()
    gc.collect()


def _leads_to(end: Any, port: int) -> bool:
    try:
        return bool(end.getpeername()[1] == port)
    except (OSError, AttributeError, IndexError):
        return False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("cut", [False, True], ids=["cancelled", "killed"])
async def test_a_relay_killed_at_every_await_publishes_each_event_once(setup: RelaySetup, *, cut: bool) -> None:
    """Wherever a leader dies between taking over and passing a batch, its successor leaves no gap and no double."""
    events: list[LoggedEvent] = []
    dead: list[Coroutine[Any, Any, int]] = []
    place = 0
    died = True
    while died:
        place += 1
        assert place < MANY
        batch = [LoggedEvent(key=f"chain-{number}") for number in range(BATCH)]
        events += batch
        await setup.append(*batch)
        async with leading_relay(setup.settings) as (relay, _):
            work = relay.step()
            died = await _dies(work, place, cut=cut)
            if died and cut:
                dead.append(work)
                relay._publisher = None  # the dead do not let go of anything
    async with leading_relay(setup.settings) as (relay, _):
        await drain(relay)
    records = await committed_records(setup.settings, len(events))
    assert ids(records) == [str(event.id) for event in events]
    assert in_order(records)
    assert place > 10  # it did die at many places
    await _bury(dead, int(setup.settings.kafka.bootstrap_servers.rpartition(":")[2]))
