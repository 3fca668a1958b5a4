"""Commits of one shard that overlap: when a second one goes, and that it sees what the first one wrote."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.store import COMMITS_UNDER_WAY, LEAST_BESIDE, DeliveryResult, GroupCommit, Log
from slotwire.ingest.receive.verify import VerifiedDelivery, verified_before
from tests.support import shard_lock
from tests.support.booking_histories import START, TENANT, created
from tests.support.public_endpoint import invitee_body, new_invitee


class Setup:
    """A running group commit, and the connection that holds the shard's lock."""

    def __init__(self, commit: GroupCommit, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.commit = commit
        self.connection = connection

    def put(self, body: bytes) -> asyncio.Future[DeliveryResult]:
        """Give a delivery to the next commit."""
        return self.commit.put(delivery(body), until=asyncio.get_running_loop().time() + 30)

    async def until_commits_wait(self, count: int) -> None:
        """Wait until so many commits have come as far as the shard's lock."""
        await shard_lock.until_waiting(self.connection, count)

    async def release(self) -> None:
        """Let the commits go on."""
        await shard_lock.release(self.connection)


def delivery(body: bytes) -> VerifiedDelivery:
    """Make a delivery that was verified, with an id of its own."""
    told = created("another", 0).source
    return verified_before(told.id, TENANT, body, received_at=START, signed_at=START, traceparent=None)


@asynccontextmanager
async def running(database: Database) -> AsyncIterator[Setup]:
    """Run a group commit whose ends are open, and hold the shard's lock."""
    commit = GroupCommit(max_pending=100)
    logs = [Log(database.runtime_url, DatabaseSettings(), 0, SystemClock()) for _ in range(COMMITS_UNDER_WAY)]
    connection = await asyncpg.connect(database.owner_url)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(commit.run(log, asyncio.Event())) for log in logs]
        try:
            await shard_lock.hold(connection)
            yield Setup(commit, connection)
        finally:
            await connection.close()
            for task in tasks:
                task.cancel()


async def test_a_second_commit_starts_when_as_many_wait_and_never_a_third(database: Database) -> None:
    """One goes alone; beside it go eight, not seven; what comes then waits for either of them, however much it is."""
    async with running(database) as setup:
        first = setup.put(invitee_body())
        await setup.until_commits_wait(1)
        second = [setup.put(invitee_body()) for _ in range(LEAST_BESIDE - 1)]
        await asyncio.sleep(0)
        assert setup.commit.waiting == LEAST_BESIDE - 1
        second.append(setup.put(invitee_body()))
        await setup.until_commits_wait(2)
        rest = [setup.put(invitee_body()) for _ in range(2 * LEAST_BESIDE)]
        await asyncio.sleep(0)
        assert setup.commit.waiting == len(rest)
        await setup.release()
        outcomes = await asyncio.gather(first, *second, *rest)
    assert {outcome.outcome for outcome in outcomes} == {"stored"}


async def test_a_batch_smaller_than_the_running_commit_waits(database: Database) -> None:
    """Beside a commit of twenty, nineteen do not go, and one more lets them."""
    async with running(database) as setup:
        first = [setup.put(invitee_body()) for _ in range(20)]
        await setup.until_commits_wait(1)
        second = [setup.put(invitee_body()) for _ in range(19)]
        await asyncio.sleep(0)
        assert setup.commit.waiting == 19
        second.append(setup.put(invitee_body()))
        await setup.until_commits_wait(2)
        assert setup.commit.waiting == 0
        await setup.release()
        await asyncio.gather(*first, *second)


async def test_overlapping_batches_of_one_booking_are_joined_again(database: Database) -> None:
    """A cancel made ready before the commit of its created is seen comes back, and infers nothing."""
    invitee = new_invitee()
    async with running(database) as setup:
        told = setup.put(invitee_body(invitee=invitee))
        await setup.until_commits_wait(1)
        ended = setup.put(invitee_body("invitee.canceled", invitee=invitee))
        others = [setup.put(invitee_body()) for _ in range(LEAST_BESIDE - 1)]
        await setup.until_commits_wait(2)
        await setup.release()
        outcomes = await asyncio.gather(told, ended, *others)
        about = "FROM slotwire.events WHERE subject = $1 ORDER BY position"
        rows = await setup.connection.fetch(f"SELECT type, inferred {about}", invitee)
        revision = await setup.connection.fetchval("SELECT revision FROM slotwire.bookings WHERE invitee = $1", invitee)
    assert {outcome.outcome for outcome in outcomes} == {"stored"}
    assert [tuple(row) for row in rows] == [
        ("com.calendly.invitee.created.v1", False),
        ("com.calendly.invitee.canceled.v1", False),
    ]
    assert revision == 2


async def test_a_batch_that_is_joined_again_commits_alone(database: Database) -> None:
    """Twenty words on one booking, each against the others: none is sent away for contention, each event is there."""
    invitee = new_invitee()
    bodies = [invitee_body(invitee=invitee)]
    for number in range(10):
        mark = {"uri": f"https://api.calendly.com/invitee_no_shows/{number}", "created_at": at(number, ".5")}
        bodies.append(invitee_body("invitee_no_show.created", invitee=invitee, no_show=mark))
        bodies.append(invitee_body("invitee_no_show.deleted", invitee=invitee, told_at=at(number + 1)))
    async with running(database) as setup:
        await setup.release()
        outcomes = []
        for number, body in enumerate(bodies):
            outcomes.append(setup.put(body))
            if number % (2 * LEAST_BESIDE) == LEAST_BESIDE:
                await asyncio.sleep(0)
        # A clear that overtook an earlier one stands for its mark, and the earlier one is then told already.
        assert {(await outcome).outcome for outcome in outcomes} <= {"stored", "duplicate"}
        kinds = await setup.connection.fetch("SELECT type, count(*) FROM slotwire.events GROUP BY type")
    assert dict(map(tuple, kinds)) == {
        "com.calendly.invitee.created.v1": 1,
        "com.calendly.invitee_no_show.created.v1": 10,
        "com.calendly.invitee_no_show.deleted.v1": 10,
    }


def at(second: int, fraction: str = "") -> str:
    """Write a time."""
    return time.strftime(f"%Y-%m-%dT%H:%M:%S{fraction}Z", time.gmtime(1_800_000_000 + 10 * second))
