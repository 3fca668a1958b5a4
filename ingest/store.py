"""Store: a group commit a shard. The answer to a delivery follows the commit of its batch.

There is no timer: a flush starts as soon as the last one returns and takes what has gathered meanwhile, so
the batch follows the load. One flush is two round trips: read the rows the facts touch, append. Nothing is
held in Postgres between them; rows that changed meanwhile send their facts round again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from uuid import UUID

from ingest.batch import Batch, read_row
from ingest.errors import ConfigurationError, DatabaseUnavailable, RowRefused, SlotwireError
from ingest.foundation.clock import Clock
from ingest.foundation.postgres import Connection, connect, read_durability, read_queries, translated
from ingest.foundation.settings import DatabaseSettings
from ingest.foundation.telemetry import BATCH_DELIVERIES, COMMIT_SECONDS, PENDING_DELIVERIES, get_logger
from ingest.join import named
from ingest.normalize import Fact, InviteeEvent, InviteeFact, Quarantined

MAX_BATCH_DELIVERIES = 200
"""Deliveries one commit carries at the most: more make it slower, not cheaper."""
MAX_BATCH_BYTES = 262_144
"""Bytes of bodies one commit carries at the most; a single larger body goes alone."""
MAX_TRIES = 10
"""How often a fact is joined anew because another writer changed its booking; then 503."""
EXPIRY_INTERVAL_SECONDS = 0.25
"""How often those whose time is over are looked for."""
NOTIFY_INTERVAL_SECONDS = 0.002
"""The least time between two notifications: each takes a lock that all notifying commits share."""

_SQL = read_queries("ingest.sql", "store.sql")
_BY_KEY = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""All this connection does is look up and insert by key. Left to itself the server plans once for the empty
table of the first minute, and scans it as it grows: a plan made then cost 12.7 ms a delivery at 11,000 rows."""
_log = get_logger("store")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a delivery, once it is committed.

    Attributes:
        outcome: `stored`, `duplicate` or `quarantined`.
        reason: why it was quarantined; empty otherwise.
    """

    outcome: str
    reason: str = ""


@dataclass(slots=True)
class _Waiting:
    fact: Fact
    done: asyncio.Future[Outcome]
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

    async def append(self, facts: Sequence[Fact], *, trusting: bool = False) -> list[Outcome | None]:
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
            if isinstance(facts[0], Quarantined):
                raise DatabaseUnavailable("a quarantined body was refused", reason=refused.sqlstate) from refused
            return await self.append([Quarantined(facts[0].delivery, "refused_by_database", refused.sqlstate)])

    async def close(self) -> None:
        """Close the connection without waiting for the server."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _append(self, facts: Sequence[Fact], *, trusting: bool) -> list[Outcome | None]:
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
                await _require_durable(connection, self._settings)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection


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


def _outcomes(batch: Batch, conflicts: set[int], duplicates: set[UUID]) -> list[Outcome | None]:
    found: list[Outcome | None] = []
    for position, fact in enumerate(batch.facts):
        quarantined = batch.quarantined[position]
        if batch.group(position) in conflicts:
            found.append(None)
        elif quarantined is not None:
            found.append(Outcome("quarantined", quarantined.reason))
        else:
            found.append(Outcome("duplicate" if fact.delivery.id in duplicates else batch.outcomes[position]))
    return found


class GroupCommit:
    """Gathers deliveries while a commit is under way, and commits them together."""

    def __init__(self, log: Log, *, max_pending: int) -> None:
        self._log = log
        self._max_pending = max_pending
        self._waiting: deque[_Waiting] = deque()
        self._committing: list[_Waiting] = []
        self._some = asyncio.Event()

    async def put(self, fact: Fact, *, until: float) -> Outcome:
        """Commit a fact with whatever else is there, by the event loop's time `until`.

        Raises:
            DatabaseUnavailable: it could not be committed in time, or too many wait already.
        """
        if len(self._waiting) >= self._max_pending:
            raise DatabaseUnavailable("too many deliveries wait for their commit", reason="overload")
        waiting = _Waiting(fact, asyncio.get_running_loop().create_future(), until)
        self._waiting.append(waiting)
        PENDING_DELIVERIES.set(len(self._waiting))
        self._some.set()
        return await waiting.done

    async def run(self, flushed: asyncio.Event) -> None:
        """Flush for ever; sets `flushed` after each commit. The process ends if this does."""
        try:
            while True:
                await self._some.wait()
                batch = self._take()
                if batch:
                    await self._flush(batch)
                    flushed.set()
                if not self._waiting:
                    self._some.clear()
        finally:
            _fail(self._waiting, DatabaseUnavailable("the process is stopping", reason="stopping"))
            await self._log.close()

    async def expire(self) -> None:
        """Give up those whose time is over, whatever Postgres does: one timer for all of them."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL_SECONDS)
            now = loop.time()
            late = [each for each in (*self._committing, *self._waiting) if each.until <= now]
            _fail(late, DatabaseUnavailable("the commit did not come in time", reason="deadline"))

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_DELIVERIES:
            head = self._waiting[0]
            size += len(head.fact.delivery.body)
            if batch and size > MAX_BATCH_BYTES:
                break
            self._waiting.popleft()
            if not head.done.done():  # its client gave up: nothing was promised
                batch.append(head)
        PENDING_DELIVERIES.set(len(self._waiting))
        return batch

    async def _flush(self, batch: list[_Waiting]) -> None:
        started = perf_counter()
        self._committing = batch
        try:
            trusting = all(each.tries == 0 for each in batch)
            outcomes = await self._log.append([each.fact for each in batch], trusting=trusting)
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

    async def put(self, fact: Fact, *, until: float) -> Outcome:
        """Commit a fact by the event loop's time `until`; returns once it is durable.

        Raises:
            DatabaseUnavailable: it could not be committed.
        """
        shard = fact.delivery.tenant.shard
        commit = self._commits.get(shard) or self._open(shard)
        return await commit.put(fact, until=until)

    def _open(self, shard: int) -> GroupCommit:
        log = Log(self._dsn, self._settings, shard, self._clock)
        commit = GroupCommit(log, max_pending=self._max_pending)
        self._commits[shard] = commit
        flushed = asyncio.Event()
        work = {
            "commit": commit.run(flushed),
            "expire": commit.expire(),
            "notify": notify(self._dsn, self._settings, shard, flushed),
        }
        self._tasks += [self._group.create_task(each, name=f"{name}-{shard}") for name, each in work.items()]
        return commit

    def close(self) -> None:
        """End the side tasks; what is still waiting is answered that the process stops."""
        for task in self._tasks:
            task.cancel()
