"""Group commit: webhooks that arrive while a commit is under way are committed together by the next one.

There is no timer: a commit begins as soon as the last one has returned, and takes what has gathered meanwhile, so the
group follows the load. The answer to a delivery follows its commit and waits for nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter

from slotwire.ingest.errors import DatabaseUnavailable, DeliveryRefused, SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import (
    BY_KEY,
    Connection,
    Session,
    connect,
    connect_to_commit,
    translated,
)
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import BATCH_DELIVERIES, COMMIT_SECONDS, PENDING_DELIVERIES, get_logger
from slotwire.ingest.foundation.throttle import Throttle
from slotwire.ingest.receive.accept import QUERIES, AcceptRow, accept_webhooks, row_of
from slotwire.ingest.receive.verify import VerifiedDelivery

MAX_BATCH_DELIVERIES = 200
"""Deliveries one commit carries at the most: more make it slower, not cheaper."""
MAX_BATCH_BYTES = 262_144
"""Bytes of bodies one commit carries at the most; a single larger body goes alone."""
EXPIRY_INTERVAL_SECONDS = 0.25
"""How often those whose time is over are looked for."""
NOTIFY_INTERVAL_SECONDS = 0.005
"""The least time between two notifications: each takes a lock that all notifying commits share."""

_log = get_logger("accept")


@dataclass(slots=True)
class _Pending:
    row: AcceptRow
    done: asyncio.Future[None]
    until: float


class ShardGroup:
    """Gathers the deliveries of one shard while a commit is under way, and commits them together."""

    def __init__(self, settings: Settings, shard: int, clock: Clock) -> None:
        self._settings = settings
        self._dsn = settings.database_url.get_secret_value()
        self._shard = shard
        self._clock = clock
        self._pending: deque[_Pending] = deque()
        self._under_way: list[_Pending] = []
        self._arrived = asyncio.Event()
        self._committed = asyncio.Event()
        self._connection: Connection | None = None
        self._said = Throttle()

    @property
    def pending(self) -> int:
        """How many wait to be taken into a commit."""
        return len(self._pending)

    def put(self, delivery: VerifiedDelivery, *, until: float) -> asyncio.Future[None]:
        """Commit a delivery with whatever else is there, by the event loop's time `until`; done once it is durable.

        Raises:
            DatabaseUnavailable: too many wait already; when awaited: it could not be committed in time.
            DeliveryRefused: when awaited: its key was revoked since it was verified (`revoked`).
        """
        if len(self._pending) >= self._settings.http.max_pending_deliveries:
            raise DatabaseUnavailable("too many deliveries wait for their commit", reason="overload")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(row_of(delivery), done, until))
        self._arrived.set()
        return done

    async def run(self) -> None:
        """Commit for ever. The process ends if this does."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while group := self._take():
                    self._under_way = group
                    await self._commit(group)
                    self._under_way = []
                    self._committed.set()
        finally:
            _fail(self._pending, DatabaseUnavailable("the process is stopping", reason="stopping"))
            self._close()

    async def expire(self) -> None:
        """Give up those whose time is over, whatever Postgres does: one timer for all of them."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL_SECONDS)
            now = loop.time()
            late = [each for each in (*self._under_way, *self._pending) if each.until <= now]
            _fail(late, DatabaseUnavailable("the commit did not come in time", reason="deadline"))

    async def notify(self) -> None:
        """Tell the writer after commits: coalesced, on a connection of its own, never waiting for the disk.

        A notification is a hint; the writer polls as well. So a failure here is logged and tried again.
        """
        connection: Session | None = None
        try:
            while True:
                await self._committed.wait()
                self._committed.clear()
                try:
                    if connection is None or connection.is_closed():
                        connection = await connect(
                            self._dsn, self._settings.database, application="notify", planner=BY_KEY
                        )
                        with translated():
                            await connection.execute("SET synchronous_commit = off")
                    with translated():
                        await connection.execute(QUERIES["notify"], str(self._shard))
                    connection.require_writable()  # the writer is elsewhere then
                except DatabaseUnavailable as problem:
                    _log.warning("notify_failed", error=problem.message)
                    if connection is not None:
                        connection.terminate()
                        connection = None
                await asyncio.sleep(NOTIFY_INTERVAL_SECONDS)
        finally:
            if connection is not None:
                connection.terminate()

    def _take(self) -> list[_Pending]:
        group: list[_Pending] = []
        size = 0
        while self._pending and len(group) < MAX_BATCH_DELIVERIES:
            first = self._pending[0]
            size += len(first.row.body or b"")
            if group and size > MAX_BATCH_BYTES:
                break
            self._pending.popleft()
            if not first.done.done():  # its client gave up: nothing was promised
                group.append(first)
        return group

    async def _commit(self, group: list[_Pending]) -> None:
        started = perf_counter()
        try:
            revoked = await accept_webhooks(
                await self._connected(),
                self._shard,
                [each.row for each in group],
                now=self._clock.now(),
                seconds=self._settings.database.statement_timeout_seconds,
                limit=self._settings.http.max_unwritten_bytes,
            )
        except SlotwireError as problem:
            held_back = self._said.held_back("commit_failed")
            if held_back is not None:
                _log.warning("commit_failed", deliveries=len(group), error=problem.message, held_back=held_back)
            if not (isinstance(problem, DatabaseUnavailable) and problem.reason == "backlog"):
                self._close()
            _fail(group, problem)
            return
        except asyncio.CancelledError:
            _fail(group, DatabaseUnavailable("the process is stopping", reason="stopping"))
            raise
        BATCH_DELIVERIES.observe(len(group))
        COMMIT_SECONDS.observe(perf_counter() - started)
        _fail((each for each in group if each.row.id in revoked), DeliveryRefused("revoked"))
        for each in group:
            if not each.done.done():
                each.done.set_result(None)

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect_to_commit(self._dsn, self._settings.database, application="accept")
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def _fail(pending: Iterable[_Pending], problem: SlotwireError) -> None:
    for each in pending:
        if not each.done.done():
            each.done.set_exception(problem)


class GroupCommit:
    """The webhooks' way through the door, for every shard; a shard's connection opens with its first delivery."""

    def __init__(self, settings: Settings, clock: Clock, group: asyncio.TaskGroup) -> None:
        self._settings = settings
        self._clock = clock
        self._group = group
        self._shards: dict[int, ShardGroup] = {}
        self._tasks: list[asyncio.Task[None]] = []
        PENDING_DELIVERIES.set_function(lambda: sum(each.pending for each in self._shards.values()))

    def put(self, delivery: VerifiedDelivery, *, until: float) -> asyncio.Future[None]:
        """Commit a delivery by the event loop's time `until`; done once it is durable.

        Raises:
            DatabaseUnavailable: too many wait already; when awaited: it could not be committed.
            DeliveryRefused: when awaited: its key was revoked since it was verified (`revoked`).
        """
        shard = delivery.tenant.shard
        return (self._shards.get(shard) or self._open(shard)).put(delivery, until=until)

    def close(self) -> None:
        """End the side tasks; what is still waiting is answered that the process stops."""
        for task in self._tasks:
            task.cancel()

    def _open(self, shard: int) -> ShardGroup:
        opened = self._shards[shard] = ShardGroup(self._settings, shard, self._clock)
        work = {"commit": opened.run(), "expire": opened.expire(), "notify": opened.notify()}
        self._tasks += [self._group.create_task(each, name=f"{name}-{shard}") for name, each in work.items()]
        return opened
