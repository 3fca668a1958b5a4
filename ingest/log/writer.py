"""The one writer of a shard: reads what was accepted, and appends what it becomes.

    take over:  a new epoch, after which nobody earlier can append ─▶ the head ─▶ what is settled beyond it
    step:       the next deliveries ─▶ normalize ─▶ read the bookings they name ─▶ join ─▶ append, moving the head

Safety is the head's row: an append goes in only if epoch and version are the ones it was computed from. So nothing is
locked between two statements, and nothing is cached across steps but the places of what waits. Any failure whose
outcome is not known ends the writer's connection, and `take_over` begins from what is committed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from slotwire.ingest.errors import DatabaseUnavailable, LeadershipLost, RowRefused, SchemaMismatch, SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import (
    Connection,
    call_outright,
    connect_to_commit,
    read_queries,
    translated,
)
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import APPEND_SECONDS, WAITING, get_logger
from slotwire.ingest.foundation.tracing import moment, tracing
from slotwire.ingest.log.backlog import MAX_BYTES, Backlog, Place, delivery_of
from slotwire.ingest.log.batch import AppendTooLarge, Batch, BookingKey, EventRow, OverdueClear
from slotwire.ingest.log.booking import Booking
from slotwire.ingest.log.counts import count_results
from slotwire.ingest.log.delivery import Delivery
from slotwire.ingest.log.known import read_bookings, read_erased, read_moves
from slotwire.ingest.log.normalize import Fact, InviteeEvent, InviteeFact, QuarantineFact, defect, normalize

SUSPICIOUS_ATTEMPTS = 3
"""From this take-over on at one head deliveries are tried one by one: two ended the process among others already."""
MAX_TRIES = 1
"""A delivery that ended the process alone this often is quarantined by the next start, without being looked at."""
CLEARS_PAGE = 100
"""Overdue clears read at a time, while those before one have less than `MAX_BYTES` of bodies."""
WAITING_KINDS = ("clear", "reschedule")
"""What waits: a clear for its mark, half a reschedule for the other half. Also the metric's labels."""

_SQL = read_queries("slotwire.ingest.sql", "log.sql")
_UNWRITTEN = read_queries("slotwire.ingest.sql", "unwritten.sql")
Told: TypeAlias = tuple[Delivery, "Sequence[Fact | OverdueClear]"]
_FIRST = ("", UUID(int=0))
_log = get_logger("writer")


@dataclass(frozen=True, slots=True)
class Appended:
    """Events that were appended, ready to be published.

    Attributes:
        after: the position of the event before the first of them: who published up to there misses nothing.
        rows: the events, in their order.
        positions: of each its position.
    """

    after: int
    rows: Sequence[EventRow] = ()
    positions: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Head:
    """The writer's place.

    Attributes:
        place: everything up to here is settled.
        attempts: leaders that what comes next may have ended, and this one.
        trying: a delivery that was being tried alone, and how often; None where there was none.
        same_server: whether the log was last written on this server. If not (a restore, a failover), nothing is
            appended before it is known what was published.
    """

    epoch: int
    version: int
    place: Place
    last_event: int
    attempts: int = 0
    trying: int | None = None
    same_server: bool = True

    @property
    def suspicious(self) -> bool:
        """Whether a delivery may be what ended the process."""
        return self.attempts >= SUSPICIOUS_ATTEMPTS or (self.trying is not None and self.trying > self.place.position)


