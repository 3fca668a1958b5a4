"""Group commit: what arrives while a commit is under way goes with the next one, and is answered after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest

from slotwire.ingest.errors import DatabaseUnavailable, DeliveryRefused
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.receive.group_commit import MAX_BATCH_BYTES, MAX_BATCH_DELIVERIES, ShardGroup
from slotwire.ingest.receive.verify import HookTenant, ReceivedDelivery, VerifiedDelivery, verify
from tests.support import shard_lock
from tests.support.public_endpoint import make_hook, settings_for, sign

KEY = "a key of this test"
SECONDS = 60.0


@dataclass(frozen=True)
class Setup:
    """A group whose first commit waits for the shard's lock, which the test holds."""

    group: ShardGroup
    tenant: HookTenant
    key_id: UUID
    lock: asyncpg.Connection[asyncpg.Record]

    def put(self, body: bytes = b"{}", *, seconds: float = SECONDS) -> asyncio.Future[None]:
        """Put a delivery."""
        until = asyncio.get_running_loop().time() + seconds
        return self.group.put(self.delivery(body), until=until)

    def put_revoked(self) -> asyncio.Future[None]:
        """Put a delivery whose key is not there any more."""
        until = asyncio.get_running_loop().time() + SECONDS
        return self.group.put(self.delivery(b"revoked")._replace(signing_key=uuid4()), until=until)

    def delivery(self, body: bytes) -> VerifiedDelivery:
        """Sign and verify a body."""
        now = datetime.now(UTC)
        received = ReceivedDelivery(uuid4(), body, (sign(body, KEY, at=now.timestamp()),), "", now, None)
        return verify(received, self.tenant, {self.key_id: KEY.encode()}, now=now)

    async def commits(self) -> list[int]:
        """Count the rows of each commit, in their order."""
        rows = await self.lock.fetch(
            "SELECT count(*) AS n FROM slotwire.deliveries GROUP BY xmin ORDER BY min(position)"
        )
        return [row["n"] for row in rows]


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[Setup]:
    """A group on a database of the test's own."""
    settings = settings_for(database, max_pending_deliveries=300)
    hook = await make_hook(settings, database)
    tenant = HookTenant(hook.organization.rpartition("/")[2], 0, hook.subscription_id)
    lock = await asyncpg.connect(database.owner_url)
    group = ShardGroup(settings, 0, SystemClock())
    await shard_lock.hold(lock)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(group.run()), tasks.create_task(group.expire())]
        yield Setup(group, tenant, hook.key_id, lock)
        for task in running:
            task.cancel()
    await lock.close()


async def test_what_arrives_meanwhile_goes_together(setup: Setup) -> None:
    """One goes alone at once; the nine that come while it waits are one commit, in the order they came."""
    first = setup.put()
    await shard_lock.until_waiting(setup.lock, 1)
    rest = [setup.put() for _ in range(9)]
    assert setup.group.pending == 9
    assert not first.done()
    await shard_lock.release(setup.lock)
    await asyncio.gather(first, *rest)
    assert await setup.commits() == [1, 9]


async def test_a_commit_carries_so_many_at_the_most(setup: Setup) -> None:
    """At the limit of rows one commit takes them all; one more waits for the next."""
    first = setup.put()
    await shard_lock.until_waiting(setup.lock, 1)
    rest = [setup.put() for _ in range(MAX_BATCH_DELIVERIES + 1)]
    await shard_lock.release(setup.lock)
    await asyncio.gather(first, *rest)
    assert await setup.commits() == [1, MAX_BATCH_DELIVERIES, 1]


async def test_a_commit_carries_so_many_bytes_at_the_most(setup: Setup) -> None:
    """Bodies up to the limit go together, one byte more goes next; one that is larger than the limit goes alone."""
    first = setup.put()
    await shard_lock.until_waiting(setup.lock, 1)
    half = b"x" * (MAX_BATCH_BYTES // 2)
    rest = [setup.put(half), setup.put(half), setup.put(b"x"), setup.put(b"x" * (MAX_BATCH_BYTES + 1))]
    await shard_lock.release(setup.lock)
    await asyncio.gather(first, *rest)
    assert await setup.commits() == [1, 2, 1, 1]


async def test_a_revoked_key_costs_its_neighbours_nothing(setup: Setup) -> None:
    """Of one commit those with a revoked key are refused and the others stored, with no position left out."""
    first = setup.put()
    await shard_lock.until_waiting(setup.lock, 1)
    good, bad = [setup.put(b"1")], [setup.put_revoked()]
    good.append(setup.put(b"2"))
    bad.append(setup.put_revoked())
    await shard_lock.release(setup.lock)
    await asyncio.gather(first, *good)
    for each in bad:
        with pytest.raises(DeliveryRefused, match="revoked"):
            await each
    with pytest.raises(DeliveryRefused, match="revoked"):
        await setup.put_revoked()  # a commit of nothing else
    await setup.put(b"3")
    rows = await setup.lock.fetch("SELECT position, body FROM slotwire.deliveries ORDER BY position")
    assert [tuple(row) for row in rows] == [(1, b"{}"), (2, b"1"), (3, b"2"), (4, b"3")]


async def test_past_the_pending_limit_is_refused_at_once(setup: Setup) -> None:
    """As many as the limit may wait; one more is told to come again."""
    first = setup.put()
    await shard_lock.until_waiting(setup.lock, 1)
    rest = [setup.put() for _ in range(300)]
    with pytest.raises(DatabaseUnavailable, match="too many"):
        setup.put()
    await shard_lock.release(setup.lock)
    await asyncio.gather(first, *rest)
    assert sum(await setup.commits()) == 301


async def test_whoever_has_no_time_left_is_answered_and_not_committed(setup: Setup) -> None:
    """A delivery whose time is over while it waits is given up, and the commit that comes later leaves it out."""
    first = setup.put()
    await shard_lock.until_waiting(setup.lock, 1)
    late, patient = setup.put(b"late", seconds=0.01), setup.put(b"patient")
    with pytest.raises(DatabaseUnavailable, match="in time"):
        await late
    await shard_lock.release(setup.lock)
    await asyncio.gather(first, patient)
    bodies = await setup.lock.fetch("SELECT body FROM slotwire.deliveries ORDER BY position")
    assert [row["body"] for row in bodies] == [b"{}", b"patient"]
