"""Store: a group commit a shard. The answer to a delivery follows the commit of its batch.

There is no timer: a flush starts as soon as the last one returns and takes what has gathered meanwhile, so
the batch follows the load. Under load two overlap: while Postgres commits one, the next is made ready and waits
for the shard's lock there. One flush normalizes its deliveries, which costs a sixth less in a row than one by one
between requests; then it is two round trips: read the rows the facts touch, append. Nothing is held in Postgres
between them; rows that changed meanwhile send their facts round again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from time import perf_counter
from typing import NamedTuple
from uuid import UUID

from slotwire.ingest.errors import ConfigurationError, DatabaseUnavailable, RowRefused, SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Connection, connect, read_durability, read_queries, translated
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.foundation.telemetry import BATCH_DELIVERIES, COMMIT_SECONDS, PENDING_DELIVERIES, get_logger
from slotwire.ingest.log.batch import Batch, read_row
from slotwire.ingest.log.join import named
from slotwire.ingest.log.normalize import Fact, InviteeEvent, InviteeFact, QuarantineFact, normalize
from slotwire.ingest.log.outcome import DeliveryOutcome
from slotwire.ingest.receive.verify import VerifiedDelivery

MAX_BATCH_DELIVERIES = 200
"""Deliveries one commit carries at the most: more make it slower, not cheaper."""
MAX_BATCH_BYTES = 262_144
"""Bytes of bodies one commit carries at the most; a single larger body goes alone."""
COMMITS_UNDER_WAY = 2
"""Commits of one shard at the same time. They take the shard's lock in turn: a third would only wait longer."""
LEAST_BESIDE = 8
"""Deliveries worth a commit beside another one: fewer are in the next one sooner than they are worth a flush."""
MAX_TRIES = 10
"""How often a fact is joined anew because another writer changed its booking; then 503."""
EXPIRY_INTERVAL_SECONDS = 0.25
"""How often those whose time is over are looked for."""
NOTIFY_INTERVAL_SECONDS = 0.002
"""The least time between two notifications: each takes a lock that all notifying commits share."""

_SQL = read_queries("slotwire.ingest.sql", "store.sql")
_BY_KEY = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""All this connection does is look up and insert by key. Left to itself the server plans once for the empty
table of the first minute, and scans it as it grows: a plan made then cost 12.7 ms a delivery at 11,000 rows."""
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_log = get_logger("store")


class DeliveryResult(NamedTuple):
    """What became of a delivery, once it is committed.

    Attributes:
        outcome: as its row has it.
        reason: why it was quarantined; empty otherwise.
    """

    outcome: DeliveryOutcome
    reason: str = ""


_TAKEN = {outcome: DeliveryResult(outcome) for outcome in (DeliveryOutcome.STORED, DeliveryOutcome.DUPLICATE)}


@dataclass(slots=True)
class _Waiting:
    delivery: VerifiedDelivery
    done: asyncio.Future[DeliveryResult]
    until: float
    tries: int = 0


class Log:
    """The writing end of one shard of the log, on one connection."""

    def __init__(self, dsn: str, settings: DatabaseSettings, shard: int, clock: Clock) -> None:
        self._dsn = dsn
        self._settings = settings
        self._shard = shard
        self._clock = clock
        self._connection: Connection | None = None

    async def append(self, facts: Sequence[Fact], *, trusting: bool = False) -> list[DeliveryResult | None]:
        """Join and append facts; returns once they are committed.

        Args:
            facts: in order of arrival.
            trusting: take an invitee that is created and names nobody for unknown, without asking. Nearly
                always it is, and the round trip is saved; when it is not, the fact is given back.

        Returns:
            Per fact its outcome, or None when another writer changed its booking and it must be tried again.

        Raises:
            DatabaseUnavailable: nothing is known to be committed; a retry is harmless.
        """
        try:
            return await self._append(facts, trusting=trusting)
        except RowRefused as refused:
            if len(facts) > 1:
                middle = len(facts) // 2
                first, rest = facts[:middle], facts[middle:]
                return [*await self.append(first, trusting=trusting), *await self.append(rest, trusting=trusting)]
            if isinstance(facts[0], QuarantineFact):
                raise DatabaseUnavailable("a quarantined body was refused", reason=refused.sqlstate) from refused
            return await self.append([QuarantineFact(facts[0].source, "refused_by_database", refused.sqlstate)])

    async def close(self) -> None:
        """Close the connection without waiting for the server."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _append(self, facts: Sequence[Fact], *, trusting: bool) -> list[DeliveryResult | None]:
        try:
            connection = await self._connected()
            wanted = {uri for fact in facts for uri in _to_read(fact, trusting=trusting)}
            with translated():
                rows = await connection.fetch(_SQL["read_bookings"], list(wanted)) if wanted else []
            batch = Batch(facts, {row["invitee"]: read_row(dict(row)) for row in rows})
            arguments = batch.arguments(shard=self._shard, now=self._clock.now())
            with translated():
                answer = await connection.fetchrow(_SQL["append_batch"], *arguments)
        except RowRefused:
            raise
        except (SlotwireError, asyncio.CancelledError):
            await self.close()
            raise
        if answer is None:  # pragma: no cover - the function returns one row
            raise AssertionError
        return _outcomes(batch, set(answer["conflicts"]), set(answer["duplicates"]))

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            connection = await connect(self._dsn, self._settings, application="store", planner=_BY_KEY)
            try:
                await _write_times_quickly(connection)
                await _require_durable(connection, self._settings)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection


