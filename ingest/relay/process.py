"""Composition root of `slotwire relay`: leads every shard it can get, writes what was accepted, publishes it in order.

    for each shard:  lease ─▶ a new epoch ─▶ write, write, …  (woken by NOTIFY, by a poll at the latest)
                                             publish, publish, …  (what was just written, else from the log)
                     ─▶ stop or lease lost

Writing goes on while the broker is away, and publishing while Postgres takes no writes.

What is wrong never stops the process: it holds, is not ready, says why and what to do, and flows on in order
when that is mended. Only a stop ends it: the running transaction is finished first.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from slotwire.ingest.errors import (
    BrokerUnavailable,
    CursorMismatch,
    DatabaseUnavailable,
    LeadershipLost,
    SchemaMismatch,
    SlotwireError,
    TopicUnavailable,
)
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.health import Health
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.migrations import require_fitting
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.log.writer import Writer
from slotwire.ingest.relay.handoff import Handoff
from slotwire.ingest.relay.lease import Lease
from slotwire.ingest.relay.log_reader import CursorFrom, LogIdentity, read_identity, read_lag
from slotwire.ingest.relay.shard import ShardRelay
from slotwire.ingest.relay.status import RelayStatus
from slotwire.ingest.relay.write_loop import WriteLoop

GATHER_FROM = 8
"""Events in one transaction that say that there is load."""
GATHER_SECONDS = 0.02
"""How long small transactions are gathered under load: the broker takes few large ones more readily than many small."""
HOLD_SECONDS = 1.0
"""How often a relay that holds looks whether it may flow on."""
CURSOR_SECONDS = 5.0
"""How often a relay whose cursor does not fit looks again; in between another one can take the lease to set it."""
BACK_OFF_SECONDS = (0.1, 5.0)
"""First and longest pause while Postgres or the broker is away; each is drawn from the upper half."""
STOP_SECONDS = 3.0
"""How long a stop waits for the running transaction."""
LAG_SECONDS = 1.0

_log = get_logger("relay")


class BackOff:
    """Pauses that grow with each failure in a row, with jitter, so that many relays do not come at once."""

    def __init__(self) -> None:
        self._next, self._longest = BACK_OFF_SECONDS

    def reset(self) -> None:
        """Something worked."""
        self._next = BACK_OFF_SECONDS[0]

    def pause(self) -> float:
        """Return the next pause in seconds."""
        pause = self._next * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        self._next = min(self._next * 2, self._longest)
        return pause


async def run_relay(
    settings: Settings, stop: asyncio.Event, *, health: Health, clock: Clock, cursor_from: CursorFrom | None = None
) -> None:
    """Write and publish every shard that this process can lead, until a stop is asked for.

    Args:
        settings: Postgres, Kafka and the relay's limits.
        stop: when set, the running transactions are finished and the relay leaves.
        health: told what is not well.
        clock: for the mirror and the age of what waits.
        cursor_from: where to go on if the cursor does not fit the log.

    Raises:
        ConfigurationError: an address is missing or cannot be read, or `cursor_from` names no place of this log, or
            one that leaves out more than was confirmed.
    """
    # What was read of backlog and lag is shown for so long, unless it is read again.
    status = RelayStatus(max(settings.metrics.interval_seconds, 3 * settings.relay.poll_interval_seconds))
    health.add("relay", status.problem)
    log = await _identity(settings, stop, status)
    if log is None:
        return
    async with asyncio.TaskGroup() as group:
        for shard in range(log.shards):
            lead = _ShardLoop(settings, log, shard, stop, status, clock, cursor_from)
            group.create_task(lead.run(), name=f"relay-{shard}")


async def _identity(settings: Settings, stop: asyncio.Event, status: RelayStatus) -> LogIdentity | None:
    """Wait until the log can be read; None when a stop comes first."""
    back_off = BackOff()
    while not stop.is_set():
        try:
            log = await read_identity(settings)
        except (DatabaseUnavailable, SchemaMismatch) as error:
            status.hold(None, "database", error)
            await wait_for(stop, back_off.pause())
        else:
            status.flow(None)
            return log
    return None


class _ShardLoop:
    """Leads one shard whenever it can."""

    def __init__(
        self,
        settings: Settings,
        log: LogIdentity,
        shard: int,
        stop: asyncio.Event,
        status: RelayStatus,
        clock: Clock,
        cursor_from: CursorFrom | None,
    ) -> None:
        self._settings, self._log, self._shard = settings, log, shard
        self._stop, self._status, self._clock, self._cursor_from = stop, status, clock, cursor_from
        self._writer = Writer(settings, shard, clock)  # it remembers over several leads what it has outlived
        self._back_off = BackOff()
        self._lag_told = 0.0

    async def run(self) -> None:
        """Lead, or stand by, until stopped.

        Raises:
            BaseExceptionGroup: of what cannot be waited out: a `ConfigurationError`.
        """
        while not self._stop.is_set():
            pause = 0.0
            try:
                async with Lease.waiting(
                    self._settings, self._shard, self._stop, standing_by=lambda: self._status.stand_by(self._shard)
                ) as lease:
                    if lease is not None:
                        await self._lead(lease)
            except* LeadershipLost:
                _log.warning("relay_lost_its_lead", shard=self._shard)
            except* (DatabaseUnavailable, SchemaMismatch) as group:
                self._status.hold(self._shard, "database", _first(group))
                pause = self._back_off.pause()
            except* CursorMismatch as group:
                self._status.hold(self._shard, "cursor", _first(group))
                pause = CURSOR_SECONDS
            if pause:
                await wait_for(self._stop, pause)

    async def _lead(self, lease: Lease) -> None:
        """Write and publish while the lease holds; its loss cancels whatever is under way."""
        handoff = Handoff()
        relay = ShardRelay(
            self._settings, self._log, lease, self._clock, handoff=handoff, cursor_from=self._cursor_from
        )
        write = WriteLoop(self._settings, lease, handoff, self._stop, self._status, self._clock, self._writer)
        self._status.lead(self._shard, leads=True)
        try:
            async with lease.session() as connection:
                await require_fitting(connection)  # it may have stood by while others migrated
            await write.take_over()
            async with asyncio.TaskGroup() as group, asyncio.timeout(None) as limit:
                guard = group.create_task(lease.guard(), name=f"relay-{self._shard}-lease")
                stopper = group.create_task(self._stopper(lease, handoff, limit), name=f"relay-{self._shard}-stop")
                writing = group.create_task(write.run(relay), name=f"relay-{self._shard}-write")
                watching = group.create_task(self._watch_lag(relay, lease), name=f"relay-{self._shard}-lag")
                await self._publish(relay, lease, handoff)
                await writing
                for task in (guard, stopper, watching):
                    task.cancel()
        except* TimeoutError:
            _log.warning("relay_stop_cut_short", shard=self._shard)
        finally:
            self._cursor_from = relay.cursor_from
            self._status.lead(self._shard, leads=False)
            await write.close()
            await relay.let_go()

    async def _stopper(self, lease: Lease, handoff: Handoff, limit: asyncio.Timeout) -> None:
        """Let a stop end the pauses between steps at once, and the running steps after a while."""
        await self._stop.wait()
        lease.woken.set()
        handoff.placed.set()
        handoff.arrived.set()
        limit.reschedule(asyncio.get_running_loop().time() + STOP_SECONDS)

    async def _publish(self, relay: ShardRelay, lease: Lease, handoff: Handoff) -> None:
        """Publish until a stop, and then what was appended before it."""
        while not (self._stop.is_set() and handoff.closed.is_set() and self._is_through(relay, handoff)):
            handoff.arrived.clear()
            pause, bell = 0.0, handoff.arrived
            try:
                passed = await relay.step()
                handoff.placed.set()
                self._status.flow(self._shard)
                self._back_off.reset()
                if passed == 0 and relay.settled:
                    self._tell_no_lag()
                    pause = self._settings.relay.poll_interval_seconds
                elif passed >= GATHER_FROM and len(handoff) < self._settings.relay.batch_events:
                    await asyncio.sleep(GATHER_SECONDS)
            except TopicUnavailable as error:
                handoff.placed.set()
                self._status.hold(self._shard, "topic", error)
                pause, bell = HOLD_SECONDS, self._stop
            except BrokerUnavailable as error:
                handoff.placed.set()
                self._status.hold(self._shard, "refused" if error.reason == "refused" else "broker", error)
                pause, bell = self._back_off.pause(), self._stop
            except CursorMismatch:
                await self._tell_lag(relay, lease)
                raise
            if bell is self._stop and self._stop.is_set():
                return  # what waits is in the log, and the next leader publishes it
            if pause and not self._stop.is_set():
                await wait_for(bell, pause)
            elif pause and not handoff.closed.is_set():
                await wait_for(handoff.closed, STOP_SECONDS)

    def _is_through(self, relay: ShardRelay, handoff: Handoff) -> bool:
        return relay.cursor is not None and relay.cursor.position >= handoff.end

    async def _watch_lag(self, relay: ShardRelay, lease: Lease) -> None:
        """Tell the lag now and then, whatever the broker does: a transaction that hangs is no reason to see nothing."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LAG_SECONDS)
            if loop.time() - self._lag_told >= LAG_SECONDS:
                with suppress(DatabaseUnavailable):  # then the last reading vanishes, and the lease says why
                    await self._tell_lag(relay, lease)

    def _tell_no_lag(self) -> None:
        """Nothing waits, as the last read has shown: no need to count."""
        self._lag_told = asyncio.get_running_loop().time()
        self._status.lag(self._shard, 0, None, self._clock.now())

    async def _tell_lag(self, relay: ShardRelay, lease: Lease) -> None:
        """Count what waits, and set the gauges."""
        events, since = await read_lag(lease, relay.cursor.position if relay.cursor else None)
        self._lag_told = asyncio.get_running_loop().time()
        self._status.lag(self._shard, events, since, self._clock.now())


def _first(group: BaseExceptionGroup[SlotwireError]) -> SlotwireError:
    """Return one of the errors that came together."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, SlotwireError) else SlotwireError(str(found))