class Writer:
    """Writes one shard of the log, on one connection, between `take_over` and the first failure."""

    def __init__(self, settings: Settings, shard: int, clock: Clock) -> None:
        self._settings = settings
        self._shard = shard
        self._clock = clock
        self._connection: Connection | None = None
        self._head: Head | None = None
        self._backlog: Backlog | None = None
        self._alone: list[Delivery] = []
        self._tried: int | None = None
        """The delivery that was tried alone last. While this is remembered, the process has outlived it."""

    @property
    def head(self) -> Head:
        """The place it has come to."""
        if self._head is None:
            raise AssertionError("take_over comes first")
        return self._head

    @property
    def behind(self) -> bool:
        """Whether more is known to wait."""
        return bool(self._alone) or (self._backlog is not None and self._backlog.behind)

    async def close(self) -> None:
        """Close the connection without waiting for the server."""
        connection, self._connection, self._head, self._backlog = self._connection, None, None, None
        self._alone = []
        if connection is not None:
            connection.terminate()

    async def take_over(self) -> Head:
        """Become the writer; what an earlier one has in flight is waited for, and nothing of it can follow.

        Raises:
            DatabaseUnavailable: Postgres does not answer.
            ConfigurationError: the server would lose what it commits.
        """
        await self.close()
        settings = self._settings.database
        dsn = self._settings.database_url.get_secret_value()
        self._connection = connection = await connect_to_commit(dsn, settings, application="writer")
        try:
            row = await self._call("take_epoch", self._shard, self._clock.now(), self._tried)
            head = Head(
                epoch=row["epoch"],
                version=row["version"],
                place=Place(row["position"], row["total"]),
                last_event=row["last_event"],
                attempts=row["attempts"],
                trying=row["trying"],
                same_server=row["same_server"],
            )
            with translated():
                settled = await connection.fetch(_SQL["settled_above"], self._shard, head.place.position)
            self._head = head
            self._backlog = Backlog(self._shard, _SQL, head.place, [each["position"] for each in settled])
            if head.suspicious:
                self._alone = await self._backlog.next(connection, in_turn=True)
        except BaseException:
            await self.close()
            raise
        return head

    async def leave(self) -> None:
        """Say that this process leaves, and does not end for what comes next.

        Raises:
            DatabaseUnavailable: it could not be said; the next leader will look at what comes next one by one.
        """
        head = self._head or await self.take_over()  # after a failure there is none, and something to say
        await self._call("leave_epoch", self._shard, head.epoch, head.version, self._clock.now())
        await self.close()

    async def adopt_server(self, published: int) -> None:
        """Go on after a restore or a failover; positions go on beyond what was published.

        Raises:
            LeadershipLost: somebody else leads.
        """
        head = self.head
        row = await self._call("adopt_server", self._shard, head.epoch, head.version, published, self._clock.now())
        if row["version"] is None:
            raise LeadershipLost("another process writes this shard now")
        self._head = replace(head, version=row["version"], same_server=True)

    async def step(self) -> list[Appended]:
        """Write what comes next; return what was appended, nothing when nothing waits.

        Raises:
            LeadershipLost: somebody else leads.
            SchemaMismatch: an event of ours is of a type only a newer version knows.
            DatabaseUnavailable: what became of it is not known; the writer must take over again.
        """
        connection, backlog = self._opened()
        try:
            if self._alone:
                return await self._try_alone(self._alone.pop(0))
            deliveries = await backlog.next(connection)
            if not deliveries:
                return []
            with APPEND_SECONDS.time():
                return await self._write_known(deliveries)
        except BaseException:
            await self.close()
            raise

    async def publish_overdue(self, before: datetime) -> AsyncGenerator[list[Appended]]:
        """Publish the clears that have waited since before a moment, a page at a time, and count what waits on.

        Between two pages `step` may be called, so that many clears do not hold up what comes in.

        Raises:
            LeadershipLost, DatabaseUnavailable: as `step`.
        """
        connection, _ = self._opened()
        after = _FIRST
        try:
            while True:
                limits = (CLEARS_PAGE, MAX_BYTES)
                with translated():
                    rows = await connection.fetch(_SQL["overdue_clears"], self._shard, before, *after, *limits)
                if not rows:
                    break
                after = (rows[-1]["invitee"], rows[-1]["id"])
                yield await self._write(_clears_in(map(delivery_of, rows)), settle=False)
            with translated():
                found = await connection.fetchrow(_SQL["count_waiting"], before, self._shard)
        except BaseException:
            await self.close()
            raise
        fresh = 3 * self._settings.waiting.interval_seconds
        for kind in WAITING_KINDS:
            WAITING.set(found[kind] if found else 0, str(self._shard), kind, fresh_seconds=fresh)

    async def unwritten(self) -> tuple[int, timedelta]:
        """Return how many bytes wait to be written, and for how long the oldest of them has."""
        connection, _ = self._opened()
        with translated():
            row = await connection.fetchrow(_UNWRITTEN["unwritten"], self._shard)
        if row is None or row["since"] is None:
            return 0, timedelta()
        return row["bytes"], self._clock.now() - row["since"]

    async def _try_alone(self, delivery: Delivery) -> list[Appended]:
        """Write one delivery that may have ended the process; note before that it is tried."""
        head = self.head
        row = await self._call("try_alone", self._shard, head.epoch, head.version, delivery.position, self._clock.now())
        if row is None:
            raise LeadershipLost("another process writes this shard now")
        self._head = replace(head, version=row["version"])
        self._tried = delivery.position
        if row["tries"] > MAX_TRIES:
            _log.error("delivery_ended_the_process", delivery=str(delivery.id))
            return await self._write([(delivery, (QuarantineFact(delivery, "defect", "it ended the process"),))])
        return await self._write([(delivery, normalize(delivery))])

    async def _write(self, told: Sequence[Told], *, settle: bool = True) -> list[Appended]:
        """Append deliveries with their facts; halve where the data is refused, down to the one that is to blame.

        Args:
            told: the deliveries, at least one.
            settle: whether they are settled by it. One that is to blame is quarantined then; else it goes on waiting.
        """
        try:
            settled = [each for each, _ in told if settle]
            return await self._append([fact for _, facts in told for fact in facts], settled)
        except AppendTooLarge:
            blamed, detail = "too_large", ""
        except Exception as problem:  # noqa: BLE001 - a defect of ours costs a delivery, and no other
            blamed, detail = _blamed(problem, told[0][0])
        if len(told) > 1:
            middle = len(told) // 2
            halves = (told[:middle], told[middle:])
            return [appended for half in halves for appended in await self._write(half, settle=settle)]
        [(delivery, facts)] = told
        if not settle:
            _log.error("clear_unpublished", delivery=str(delivery.id), reason=blamed, detail=detail)
            return []
        if isinstance(facts[0], QuarantineFact):
            raise DatabaseUnavailable("a delivery cannot even be quarantined", reason=detail)
        return await self._write([(delivery, (QuarantineFact(delivery, blamed, detail),))])

    async def _write_known(self, deliveries: Sequence[Delivery]) -> list[Appended]:
        """Write deliveries up to the first that only a newer version knows; where there is one, say so after it."""
        told: list[Told] = []
        try:
            for each in deliveries:
                told.append((each, normalize(each)))  # noqa: PERF401 - what was read before a failure counts
        except SchemaMismatch:
            if told:
                await self._write(told)
            raise
        return await self._write(told)

    async def _append(self, facts: Sequence[Fact | OverdueClear], deliveries: Sequence[Delivery]) -> list[Appended]:
        began, head, (connection, backlog) = moment(), self.head, self._opened()
        if not head.same_server:
            raise DatabaseUnavailable("the log is on another server than before: nothing is appended", reason="moved")
        moves, erased = await read_moves(connection, facts), await read_erased(connection, facts)
        facts = erased.without(moves.follow(facts))
        batch = Batch(facts, await self._read_bookings(facts))
        positions = [each.position for each in deliveries]
        place, now = backlog.head_after(positions), self._clock.now()
        rows = batch.event_rows(now)
        if not positions and not rows:
            return []
        told = (self._shard, head.epoch, head.version, now, place.position, place.total)
        written_as = (*told, batch.result_rows(), rows, batch.booking_rows(), batch.root_rows())
        if erased.any:
            lost = (erased.positions, erased.subjects(), erased.guests())
            row = await self._call("append_erased", *written_as, moves.rows(), *lost)
        elif moves.changed:
            row = await self._call("append_moves", *written_as, moves.rows())
        else:
            row = await self._call("append", *written_as)
        if not row["applied"]:
            raise LeadershipLost("another process writes this shard now")
        backlog.settle(positions)
        written = list(row["positions"])
        last = written[-1] if written else head.last_event
        self._head = replace(head, version=row["version"], place=place, last_event=last)
        new = set(row["ids"])
        count_results(batch, new)
        if (trace := tracing()).on:
            spans = ((each.traceparent, {"delivery": str(each.id), "origin": each.origin}) for each in deliveries)
            trace.told("write", "INTERNAL", spans, began=began)
        return [Appended(row["previous_event"], [each for each in rows if each.id in new], written)]

    async def _read_bookings(self, facts: Sequence[Fact | OverdueClear]) -> dict[BookingKey, Booking]:
        connection, _ = self._opened()
        return await read_bookings(connection, facts)

    async def _call(self, name: str, *arguments: object) -> Any:
        connection = self._connection
        if connection is None:
            raise DatabaseUnavailable("the writer is closed", reason="closed")
        seconds = self._settings.database.statement_timeout_seconds
        return await call_outright(connection, _SQL[name], *arguments, seconds=seconds)

    def _opened(self) -> tuple[Connection, Backlog]:
        if self._connection is None or self._backlog is None:
            raise DatabaseUnavailable("the writer must take over again", reason="closed")
        return self._connection, self._backlog


def _clears_in(deliveries: Iterable[Delivery]) -> list[Told]:
    """Return deliveries with the clears that they tell."""
    return [
        (each, [OverdueClear(fact)])
        for each in deliveries
        for fact in normalize(each)
        if isinstance(fact, InviteeFact) and fact.event is InviteeEvent.NO_SHOW_DELETED and not fact.cleared
    ]


def _blamed(problem: Exception, delivery: Delivery) -> tuple[str, str]:
    """Say why a failure is the data's fault, or ours for this data only; raise it again where it is neither."""
    if isinstance(problem, RowRefused):
        return "refused_by_database", problem.sqlstate
    if isinstance(problem, SlotwireError | AssertionError | OSError):
        raise problem
    return "defect", defect(delivery, problem).detail