async def _write_times_quickly(connection: Connection) -> None:
    """Let times travel as Postgres keeps them, microseconds since 2000: asyncpg's own way costs four times that."""
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        format="tuple",
        encoder=lambda time: ((time - _EPOCH) // _MICROSECOND,),
        decoder=lambda told: _EPOCH + timedelta(microseconds=told[0]),
    )


async def _require_durable(connection: Connection, settings: DatabaseSettings) -> None:
    durability = await read_durability(connection)
    if settings.durable and not durability.survives_crash:
        raise ConfigurationError(
            "Postgres runs with fsync or synchronous_commit off: an acknowledged delivery could be lost",
            remedy="Turn both on, or accept the loss with SLOTWIRE_DATABASE__DURABLE=false.",
        )


def _to_read(fact: Fact, *, trusting: bool) -> list[str]:
    """Return the invitees whose rows must be read for a fact."""
    if not isinstance(fact, InviteeFact):
        return []
    found = named(fact.payload)
    return [] if trusting and fact.event is InviteeEvent.CREATED and len(found) == 1 else found


def _outcomes(batch: Batch, conflicts: set[int], duplicates: set[UUID]) -> list[DeliveryResult | None]:
    found: list[DeliveryResult | None] = []
    for position, (fact, outcome) in enumerate(zip(batch.facts, batch.outcomes, strict=True)):
        quarantined = batch.quarantined[position]
        if conflicts and batch.group(position) in conflicts:
            found.append(None)
        elif quarantined is not None:
            found.append(DeliveryResult(DeliveryOutcome.QUARANTINED, quarantined.reason))
        else:
            known = duplicates and fact.source.id in duplicates
            found.append(_TAKEN[DeliveryOutcome.DUPLICATE if known else outcome])
    return found


class GroupCommit:
    """Gathers deliveries while commits are under way, and commits them together."""

    def __init__(self, *, max_pending: int) -> None:
        self._max_pending = max_pending
        self._waiting: deque[_Waiting] = deque()
        self._under_way: list[list[_Waiting]] = []
        self._enough = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many wait to be taken into a commit."""
        return len(self._waiting)

    def put(self, delivery: VerifiedDelivery, *, until: float) -> asyncio.Future[DeliveryResult]:
        """Commit a delivery with whatever else is there, by the event loop's time `until`; done once it is durable.

        Raises:
            DatabaseUnavailable: too many wait already; when awaited: it could not be committed in time.
        """
        if len(self._waiting) >= self._max_pending:
            raise DatabaseUnavailable("too many deliveries wait for their commit", reason="overload")
        done: asyncio.Future[DeliveryResult] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(delivery, done, until))
        if self._is_enough():
            self._enough.set()
        return done

    async def run(self, log: Log, flushed: asyncio.Event) -> None:
        """Flush through one end of the log for ever; sets `flushed` after each commit.

        May be run with several ends at once. The process ends if one of them does.
        """
        try:
            while True:
                while not self._is_enough():
                    self._enough.clear()
                    await self._enough.wait()
                batch = self._take()
                if batch:
                    self._under_way.append(batch)
                    await self._flush(log, batch)
                    self._under_way.remove(batch)
                    self._enough.set()  # whoever waits looks again
                    flushed.set()
        finally:
            _fail(self._waiting, DatabaseUnavailable("the process is stopping", reason="stopping"))
            await log.close()

    def _is_enough(self) -> bool:
        """Whether a commit shall go now: alone whatever is there; beside another one as many as it has.

        What must be joined anew goes alone, so that it meets no second change of ours.
        """
        if not self._under_way or not self._waiting:
            return bool(self._waiting)
        if self._waiting[0].tries:
            return False
        return len(self._waiting) >= max(LEAST_BESIDE, sum(map(len, self._under_way)))

    async def expire(self) -> None:
        """Give up those whose time is over, whatever Postgres does: one timer for all of them."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL_SECONDS)
            now = loop.time()
            late = [each for each in (*chain.from_iterable(self._under_way), *self._waiting) if each.until <= now]
            _fail(late, DatabaseUnavailable("the commit did not come in time", reason="deadline"))

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_DELIVERIES:
            head = self._waiting[0]
            size += len(head.delivery.body)
            if batch and size > MAX_BATCH_BYTES:
                break
            self._waiting.popleft()
            if not head.done.done():  # its client gave up: nothing was promised
                batch.append(head)
        return batch

    async def _flush(self, log: Log, batch: list[_Waiting]) -> None:
        started = perf_counter()
        try:
            trusting = all(each.tries == 0 for each in batch)
            outcomes = await log.append([normalize(each.delivery) for each in batch], trusting=trusting)
        except SlotwireError as problem:
            _log.warning("commit_failed", deliveries=len(batch), error=problem.message)
            _fail(batch, problem)
            return
        except asyncio.CancelledError:
            _fail(batch, DatabaseUnavailable("the process is stopping", reason="stopping"))
            raise
        BATCH_DELIVERIES.observe(len(batch))
        COMMIT_SECONDS.observe(perf_counter() - started)
        for each, outcome in zip(reversed(batch), reversed(outcomes), strict=True):
            if outcome is not None:
                if not each.done.done():
                    each.done.set_result(outcome)
            elif each.tries + 1 >= MAX_TRIES:
                _fail([each], DatabaseUnavailable("its booking keeps changing", reason="contention"))
            else:
                each.tries += 1
                self._waiting.appendleft(each)


