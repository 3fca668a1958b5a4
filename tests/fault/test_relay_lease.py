"""The lead: kept by a leader that is busy, handed over by one that stops, and cheap while nothing happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.relay.lease import LEASE_SECONDS, QUERIES, STANDBY_SECONDS, Lease
from tests.support.relay_setup import RelaySetup, committed_records, ids, relay_setup, running_relay, until

QUIET_SECONDS = 3
"""How long an idle relay is watched."""
_SESSIONS = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'slotwire-lease' ORDER BY pid
"""


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log, topics and a writer of the test's own."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


async def test_a_leader_whose_loop_is_held_up_keeps_its_lead(setup: RelaySetup, database: Database) -> None:
    """Large bodies hold up the loop for longer than the lease: a heartbeat beside it holds, one in it would not."""
    naive = await asyncpg.connect(database.runtime_url)
    assert await naive.fetchval(QUERIES["take_lease"], 99, str(int(LEASE_SECONDS * 1000)))
    async with Lease.waiting(setup.settings, 0, asyncio.Event()) as lease:
        assert lease is not None
        threading.Event().wait(LEASE_SECONDS + 1)  # the loop stands still, as under normalizing that does not end
        await lease.confirm()
        assert not lease.lost.is_set()
        assert not await setup.owner.fetchval("SELECT pg_try_advisory_lock(1936487279, 0)")
        assert await setup.owner.fetchval("SELECT pg_try_advisory_lock(1936487279, 99)")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await naive.fetchval(QUERIES["hold_lease"])


async def test_a_lock_that_is_lost_is_noticed_at_once(setup: RelaySetup) -> None:
    """The session with the lock ends: its leader is told, and a question meanwhile is answered with a no."""
    async with Lease.waiting(setup.settings, 0, asyncio.Event()) as lease:
        assert lease is not None
        [session] = await setup.owner.fetch(_SESSIONS)
        await setup.writer.execute("SELECT pg_terminate_backend($1)", session["pid"])
        async with asyncio.timeout(STANDBY_SECONDS):
            await lease.lost.wait()
        with pytest.raises(DatabaseUnavailable, match="leads no more"):
            await lease.confirm()


async def test_a_stop_writes_and_publishes_and_the_standby_leads_at_once(setup: RelaySetup) -> None:
    """What was accepted before the stop is out when it ends, and the other relay leads without waiting for its look."""
    async with AsyncExitStack() as first:
        leader = await first.enter_async_context(running_relay(setup.settings))
        await until(lambda: _flows(leader))
        async with running_relay(setup.settings):
            await until(lambda: _sessions(setup, 2))
            before = await setup.owner.fetch(_SESSIONS)
            await setup.accept(50)
            await committed_records(setup.settings, 50)
            await first.aclose()
            began = asyncio.get_running_loop().time()
            await setup.accept(1)
            records = await committed_records(setup.settings, 51)
            took = asyncio.get_running_loop().time() - began
            after = await setup.owner.fetch(_SESSIONS)
    assert ids(records) == await setup.log_ids()
    assert took < STANDBY_SECONDS + 1.0
    assert len(after) == 1
    assert after[0]["pid"] in {row["pid"] for row in before}, "a standby keeps the connection it waits on"


async def _flows(health: object) -> bool:
    return REGISTRY.get_sample_value("slotwire_relay_leader", {"shard": "0"}) == 1 and health is not None


async def _sessions(setup: RelaySetup, count: int) -> bool:
    return len(await setup.owner.fetch(_SESSIONS)) == count


async def test_an_idle_relay_writes_nothing(setup: RelaySetup) -> None:
    """Nothing waits: no transaction is committed anywhere, neither in Postgres nor in Kafka."""
    async with running_relay(setup.settings):
        await setup.accept(1)
        before = await committed_records(setup.settings, 1)
        await until(lambda: _mirrored(setup))
        first = await _written(setup)
        await asyncio.sleep(QUIET_SECONDS)
        assert await _written(setup) == first
        assert len(await committed_records(setup.settings, 1)) == len(before)


async def _mirrored(setup: RelaySetup) -> bool:
    return (await _written(setup))[1] is not None


async def _written(setup: RelaySetup) -> tuple[int, int | None]:
    """Return how far the log's head and the mirror have come: each write of the relay's moves one of them."""
    row = await setup.owner.fetchrow(
        "SELECT (SELECT max(version) FROM slotwire.heads) AS version, (SELECT max(xmin::text::bigint) FROM"
        " slotwire.relay_mirror) AS mirror"
    )
    assert row is not None
    return row["version"], row["mirror"]
