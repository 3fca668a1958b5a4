"""One shard's relay, a step at a time: take over, read, publish, pass.

    take_over: lease → producer (fences older ones) → cursor, read as committed → its row is in the log
    step:      the next events, from the writer's hand or from the log → one transaction with the cursor → its mirror

Any failure drops the producer, and the next step takes over anew: only the cursor in Kafka knows whether a
transaction whose answer was lost has happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from slotwire.ingest.errors import BrokerUnavailable, CursorMismatch, RecordRefused
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import RELAY_PUBLISHED, get_logger
from slotwire.ingest.foundation.tracing import moment, tracing
from slotwire.ingest.relay.cursor import Cursor, read_cursor
from slotwire.ingest.relay.handoff import Handoff
from slotwire.ingest.relay.lease import Lease
from slotwire.ingest.relay.log_reader import (
    CursorFrom,
    LogEntry,
    LogIdentity,
    chosen_place,
    entry_of,
    park,
    pass_over_positions,
    read_entries,
    require_place,
    resumed_place,
    write_mirror,
)
from slotwire.ingest.relay.publisher import Publisher

PARKED_RUN_LIMIT = 20
"""Events parked in a row. One more is no longer a bad event but a broker or topic that refuses everything."""
UNKNOWN_REFUSALS = 3
"""How often an event must be refused alone when the broker's reason is none that speaks of the data."""
_UNKNOWN = "unknown"

_log = get_logger("relay")


