"""The lead: kept by a leader that is busy, handed over by one that stops, and cheap while nothing happens."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.backlog import MAX_BYTES
from slotwire.ingest.log.parts import MAX_PARTS
from slotwire.ingest.relay import lease as lease_module
from slotwire.ingest.relay.lease import HANDOVER_CHANNEL, LEASE_SECONDS, QUERIES, Lease
from tests.support.door import add_organization, let_in
from tests.support.public_endpoint import invitee_body
from tests.support.relay_setup import (
    DEADLINE_SECONDS,
    RelaySetup,
    committed_records,
    each_committed,
    ids,
    relay_setup,
    running_relay,
    sequence,
    until,
)

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
        await until(lambda: _lock_is_free(setup, 99))
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await naive.fetchval(QUERIES["hold_lease"])


async def _lock_is_free(setup: RelaySetup, shard: int) -> bool:
    return bool(await setup.owner.fetchval("SELECT pg_try_advisory_lock(1936487279, $1)", shard))


async def _write_large(setup: RelaySetup, large: int, *, seconds: float) -> None:
    """Let in bodies of 1 MiB, with a small one of another organization behind them, and have a relay write them."""
    answer = {"question": "q", "answer": "a" * 220, "position": 0}
    answers = [answer] * ((MAX_PARTS - 100) // 5)
    bare = len(invitee_body(questions_and_answers=answers, text_reminder_number=""))
    for org in ("A", "B"):
        await add_organization(setup.owner, org)
    for _ in range(large):
        body = invitee_body(questions_and_answers=answers, text_reminder_number="5" * (MAX_BYTES - bare))
        assert len(body) == MAX_BYTES
        await let_in(setup.owner, body)
    await let_in(setup.owner, invitee_body(), org="B")
    async with running_relay(setup.settings):
        read = [sequence(each) async for each in each_committed(setup.settings, large + 1, seconds=seconds)]
    rows = await setup.owner.fetch("SELECT org, position FROM slotwire.events ORDER BY position")
    assert sorted(read) == [row["position"] for row in rows]
    assert [row["org"] for row in rows].index("B") <= 1
    assert Counter(row["org"] for row in rows) == {"A": large, "B": 1}
    appends, leaders = await setup.owner.fetchrow("SELECT count(*), max(epoch) FROM slotwire.heads") or (0, 0)
    sys.stderr.write(f"{large} bodies of 1 MiB, {appends} versions of the head, {leaders} leader\n")
    assert leaders == 1


async def test_large_bodies_cost_neither_the_lead_nor_another_organization_its_turn(setup: RelaySetup) -> None:
    """Bodies as large and finely divided as they may be are written by one leader; a small one goes with the first."""
    await _write_large(setup, 8, seconds=60)


@pytest.mark.soak
async def test_two_hundred_large_bodies(setup: RelaySetup) -> None:
    """The long form: more of them than a leader understands within its lease, several times over."""
    await _write_large(setup, 200, seconds=1_200)


async def test_a_lock_that_is_lost_is_noticed_at_once(setup: RelaySetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session with the lock ends: its leader is told, and a question meanwhile is answered with a no."""
    monkeypatch.setattr(lease_module, "HEARTBEAT_SECONDS", 3_600.0)
    async with Lease.waiting(setup.settings, 0, asyncio.Event()) as lease:
        assert lease is not None
        [session] = await setup.owner.fetch(_SESSIONS)
        await setup.writer.execute("SELECT pg_terminate_backend($1)", session["pid"])
        async with asyncio.timeout(DEADLINE_SECONDS):
            await lease.lost.wait()
        with pytest.raises(DatabaseUnavailable, match="leads no more"):
            await lease.confirm()


async def test_a_lead_that_is_handed_over_during_an_attempt_is_taken(
    setup: RelaySetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby that is refused the lock, and hears before it knows that the lock was let go, asks again at once."""

    class Refused(dict[str, str]):
        tried = False

        def __getitem__(self, name: str) -> str:
            if name != "take_lease" or self.tried:
                return super().__getitem__(name)
            self.tried = True
            return f"SELECT pg_notify('{HANDOVER_CHANNEL}', concat($1::int, $2::text)) IS NULL"

    monkeypatch.setattr(lease_module, "STANDBY_SECONDS", 3_600.0)
    monkeypatch.setattr(lease_module, "QUERIES", Refused(QUERIES))
    async with asyncio.timeout(DEADLINE_SECONDS), Lease.waiting(setup.settings, 0, asyncio.Event()) as lease:
        assert lease is not None
        await lease.confirm()


async def test_a_stop_writes_and_publishes_and_the_standby_leads_at_once(
    setup: RelaySetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was accepted before the stop is out when it ends, and the other relay leads without waiting for its look."""
    monkeypatch.setattr(lease_module, "STANDBY_SECONDS", 3_600.0)
    async with AsyncExitStack() as first:
        leader = await first.enter_async_context(running_relay(setup.settings))
        await until(lambda: _flows(leader))
        async with running_relay(setup.settings):
            await until(lambda: _sessions(setup, 2))
            before = await setup.owner.fetch(_SESSIONS)
            await setup.accept(50)
            await committed_records(setup.settings, 50)
            await first.aclose()
            await setup.accept(1)
            records = await committed_records(setup.settings, 51)
            await until(lambda: _sessions(setup, 1))
            after = await setup.owner.fetch(_SESSIONS)
    assert ids(records) == await setup.log_ids()
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
    last = "SELECT position = (SELECT max(position) FROM slotwire.events) FROM slotwire.relay_mirror"
    return bool(await setup.owner.fetchval(last))


async def _written(setup: RelaySetup) -> tuple[int, int | None]:
    """Return how far the log's head and the mirror have come: each write of the relay's moves one of them."""
    row = await setup.owner.fetchrow(
        "SELECT (SELECT max(version) FROM slotwire.heads) AS version, (SELECT max(xmin::text::bigint) FROM"
        " slotwire.relay_mirror) AS mirror"
    )
    assert row is not None
    return row["version"], row["mirror"]
