"""Leaders that sleep, brokers that die: the fence at the broker, and the way back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from slotwire.ingest.errors import BrokerUnavailable, DatabaseUnavailable
from slotwire.ingest.foundation import kafka
from slotwire.ingest.foundation.health import Health
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from slotwire.ingest.relay import publisher
from slotwire.ingest.relay.lease import LEASE_SECONDS, QUERIES
from tests.support.children import environment, process
from tests.support.relay_setup import (
    DEADLINE_SECONDS,
    LoggedEvent,
    RelaySetup,
    committed_records,
    drain,
    ids,
    in_order,
    leading_relay,
    relay_setup,
    running_relay,
    until,
)

RESTARTED_SECONDS = 120
"""How long a broker that was killed may take until it serves again, on a machine that has other work."""
EVENTS = 1_500


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log, topics and a writer of the test's own."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


async def _end_leases(setup: RelaySetup) -> None:
    """End the leader's session, as the server does with one that gives no sign of life."""
    await setup.writer.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name IN ('slotwire-lease', 'slotwire-relay') AND datname = current_database()"
    )


async def test_a_leader_that_wakes_up_cannot_publish(setup: RelaySetup) -> None:
    """It lost its lease in its sleep and a successor leads: the broker refuses it, and nothing comes twice."""
    events = [LoggedEvent() for _ in range(4)]
    await setup.append(*events[:2])
    async with leading_relay(setup.settings) as (sleeper, _):
        assert await drain(sleeper) == 2
        publisher, cursor = await sleeper._take_over()
        await _end_leases(setup)
        await setup.append(*events[2:])
        async with leading_relay(setup.settings) as (successor, _):
            assert await drain(successor) == 2
            # Its whole next transaction, from where it believes to be, however it got there.
            with pytest.raises(BrokerUnavailable):
                await publisher.publish([], cursor)
            assert await drain(successor) == 0
            await setup.append(LoggedEvent())
            assert await drain(successor) == 1
    assert len(await committed_records(setup.settings, 5)) == 5


async def test_a_leader_that_wakes_up_does_not_fence_its_successor(setup: RelaySetup) -> None:
    """Before it opens another producer it asks for its lease, finds it gone, and leaves the successor alone."""
    async with leading_relay(setup.settings) as (sleeper, _):
        await drain(sleeper)
        await sleeper.let_go()
        await _end_leases(setup)
        async with leading_relay(setup.settings) as (successor, _):
            await drain(successor)
            with pytest.raises(DatabaseUnavailable):
                await sleeper.step()
            await setup.append(LoggedEvent())
            assert await successor.step() == 1


async def test_losing_postgres_stops_it_leading_at_once(setup: RelaySetup) -> None:
    """The lease's connection is cut: the process takes a new lease and goes on, and each event comes once."""
    async with running_relay(setup.settings):
        await setup.accept(3)
        await committed_records(setup.settings, 3)
        await _end_leases(setup)
        await setup.accept(3)
        records = await committed_records(setup.settings, 6)
    assert ids(records) == await setup.log_ids()