def _fail(batch: Iterable[_Waiting], problem: SlotwireError) -> None:
    for each in batch:
        if not each.done.done():
            each.done.set_exception(problem)


async def notify(dsn: str, settings: DatabaseSettings, shard: int, flushed: asyncio.Event) -> None:
    """Tell the relay after commits: coalesced, on a connection of its own, never waiting for the disk.

    A notification is a hint; the relay polls as well. So a failure here is logged and tried again.
    """
    connection: Connection | None = None
    try:
        while True:
            await flushed.wait()
            flushed.clear()
            try:
                if connection is None or connection.is_closed():
                    connection = await connect(dsn, settings, application="notify")
                    with translated():
                        await connection.execute("SET synchronous_commit = off")
                with translated():
                    await connection.execute(_SQL["notify"], str(shard))
            except DatabaseUnavailable as problem:
                _log.warning("notify_failed", error=problem.message)
                if connection is not None:
                    connection.terminate()
                    connection = None
            await asyncio.sleep(NOTIFY_INTERVAL_SECONDS)
    finally:
        if connection is not None:
            connection.terminate()


class Store:
    """The way into the log for every shard; a shard's connection opens with its first delivery."""

    def __init__(
        self, dsn: str, settings: DatabaseSettings, clock: Clock, group: asyncio.TaskGroup, *, max_pending: int
    ) -> None:
        self._dsn = dsn
        self._settings = settings
        self._clock = clock
        self._group = group
        self._max_pending = max_pending
        self._commits: dict[int, GroupCommit] = {}
        self._tasks: list[asyncio.Task[None]] = []
        PENDING_DELIVERIES.set_function(lambda: sum(each.waiting for each in self._commits.values()))

    def put(self, delivery: VerifiedDelivery, *, until: float) -> asyncio.Future[DeliveryResult]:
        """Commit a delivery by the event loop's time `until`; done once it is durable.

        Raises:
            DatabaseUnavailable: too many wait already; when awaited: it could not be committed.
        """
        shard = delivery.tenant.shard
        commit = self._commits.get(shard) or self._open(shard)
        return commit.put(delivery, until=until)

    def _open(self, shard: int) -> GroupCommit:
        commit = GroupCommit(max_pending=self._max_pending)
        self._commits[shard] = commit
        flushed = asyncio.Event()
        logs = [Log(self._dsn, self._settings, shard, self._clock) for _ in range(COMMITS_UNDER_WAY)]
        work = {
            **{f"commit-{number}": commit.run(log, flushed) for number, log in enumerate(logs)},
            "expire": commit.expire(),
            "notify": notify(self._dsn, self._settings, shard, flushed),
        }
        self._tasks += [self._group.create_task(each, name=f"{name}-{shard}") for name, each in work.items()]
        return commit

    def close(self) -> None:
        """End the side tasks; what is still waiting is answered that the process stops."""
        for task in self._tasks:
            task.cancel()