@dataclass(frozen=True)
class Suspicion:
    """How many of the next events hold one the broker refuses; 0 when nothing is suspected.

    Halving finds it: the first half goes out (then the second is suspected), or is refused (then it is).
    """

    events: int = 0

    def next_batch(self, usual: int) -> int:
        """Return how many events to send next."""
        return usual if self.events == 0 else max(1, self.events // 2)

    def passed(self, count: int) -> Suspicion:
        """Events went out, or were parked."""
        return Suspicion(max(0, self.events - count))

    def refused(self, count: int) -> Suspicion:
        """The next events were refused as a whole."""
        return Suspicion(count)


@dataclass(frozen=True)
class Refusals:
    """What was refused alone.

    Attributes:
        position: the event that was last.
        times: how often.
        run: events parked since the last one that went out.
    """

    position: int = 0
    times: int = 0
    run: int = 0

    def again(self, position: int) -> Refusals:
        """An event was refused alone."""
        return Refusals(position, self.times + 1 if position == self.position else 1, self.run)

    def parked(self) -> Refusals:
        """It was parked."""
        return Refusals(run=self.run + 1)


class ShardRelay:
    """Publishes one shard while it holds the shard's lease.

    Attributes:
        cursor: where it is; None while it has not taken over.
        cursor_from: where an operator wants it to go on if the cursor does not fit; used up by the first take-over.
    """

    def __init__(
        self,
        settings: Settings,
        log: LogIdentity,
        lease: Lease,
        clock: Clock,
        *,
        handoff: Handoff | None = None,
        cursor_from: CursorFrom | None = None,
    ) -> None:
        self._settings = settings
        self._identity = log
        self._lease = lease
        self._clock = clock
        self._handoff = handoff
        self.cursor_from = cursor_from
        self._publisher: Publisher | None = None
        self._suspicion = Suspicion()
        self._refusals = Refusals()
        self.cursor: Cursor | None = None

    @property
    def transactional_id(self) -> str:
        """What the broker fences by: one for each prefix, log and shard."""
        prefix = self._settings.kafka.topic_prefix
        return f"{prefix}slotwire-relay-{self._identity.log_id}-{self._lease.shard}"

    async def step(self) -> int:
        """Pass the next events: by one transaction, or by parking one the broker refuses.

        Returns:
            How many were passed; 0 when nothing waits, or when a batch was refused and is to be halved. Then
            `settled` tells.

        Raises:
            CursorMismatch: the cursor is not of this log; nothing was published.
            TopicUnavailable: a topic is missing or forbidden; nothing was parked.
            BrokerUnavailable: try again later.
            DatabaseUnavailable: the lease is lost.
            SchemaMismatch: the next event is of an unknown type.
        """
        publisher, cursor = await self._take_over()
        limit = self._suspicion.next_batch(self._settings.relay.batch_events)
        entries = await self._next(cursor.position, limit)
        if not entries:
            self._suspicion = Suspicion()
            return 0
        passed, began = cursor.after(entries[-1].position, entries[-1].event_id), moment()
        try:
            await publisher.publish([entry.record for entry in entries], passed)
        except RecordRefused as refusal:
            await self.let_go()
            return await self._refused(entries, refusal.reason)
        except BaseException:
            await self.let_go()
            raise
        if (trace := tracing()).on:
            spans = ((entry.traceparent, {"event": str(entry.event_id), "type": entry.type}) for entry in entries)
            trace.told("publish", "PRODUCER", spans, began=began)
        await self._passed(entries, passed)
        return len(entries)

    async def _next(self, after: int, limit: int) -> Sequence[LogEntry]:
        """Take the next events from the writer's hand where nothing is missing, else read the log."""
        if self._handoff is not None and not self._suspicion.events:
            held = self._handoff.after(after, limit)
            if held is not None:
                return [entry_of(self._settings, {**row._asdict(), "position": position}) for position, row in held]
        return await read_entries(self._lease, self._settings, after, limit)

    @property
    def settled(self) -> bool:
        """Whether a step that passed nothing means that nothing waits."""
        return self._suspicion.events == 0

    async def let_go(self) -> None:
        """Drop the producer; the next step takes over anew."""
        publisher, self._publisher, self.cursor = self._publisher, None, None
        if publisher is not None:
            await publisher.discard()

    async def _take_over(self) -> tuple[Publisher, Cursor]:
        """Fence earlier producers, then read the cursor: in this order, or one of them could still move it."""
        if self._publisher is not None and self.cursor is not None:
            return self._publisher, self.cursor
        # A leader that wakes up from a long sleep must not fence its successor.
        await self._lease.confirm()
        self._publisher = await Publisher.open(self._settings, self.transactional_id)
        try:
            self.cursor = await self._place(self._publisher)
        except BaseException:
            await self.let_go()
            raise
        _log.info("relay_took_over", shard=self._lease.shard, position=self.cursor.position)
        return self._publisher, self.cursor

    async def _place(self, publisher: Publisher) -> Cursor:
        found: Cursor | None = None
        try:
            found = await read_cursor(self._settings, self._lease.shard)
            cursor = await require_place(self._lease, found, self._identity)
        except CursorMismatch:
            if self.cursor_from is not None:
                cursor = await chosen_place(self._lease, self._identity, self.cursor_from, found)
            elif (resumed := await resumed_place(self._lease, self._identity)) is not None:
                cursor = resumed
            else:
                raise
            if found is not None and found.log_id == self._identity.log_id:
                await pass_over_positions(self._lease, found.position)
            await publisher.publish([], cursor)
            await write_mirror(self._lease, cursor, self._clock.now())
            _log.warning("relay_cursor_set", shard=self._lease.shard, position=cursor.position)
        self.cursor_from = None
        return cursor

    async def _passed(self, entries: Sequence[LogEntry], cursor: Cursor) -> None:
        """The broker has committed: go on from there, whatever becomes of the mirror."""
        self.cursor = cursor
        self._suspicion = self._suspicion.passed(len(entries))
        self._refusals = Refusals()
        for topic, count in Counter(entry.record.topic for entry in entries).items():
            RELAY_PUBLISHED.labels(topic=topic).inc(count)
        for entry in entries:
            if entry.elsewhere:
                _log.warning("event_too_large", event_id=str(entry.event_id), position=entry.position)
        await write_mirror(self._lease, cursor, self._clock.now())

    async def _refused(self, entries: Sequence[LogEntry], reason: str) -> int:
        if len(entries) > 1:
            self._suspicion = self._suspicion.refused(len(entries))
            _log.warning("batch_refused", shard=self._lease.shard, events=len(entries), reason=reason)
            return 0
        (entry,) = entries
        self._suspicion = self._suspicion.refused(1)
        self._refusals = self._refusals.again(entry.position)
        if reason == _UNKNOWN and self._refusals.times < UNKNOWN_REFUSALS:
            raise BrokerUnavailable("Kafka refuses an event and does not say why", reason="refused")
        if self._refusals.run >= PARKED_RUN_LIMIT:
            raise BrokerUnavailable(
                f"Kafka refused {self._refusals.run + 1} events in a row, the last for {reason}: none more is parked",
                reason="refused",
                remedy=f"Look at the limits of topic {entry.record.topic}; `slotwire doctor` names what differs.",
            )
        return await self._park(entry, reason)

    async def _park(self, entry: LogEntry, reason: str) -> int:
        """Keep note of the event, then let the cursor pass it."""
        publisher, cursor = await self._take_over()
        if cursor.position >= entry.position:
            return 0  # somebody else led meanwhile, and passed it
        await park(self._lease, entry, reason, self._clock.now())
        passed = cursor.after(entry.position, entry.event_id)
        try:
            await publisher.publish([], passed)
        except BaseException:
            await self.let_go()
            raise
        self.cursor = passed
        self._suspicion = self._suspicion.passed(1)
        self._refusals = self._refusals.parked()
        _log.error(
            "event_parked",
            shard=self._lease.shard,
            event_id=str(entry.event_id),
            position=entry.position,
            topic=entry.record.topic,
            reason=reason,
        )
        await write_mirror(self._lease, passed, self._clock.now())
        return 1