async def test_a_dead_broker_is_waited_out(setup: RelaySetup, breakable_stack: Stack) -> None:
    """`kill -9` of the broker in the middle of the work: after its restart all events are there, each once."""
    async with running_relay(setup.relay(batch_events=50, transaction_timeout_seconds=5)) as health:
        await setup.accept(EVENTS // 2)
        await committed_records(setup.settings, 50)
        await breakable_stack.kafka.kill()
        await setup.accept(EVENTS // 2)

        async def told() -> bool:
            return "relay" in await health.problems()

        await until(told)
        await breakable_stack.kafka.restart()
        # Read after that only: a reader that begins while the broker recovers is one more that could wait for it.
        await until(lambda: _published(setup), seconds=RESTARTED_SECONDS)
        records = await committed_records(setup.settings, EVENTS)
    assert ids(records) == await setup.log_ids()
    assert in_order(records)


async def test_a_dead_postgres_is_waited_out(setup: RelaySetup, breakable_stack: Stack) -> None:
    """`kill -9` of Postgres in the middle of the work: nothing that was committed is lost or comes twice."""
    events = [LoggedEvent(key=f"chain-{number % 7}") for number in range(EVENTS)]
    await setup.append(*events)
    async with running_relay(setup.relay(batch_events=50)):
        await committed_records(setup.settings, 50)
        await breakable_stack.postgres.kill()
        await breakable_stack.postgres.restart()
        records = await committed_records(setup.settings, EVENTS)
    assert ids(records) == [str(event.id) for event in events]
    assert in_order(records)


async def test_while_the_broker_is_silent_no_database_transaction_is_open(
    setup: RelaySetup, breakable_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen broker holds the relay, which holds nothing in Postgres; and a stop ends it before its request ends."""
    for module in (publisher, kafka):
        monkeypatch.setattr(module, "REQUEST_TIMEOUT_SECONDS", 600.0)
    async with running_relay(setup.settings) as health:
        await until(lambda: _ready(health))
        breakable_stack.kafka.freeze()
        await setup.accept(1)
        # Its next sign of life is given while it waits for the broker.
        before = await setup.writer.fetchval("SELECT clock_timestamp()")
        await until(lambda: _idle_since(setup, before))
        start = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - start < DEADLINE_SECONDS
    breakable_stack.kafka.thaw()
    async with running_relay(setup.settings):
        assert len(await committed_records(setup.settings, 1)) == 1


async def _published(setup: RelaySetup) -> bool:
    """Whether all events are written, and the relay has noted that they are in Kafka."""
    found: bool | None = await setup.writer.fetchval(
        "SELECT count(*) = $1 AND max(position) <= (SELECT position FROM slotwire.relay_mirror WHERE shard = 0)"
        " FROM slotwire.events WHERE shard = 0",
        EVENTS,
    )
    return bool(found)


async def _ready(health: Health) -> bool:
    return not await health.problems()


async def _idle_since(setup: RelaySetup, moment: datetime) -> bool:
    """Tell whether the lease's session gave a sign of life since then, and none of the relay's holds a transaction."""
    row = await setup.writer.fetchrow(  # the relay's own role: others are not shown the query
        "SELECT bool_or(state_change > $1 AND query = $2) AS alive, bool_and(state = 'idle') AS idle,"
        "       count(xact_start) AS transactions, count(*) AS sessions FROM pg_stat_activity"
        " WHERE application_name IN ('slotwire-lease', 'slotwire-relay', 'slotwire-writer')"
        "   AND datname = current_database()",
        moment,
        QUERIES["hold_lease"],
    )
    return row is not None and row["alive"] and row["idle"] and row["transactions"] == 0 and row["sessions"] == 3


def _environment(setup: RelaySetup) -> dict[str, str]:
    """The environment of a `slotwire relay` for this setup."""
    kafka = setup.settings.kafka
    return environment(
        setup.settings,
        SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
        SLOTWIRE_KAFKA__TOPIC_PREFIX=kafka.topic_prefix,
        SLOTWIRE_KAFKA__PARTITIONS=str(kafka.partitions),
        SLOTWIRE_KAFKA__REPLICATION_FACTOR="1",
        SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS="1",
        SLOTWIRE_RELAY__BATCH_EVENTS="20",
        SLOTWIRE_LOG__LEVEL="error",
    )


async def test_a_frozen_process_is_replaced_and_does_no_harm(setup: RelaySetup) -> None:
    """A stopped process looks connected; within the lease another leads, and the one that thaws stands by."""
    events = [LoggedEvent(key=f"chain-{number % 7}") for number in range(EVENTS)]
    await setup.append(*events)
    env = _environment(setup)
    async with process("relay", env=env) as frozen:
        await committed_records(setup.settings, 20)
        frozen.child.send_signal(signal.SIGSTOP)
        async with process("relay", env=env):
            await committed_records(setup.settings, EVENTS, seconds=LEASE_SECONDS + DEADLINE_SECONDS)
            frozen.child.send_signal(signal.SIGCONT)
            await setup.accept(20)
            await frozen.until_ready()
            records = await committed_records(setup.settings, EVENTS + 20)
    assert ids(records) == await setup.log_ids()
    assert in_order(records)


async def test_killed_processes_leave_no_gap(setup: RelaySetup) -> None:
    """`kill -9` again and again in the middle of the work: each event arrives once, in order."""
    events = [LoggedEvent(key=f"chain-{number % 7}") for number in range(EVENTS)]
    await setup.append(*events)
    seen = 0
    async with process("relay", env=_environment(setup)) as relay:
        for _ in range(3):
            seen = len(await committed_records(setup.settings, min(EVENTS, seen + 1)))
            await relay.kill()
            await relay.restart()
        records = await committed_records(setup.settings, EVENTS)
    assert relay.child.returncode == 0
    assert ids(records) == [str(event.id) for event in events]
    assert in_order(records)
