"""The leader killed at every place where it waits: log, bookings, results and Kafka agree afterwards."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any

import orjson
import pytest
from aiokafka.conn import AIOKafkaConnection

from slotwire.ingest.errors import BrokerUnavailable, DatabaseUnavailable
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.writer import Writer
from slotwire.ingest.relay.handoff import Handoff
from slotwire.ingest.relay.shard import ShardRelay
from tests.support.door import add_organization, let_in
from tests.support.dying import Killed, dying
from tests.support.public_endpoint import invitee_body, new_invitee
from tests.support.relay_setup import (
    RelaySetup,
    committed_records,
    drain,
    ids,
    in_order,
    leading_relay,
    relay_setup,
)
from tests.support.writing import write_all

MANY = 400
"""More places to die than a leader's turn has; the test ends when one is not reached any more."""


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log, topics and a writer of the test's own."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


async def _dies(work: Coroutine[Any, Any, Any], place: int, *, cut: bool) -> bool:
    """Run work in a task of its own that dies at its n-th wait; say whether it died."""
    task = asyncio.ensure_future(dying(work, place, cut=_cut if cut else None))
    await asyncio.wait({task})
    if task.cancelled() or isinstance(task.exception(), Killed | BrokerUnavailable | DatabaseUnavailable):
        return True
    return task.result() >= place  # the library swallows some cancellations


def _cut() -> None:
    """Cut every connection of the relay, and end its background tasks, as the kernel does with a killed process's."""
    for thing in gc.get_objects():
        if isinstance(thing, AIOKafkaConnection) and thing._writer is not None:
            thing._writer.transport.abort()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if "aiokafka" in str(task.get_coro()) or "MessageAccumulator" in str(task.get_coro()):
            task.cancel()


_TRANSPORT = "_transport"  # asyncpg's own name: no public one tells which socket is a connection's


async def _bury(dead: list[Coroutine[Any, Any, int]], setup: RelaySetup) -> None:
    """Close what the dead left open at both servers: a connection whose opening is cancelled is forgotten.

    All of it, and here: what the collector found later it would report in a test that has nothing to do with it.
    """
    for work in dead:
        with suppress(RuntimeError):  # it would like to clean up
            work.close()
    dead.clear()
    living = {getattr(each, _TRANSPORT).get_extra_info("sockname") for each in (setup.owner, setup.writer)}
    for thing in gc.get_objects():
        if isinstance(thing, AIOKafkaConnection):
            thing.close()
        elif isinstance(thing, asyncio.Transport) and _is_left(thing.get_extra_info("socket"), living):
            thing.abort()
    await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next turn
    for thing in gc.get_objects():
        if isinstance(thing, socket.socket) and _is_left(thing, living):
            thing.close()
    gc.collect()


def _is_left(end: Any, living: set[Any]) -> bool:
    """Tell whether a socket leads to a server and belongs to nobody who lives."""
    try:
        return bool(end.getpeername()[1]) and end.getsockname() not in living
    except (OSError, AttributeError, IndexError):
        return False


async def _lead(writer: Writer, relay: ShardRelay, handoff: Handoff) -> int:
    """Take over, write what was accepted, publish it: everything a leader waits for."""
    handoff.begin((await writer.take_over()).last_event)
    while appended := await writer.step():
        for each in appended:
            handoff.add(each)
    published = 0
    while passed := await relay.step():
        published += passed
    return published


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("cut", "stride"),
    [
        pytest.param(False, 1, id="cancelled"),
        pytest.param(True, 2, id="killed"),
        pytest.param(True, 1, id="killed everywhere", marks=pytest.mark.soak),
    ],
)
async def test_a_leader_killed_at_its_awaits_leaves_no_gap_and_no_double(
    setup: RelaySetup, *, cut: bool, stride: int
) -> None:
    """Wherever it dies between its epoch and its cursor, its successor finds deliveries settled or not, never half."""
    await add_organization(setup.owner)
    invitees: list[str] = []
    dead: list[Coroutine[Any, Any, int]] = []
    place = 0
    died = True
    while died:
        place += stride
        assert place < MANY
        invitees.append(new_invitee())
        names = ("invitee.created", "invitee.canceled", "invitee.canceled")
        await let_in(setup.owner, *(invitee_body(name, invitee=invitees[-1]) for name in names))
        handoff, writer = Handoff(), Writer(setup.settings, 0, SystemClock())
        async with leading_relay(setup.settings, handoff=handoff) as (relay, _):
            work = _lead(writer, relay, handoff)
            died = await _dies(work, place, cut=cut)
            if died and cut:
                dead.append(work)
                relay._publisher = None  # the dead do not let go of anything
            await writer.close()
        await write_all(setup.settings)  # or three deaths at one delivery would quarantine it
    handoff, writer = Handoff(), Writer(setup.settings, 0, SystemClock())
    async with leading_relay(setup.settings, handoff=handoff) as (relay, _):
        await _lead(writer, relay, handoff)
        await drain(relay)
    await writer.close()
    await _agree(setup, invitees)
    sys.stderr.write(f"died at {len(invitees) - 1} places, {3 * len(invitees)} deliveries\n")
    assert place > 25  # it did die at many places
    await _bury(dead, setup)


async def _agree(setup: RelaySetup, invitees: list[str]) -> None:
    """Compare the log, bookings, results and Kafka with what was let in: a booking, its end, its end again."""
    outcomes = await setup.owner.fetch("SELECT outcome, event_id FROM slotwire.results ORDER BY position")
    assert [row["outcome"] for row in outcomes] == ["stored", "stored", "duplicate"] * len(invitees)
    log = await setup.owner.fetch("SELECT event_id, subject, type, data FROM slotwire.events ORDER BY position")
    assert [row["subject"] for row in log] == [uri for uri in invitees for _ in range(2)]
    assert [row["event_id"] for row in outcomes] == [
        row["event_id"] for pair in zip(log[::2], log[1::2], strict=True) for row in (*pair, pair[1])
    ]
    bookings = await setup.owner.fetch("SELECT invitee, state, revision FROM slotwire.bookings")
    assert {row["invitee"]: (row["state"], row["revision"]) for row in bookings} == dict.fromkeys(
        invitees, ("canceled", 2)
    )
    assert [orjson.loads(row["data"])["booking"]["revision"] for row in log] == [1, 2] * len(invitees)
    records = await committed_records(setup.settings, len(log))
    assert ids(records) == [str(row["event_id"]) for row in log]
    assert in_order(records)
